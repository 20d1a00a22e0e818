//! A backup back into a vault, all of it or nothing.
//!
//! The whole backup is checked before anything is touched; then its keys go into the token, each
//! proven, its log into a file, its rows into the store. One transaction makes this that vault:
//! before it the vault is uninitialised, and the same restore goes on where it ended; after it the
//! next start finds what is left to do. The KEK unwraps in a session of the token's, which ends
//! before the wrap-only one comes: never are both there.

mod check;
pub mod keys;
mod log;
mod marks;
mod rows;
mod source;
mod token;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::mpsc;
use vault_backup::{Checkpoint, Facts, Manifest};
use vault_custody::shares::Kek;

use super::{LeftOut, place};
use crate::audit::{self, AuditLog, Entry, Options, Outcome};
use crate::clock::Clock;
use crate::config::{self, Hsm};
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::policy::{Action, Principal};
use crate::settings::{self, RESTORE_STARTED, RESTORED, Restored, Vault};
use crate::store::Store;

use check::{Checked, Wanted};
use marks::{SWAP, Started, Swap};
use rows::Changes;
use source::Source;
use token::{Token, Unwrapping};

pub use log::complete_swap;
pub use marks::was_started_on;
pub use source::{Opening, Spool, Spooled};

/// How far a restore is.
#[derive(Debug)]
pub enum Event {
    /// So many of so many, at this stage.
    Progress(&'static str, u64, u64),
    /// A key that the backup does not have.
    Lost(LeftOut),
}

/// What was restored.
#[derive(Debug)]
pub struct Summary {
    /// Which vault this is now, and what the backup says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the backup, lower-case hex.
    pub backup_sha256: String,
    /// Keys that are in the token.
    pub keys_restored: u64,
    /// Where the audit log of the time before is kept.
    pub set_aside: PathBuf,
}

/// Restores one backup into a vault that is not initialised.
#[derive(Clone)]
pub struct Restore {
    /// Where its rows go.
    pub store: Arc<dyn Store>,
    /// Where it is recorded.
    pub audit: AuditLog,
    /// How that log, and the restored one, is run.
    pub options: Options,
    /// Where that log is.
    pub log: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The token.
    pub hsm: Hsm,
    /// The trust domain that this vault is configured for.
    pub trust_domain: String,
    /// How old a backup's data may be.
    pub stale_after: Duration,
    /// Where a newer one may be.
    pub backup: config::Backup,
}

/// Where a backup is kept while it is restored, beside the audit log.
pub fn spool(log: &Path) -> PathBuf {
    log.with_file_name("restore.age")
}

/// Removes what an interrupted restore has left on the disk, once the logs are swapped.
pub fn tidy(log: &Path) {
    for left in [spool(log), log::restored(log)] {
        let _ = std::fs::remove_file(left);
    }
}

/// What is handed from step to step.
struct Doing<'a> {
    restore: &'a Restore,
    who: &'a Principal,
    source: &'a Source,
    checked: &'a Checked,
    told: &'a mpsc::Sender<Event>,
}

