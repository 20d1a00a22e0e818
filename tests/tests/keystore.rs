//! The key store's promises: one suite, run on two independent tokens (SoftHSM and Kryoptic).
//!
//! A PKCS#11 module reads its configuration from the environment and is for one process, so every
//! test starts itself anew on a token of its own: see `keystore/world.rs`.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod keystore {
    #[macro_use]
    mod world;
    mod attacks;
    mod custody;
    mod kek;
    mod keys;
    mod load;
    mod login;
    mod own_session;
    mod recovery;
    mod verify;
    mod witnesses;
}
