//! CAs say when to renew (RFC 9773), are told what is replaced, and offer profiles.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod ari {
    mod crashes;
    mod nonsense;
    mod orders;
    mod profiles;
    mod scene;
    mod windows;
}
