//! Certificates as documents: requests, chains and the internal CA. Signs through
//! [`MessageSigner`](crate::keystore::MessageSigner) only; knows nothing of key stores.

pub mod ca;
pub mod chain;
pub mod csr;
mod names;
pub mod peer;
pub mod preferred;
mod public_key;
mod signer;

#[cfg(test)]
pub(crate) mod testing;

pub use public_key::proves;

use time::OffsetDateTime;

use crate::error::{Error, Result};

/// A DER time as ours.
fn offset(time: x509_cert::time::Time) -> Result<OffsetDateTime> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|e| Error::verification("read", "a certificate's time", e))
}
