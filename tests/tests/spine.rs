//! The spine's promises: nothing is signed that is not on the audit log, before and after; what is
//! on the log cannot be changed unseen; and a key signs what its purpose allows.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod spine {
    mod full_disk;
    mod log;
    mod purpose;
}
