//! A vault from its ceremony to its stop: what it serves before, what the ceremony makes, what keys
//! do, and how it ends.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod serving {
    mod ceremony;
    mod drain;
    mod keys;
    mod signatures;
    mod socket;
}
