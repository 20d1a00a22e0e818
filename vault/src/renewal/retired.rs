//! The end of keys that renewals have replaced.

use std::time::Duration as StdDuration;

use time::Duration;
use tokio_util::sync::CancellationToken;

use super::{Issuer, issue::RENEWAL};
use crate::error::{ErrorKind, Result};

/// How long a replaced key is kept after the end of its last certificate. What is destroyed never
/// comes back: a clock that was wrong for hours shall cost no key.
const GRACE: Duration = Duration::days(1);
/// How often they are looked for; nobody waits for their end.
const LOOK: StdDuration = StdDuration::from_secs(60 * 60);

impl Issuer {
    /// Destroys the keys that renewals have replaced and that no certificate needs any more; answers
    /// how many. Where a crash or `stop` ends it half-way, the next look finds the rest.
    ///
    /// # Errors
    /// Where store, HSM or audit log are away.
    pub async fn end_retired_keys(&self, stop: &CancellationToken) -> Result<usize> {
        let mut ended = 0;
        for key in self.store.unused_keys(self.clock.now() - GRACE).await? {
            if stop.is_cancelled() {
                break;
            }
            match self.signing.discard_retired(&RENEWAL, key.id).await {
                Ok(()) => {
                    ended += 1;
                    tracing::info!(key = %key.id, name = key.name, version = key.version,
                        "destroyed: its last certificate has ended");
                    if let Ok(certificate) = key.name.parse() {
                        self.hub.changed(&certificate).await;
                    }
                }
                // The next one would fare no better.
                Err(error) if error.kind == ErrorKind::Unavailable => return Err(error),
                Err(error) => tracing::warn!(key = %key.id, %error, "a retired key stays"),
            }
        }
        Ok(ended)
    }

    /// Looks for such keys at once, as a crash may have left some, and then again and again.
    pub(super) async fn keep_ending_retired_keys(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.end_retired_keys(&stop).await {
                tracing::warn!(%error, "retired keys stay until the next look");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
