//! Whether CAs have revoked what they have issued, and staples for web servers.
//!
//! Every version that is in force, or that an agent holds, is checked by its issuer's CRL and, where there is a
//! responder, by OCSP. A revoked one is replaced at once and alerted; what is in place stays until its successor
//! is proven. Where nobody who knows can be asked, nothing changes, and after a while an alert says so.

mod check;
mod crls;
mod fetch;
mod outcome;
mod settle;
mod staples;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crls::Crls;
use fetch::Fetch;

use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::config::Monitor;
use crate::error::Result;
use crate::push::Hub;
use crate::store::Store;

/// Versions that are checked at once.
const CONCURRENT: usize = 8;
/// How many versions one look at the store may bring.
const BATCH: u32 = 256;
/// The longest sleep: a change of the machine's clock is noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);
/// How soon after a change somewhere the store is looked at: many changes cost one look.
const SETTLED: Duration = Duration::from_secs(1);

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Revocation {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    alerts: Alerts,
    clock: Arc<dyn Clock>,
    /// Wakes whoever orders.
    wake: Arc<Notify>,
    options: Arc<Monitor>,
    fetch: Fetch,
    crls: Arc<Crls>,
}

impl Revocation {
    /// The room over these parts; `wake` wakes whoever orders what is due.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        alerts: Alerts,
        clock: Arc<dyn Clock>,
        wake: Arc<Notify>,
        options: Monitor,
    ) -> Result<Self> {
        let fetch = Fetch::new(options.request_timeout)?;
        let crls = Arc::new(Crls::new(fetch.clone(), options.revocation_every / 4));
        Ok(Self { store, hub, alerts, clock, wake, options: Arc::new(options), fetch, crls })
    }

    /// Checks what is to be checked until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.hub.watch_all();
        while !stop.is_cancelled() {
            changes.mark_unchanged();
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = self.round() => round,
            };
            if let Err(error) = round {
                tracing::warn!(%error, "revocation is checked again later");
            }
            let nap = self.nap().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(nap) => {}
                // A new version, perhaps, or one that was proven.
                _ = changes.changed() => tokio::time::sleep(SETTLED).await,
            }
        }
    }

    /// Checks every version whose time has come.
    ///
    /// # Errors
    /// Where the store or the audit log cannot be read or written.
    pub async fn round(&self) -> Result<()> {
        loop {
            let versions = self.store.versions_to_check(self.clock.now(), BATCH).await?;
            if versions.is_empty() {
                return self.settle().await;
            }
            let checks = versions.into_iter().map(|version| self.see_to(version));
            let mut checks = stream::iter(checks).buffer_unordered(CONCURRENT);
            while let Some(done) = checks.next().await {
                done?;
            }
        }
    }

    /// Until the next check, within bounds.
    async fn nap(&self) -> Duration {
        let now = self.clock.now();
        let next: Option<OffsetDateTime> = self.store.next_check(now).await.ok().flatten();
        let left = next.map_or(LONGEST_SLEEP, |at| (at - now).unsigned_abs());
        left.clamp(Duration::from_millis(100), LONGEST_SLEEP)
    }
}