impl Restore {
    /// Does it. The caller starts the vault anew after it.
    ///
    /// # Errors
    /// `Verification` where the backup or the shares do not hold, `Invalid` where it is not one for
    /// this vault, `Conflict` where the token or the store is in use, `Unavailable` where HSM,
    /// store, audit log or disk is. The vault is uninitialised then, and the same restore goes on.
    pub async fn run(
        &self,
        who: &Principal,
        backup: Spooled,
        opening: Opening,
        allow_stale: bool,
        told: &mpsc::Sender<Event>,
    ) -> Result<Summary> {
        let token = self.token().await?;
        if Vault::read(self.store.as_ref()).await?.is_some() {
            return Err(Error::conflict("restore into", "this vault", "it is initialised already")
                .hint("a restore needs a vault with a store and a token of its own"));
        }
        let Opening { identities, shares } = opening;
        let source = Source::new(backup, identities);
        crash_point!("restore.spooled");
        let wanted = Wanted {
            trust_domain: self.trust_domain.clone(),
            schema_version: self.store.ping().await?,
            stale_after: (!allow_stale).then_some(self.stale_after),
            now: self.clock.now(),
        };
        let checked = {
            let (source, told) = (source.clone(), told.clone());
            blocking(move || {
                let size = source.size();
                check::check(&source, &wanted, |read| tell(&told, "verified", read, size))
            })
            .await?
        };
        if !allow_stale {
            self.refuse_older(&checked.manifest.facts).await?;
        }
        let kek = check::kek(&shares, &checked.manifest.facts)?;
        drop(shares);
        crash_point!("restore.verified");
        let Manifest { facts, counts, .. } = &checked.manifest;
        let detail = json!({
            "sha256": source.sha256(), "size": source.size(), "vault_id": facts.vault_id,
            "created_at": facts.created_at.format(&Rfc3339).ok(), "counts": counts,
        });
        let operation = self.audit.intent(said(who, detail)).await?;
        let doing = Doing { restore: self, who, source: &source, checked: &checked, told };
        let done = doing.all(token, kek).await;
        let (outcome, detail) =
            Outcome::of(&done, |(keys, aside)| json!({ "keys": keys, "set_aside": aside }));
        let recorded = self.audit.finish(operation, outcome, detail).await;
        let (keys_restored, set_aside) = done?;
        if let Err(error) = recorded {
            // The restored log has its own record of it, and it is done.
            tracing::warn!(%error, "the log of the time before does not have the restore's end");
        }
        crash_point!("restore.concluded");
        for key in checked.lost {
            let _ = told.send(Event::Lost(key)).await;
        }
        let backup_sha256 = source.sha256().to_owned();
        Ok(Summary { manifest: checked.manifest, backup_sha256, keys_restored, set_aside })
    }

    /// Refuses a backup where its vault has put a newer one into the configured place. Where that is
    /// away, as it may be with everything else, its age has to do.
    async fn refuse_older(&self, facts: &Facts) -> Result<()> {
        let newer = place::newer_than(&self.backup, &facts.vault_id, facts.created_at).await;
        match newer {
            Ok(None) => Ok(()),
            Ok(Some(at)) => {
                let why = format!("there is a newer one of its vault: {at}");
                Err(Error::invalid("restore", "the backup", why)
                    .hint("restore that one; --allow-stale restores this one all the same"))
            }
            Err(error) => {
                tracing::warn!(%error, "whether there is a newer backup cannot be told");
                Ok(())
            }
        }
    }

    /// The token that the configuration names, with its PINs.
    async fn token(&self) -> Result<Token> {
        let so_pin = self.hsm.so_pin.as_ref().ok_or_else(|| {
            let why = "the security officer's PIN is not configured";
            Error::invalid("restore into", "this vault's token", why)
                .hint("set so_pin in [hsm] of vault.toml for the restore, then remove it")
        })?;
        let (pin, so_pin) = (self.hsm.pin.read()?, so_pin.read()?);
        let uri = self.hsm.uri.parse()?;
        blocking(move || Token::new(uri, pin, so_pin)).await
    }
}

