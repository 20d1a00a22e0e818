//! DNS-01 on real name servers: proven without any agent, shown by every server before the CA is
//! told, and nothing of it stays.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod dns {
    #[macro_use]
    mod world;
    mod acme_dns;
    mod hook;
    mod rfc2136;
    mod stuck;
}
