//! A certificate that its CA has revoked is noticed, alerted and replaced; what is no proof changes nothing.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod revocation {
    mod crashes;
    mod crl;
    mod ocsp;
    mod unknown;
    mod world;
}
