//! Keys that renewals have replaced: kept as long as a certificate may need them, and no longer.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod retired_keys {
    mod daemon;
    mod rooms;
}
