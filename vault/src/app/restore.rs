//! `vaultctl backup restore`: from a backup and an empty token to the vault that it is of.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Parts, audit_options};
use crate::api::Restorer;
use crate::backup::restore::{self, Event, Opening, Restore, Spool, Spooled, Summary};
use crate::error::{Error, Result};
use crate::policy::Principal;

/// The restore of a vault that is not initialised.
pub(super) struct Restoring {
    restore: Restore,
    /// Whether this is a vault by now; whoever makes it one holds this.
    done: Arc<Mutex<bool>>,
    /// Cancelled where the process is to begin anew.
    anew: CancellationToken,
}

impl Restoring {
    pub(super) fn new(parts: Parts, done: Arc<Mutex<bool>>, anew: CancellationToken) -> Self {
        let Parts { config, store, audit, clock, .. } = parts;
        let restore = Restore {
            store,
            audit,
            options: audit_options(&config),
            log: config.audit.path.clone(),
            clock,
            hsm: config.hsm.clone(),
            trust_domain: config.policy.trust_domain.clone(),
            stale_after: config.backup.stale_after(),
            backup: config.backup.clone(),
        };
        Self { restore, done, anew }
    }
}

#[async_trait]
impl Restorer for Restoring {
    fn spool(&self) -> Result<Spool> {
        Spool::begin(&restore::spool(&self.restore.log))
    }

    async fn restore(
        &self,
        by: &Principal,
        backup: Spooled,
        opening: Opening,
        allow_stale: bool,
        told: mpsc::Sender<Event>,
    ) -> Result<Summary> {
        let conflict = |why: &str| Error::conflict("restore into", "this vault", why);
        let mut done = self.done.try_lock().map_err(|_| {
            conflict("a ceremony or another restore is under way").hint("wait for it to end")
        })?;
        if *done {
            return Err(conflict("it is initialised already")
                .hint("a restore needs a vault with a store and a token of its own"));
        }
        let summary = self.restore.run(by, backup, opening, allow_stale, &told).await?;
        *done = true;
        Ok(summary)
    }

    fn start_anew(&self) {
        self.anew.cancel();
    }
}