impl Doing<'_> {
    async fn all(&self, token: Token, kek: Kek) -> Result<(u64, PathBuf)> {
        self.prepare(&token).await?;
        let (keys, serial) = self.fill(token, kek).await?;
        let now = self.restore.clock.now();
        let set_aside = log::set_aside(&self.restore.log, now)?;
        self.link(&set_aside).await?;
        self.store(serial, &set_aside, now).await?;
        Ok((keys, set_aside))
    }

    /// Makes the token ready: one that this restore has begun with is gone on with, one that another
    /// has begun with is wiped, and one that holds anything else is refused.
    async fn prepare(&self, token: &Token) -> Result<()> {
        let store = self.restore.store.as_ref();
        let started: Option<Started> = marks::read(store, RESTORE_STARTED).await?;
        let started = started.filter(|started| started.token == token.label());
        let init = settings::init_was_started_on(store, token.label()).await?;
        let there = on(token, Token::is_there).await?;
        let same =
            |started: &Started| started.ready && started.backup_sha256 == self.source.sha256();
        if there && started.as_ref().is_some_and(same) {
            return Ok(());
        }
        if there && started.is_none() && !init {
            on(token, Token::refuse_used).await?;
            return self.note(token, true).await;
        }
        self.note(token, false).await?;
        crash_point!("restore.noted");
        on(token, move |token| token.initialize(there)).await?;
        crash_point!("restore.token");
        self.note(token, true).await?;
        crash_point!("restore.ready");
        Ok(())
    }

    async fn note(&self, token: &Token, ready: bool) -> Result<()> {
        let (backup_sha256, token) = (self.source.sha256().to_owned(), token.label().to_owned());
        let started = marks::text(&Started { backup_sha256, token, ready })?;
        self.restore.store.put_settings(&[(RESTORE_STARTED, &started)]).await
    }

    /// Keys into the token and the log into its copy; then the KEK, without which no key was asked
    /// for. Answers how many keys there are, and the token's serial number.
    async fn fill(&self, token: Token, kek: Kek) -> Result<(u64, String)> {
        let (source, told) = (self.source.clone(), self.told.clone());
        let (audit, who) = (self.restore.audit.clone(), self.who.clone());
        let expected = self.checked.manifest.clone();
        let path = log::restored(&self.restore.log);
        blocking(move || {
            let total = expected.counts.keys_wrapped;
            let progress = |done| tell(&told, "unwrapped", done, total);
            let mut copy = log::Copy::begin(path)?;
            let unwrapping = Unwrapping {
                token: &token,
                kek: &kek,
                audit: &audit,
                who: &who,
                progress: &progress,
            };
            let (keys, read) = unwrapping.run(&source, &mut copy)?;
            if read != expected {
                let why = "it has changed meanwhile";
                return Err(Error::verification("restore", "the backup", why));
            }
            copy.end()?;
            crash_point!("restore.keys");
            Ok((keys, token.complete(&kek)?))
        })
        .await
    }

    /// The restored log's next record: from what, and which log was before.
    async fn link(&self, set_aside: &Path) -> Result<()> {
        let Restore { audit, options, log, clock, .. } = self.restore;
        let facts = &self.checked.manifest.facts;
        let before = audit.status();
        let name = set_aside.file_name().unwrap_or_default().to_string_lossy();
        let record = said(
            self.who,
            json!({
                "restored": {
                    "sha256": self.source.sha256(),
                    "created_at": facts.created_at.format(&Rfc3339).ok(),
                    "audit": facts.audit,
                },
                "set_aside": {
                    "file": name,
                    "audit": Checkpoint { sequence: before.records, head: before.head },
                },
            }),
        );
        let restored = log::restored(log);
        log::link(&restored, *options, clock.clone(), record).await?;
        crash_point!("restore.linked");
        audit::sync_directory(log).map_err(|e| Error::unavailable("sync", "the audit log", e))
    }

    /// The one transaction that makes this that vault.
    async fn store(
        &self,
        token_serial: String,
        set_aside: &Path,
        now: OffsetDateTime,
    ) -> Result<()> {
        let manifest = &self.checked.manifest;
        let restored = Restored {
            at: now,
            snapshot_at: manifest.facts.created_at,
            backup_sha256: self.source.sha256().to_owned(),
        };
        let swap =
            Swap { restored: log::restored(&self.restore.log), set_aside: set_aside.to_owned() };
        let facts = vec![(RESTORED, marks::text(&restored)?), (SWAP, marks::text(&swap)?)];
        let changes = Changes { token_serial, facts };
        let total = rows(manifest);
        let progress = |done| tell(self.told, "stored", done, total);
        let store = self.restore.store.as_ref();
        rows::put(store, self.source.clone(), manifest, changes, progress).await?;
        crash_point!("restore.committed");
        tracing::info!(vault = manifest.facts.vault_id, "restored: this is that vault now");
        Ok(())
    }
}

/// Rows that go into the store.
fn rows(manifest: &Manifest) -> u64 {
    let audit = manifest.counts.audit_records;
    manifest.parts.iter().map(|part| part.rows).sum::<u64>() - audit
}

/// Whoever does not listen misses it.
fn tell(told: &mpsc::Sender<Event>, stage: &'static str, done: u64, total: u64) {
    let _ = told.try_send(Event::Progress(stage, done, total));
}

fn said(who: &Principal, detail: Value) -> Entry {
    Entry {
        principal: who.to_string(),
        action: Action::BackupRestore.as_str().to_owned(),
        resource: "vault".to_owned(),
        detail: detail.into(),
        grouped: false,
    }
}

/// Asks the token where that may block.
async fn on<T: Send + 'static>(
    token: &Token,
    ask: impl FnOnce(&Token) -> Result<T> + Send + 'static,
) -> Result<T> {
    let token = token.clone();
    blocking(move || ask(&token)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal("run", "a restore", e))?
}
