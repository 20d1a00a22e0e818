//! Certificates as documents: requests, chains and the internal CA. Signs through
//! [`MessageSigner`](crate::keystore::MessageSigner) only; knows nothing of key stores.
