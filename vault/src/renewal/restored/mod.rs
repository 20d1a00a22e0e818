//! What follows a restore. The store is as it was when the backup was made; since then certificates were
//! renewed, revoked and declared, and keys made that went with the HSM. What can be found out is found
//! out from agents (`agents`) and CAs (`cas`) and set right; what cannot is said, in `vaultctl status`
//! and once on the audit log. `docs/restore.md` says what that is.

mod agents;
mod cas;
mod numbers;

use std::{collections::BTreeMap, sync::Arc, time::Duration as StdDuration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use vault_proto::ids::{AccountName, CertificateName};

use super::{Issuer, issue::RENEWAL};
use crate::audit::{AuditLog, Entry};
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::settings::Restored;
use crate::store::{AccountRecord, AccountStatus, Custody, KeyState, Store};
use cas::{Said, listed};
pub(super) use numbers::Numbers;

/// How far this has come.
const PROGRESS: &str = "restored.progress";
/// How long `vaultctl status` says what nobody but a person can settle.
const SAID_FOR: Duration = Duration::days(30);

/// Settles what a restore leaves open, once for each restore.
pub struct Aftermath {
    issuer: Issuer,
    audit: AuditLog,
    /// Wakes the runner: something is due.
    wake: Arc<Notify>,
}

/// What was done of it, durable after each account.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    /// Which restore: when it was.
    #[serde(with = "time::serde::rfc3339")]
    of: OffsetDateTime,
    accounts: BTreeMap<AccountName, Said>,
    /// Whether it is on the audit log.
    recorded: bool,
}

impl Progress {
    async fn read(store: &dyn Store, restored: &Restored) -> Result<Self> {
        let new = Self { of: restored.at, accounts: BTreeMap::new(), recorded: false };
        let Some(text) = store.setting(PROGRESS).await? else { return Ok(new) };
        let read: Self = serde_json::from_str(&text)
            .map_err(|e| Error::internal("read", "what followed the restore", e))?;
        Ok(if read.of == restored.at { read } else { new })
    }

    async fn write(&self, store: &dyn Store) -> Result<()> {
        let text = serde_json::to_string(self)
            .map_err(|e| Error::internal("write", "what followed the restore", e))?;
        store.put_settings(&[(PROGRESS, &text)]).await
    }

    fn is_asked(&self, account: &AccountName) -> bool {
        self.accounts.get(account).is_some_and(|said| said.asked)
    }
}

/// Between two tries: from two seconds to ten minutes, for ever.
fn pauses() -> impl Iterator<Item = StdDuration> {
    ExponentialBuilder::default()
        .with_min_delay(StdDuration::from_secs(2))
        .with_max_delay(StdDuration::from_secs(600))
        .with_jitter()
        .without_max_times()
        .build()
}

impl Aftermath {
    /// Over these parts; `wake` wakes the runner.
    pub fn new(issuer: Issuer, audit: AuditLog, wake: Arc<Notify>) -> Self {
        Self { issuer, audit, wake }
    }

    /// Does what there is to do, and what could not be done again, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut lost = false;
        for pause in pauses() {
            match self.round(&mut lost).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "what follows a restore waits"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whether nothing is left to do. Keys that are lost are looked for once in the life of a process:
    /// what fails then has its own pauses.
    async fn round(&self, lost: &mut bool) -> Result<bool> {
        if !*lost {
            self.renew_lost().await?;
            *lost = true;
        }
        let store = self.issuer.store.as_ref();
        let Some(restored) = Restored::read(store).await? else { return Ok(true) };
        let mut progress = Progress::read(store, &restored).await?;
        let (mut asked, mut all) = (Vec::new(), true);
        for account in store.accounts().await? {
            if account.status != AccountStatus::Valid || progress.is_asked(&account.name) {
                continue;
            }
            let said = self.ask(&account).await;
            all &= said.asked;
            if said.asked {
                asked.push(account.name.clone());
            }
            progress.accounts.insert(account.name, said);
            progress.write(store).await?;
            crash_point!("restored.asked");
        }
        if !progress.recorded || !asked.is_empty() {
            self.record(&restored, &progress).await?;
            crash_point!("restored.recorded");
            progress.recorded = true;
            progress.write(store).await?;
        }
        Ok(all)
    }

    /// Makes certificates due whose key is lost: their web servers cannot use what they hold.
    async fn renew_lost(&self) -> Result<()> {
        let mut some = false;
        for certificate in self.issuer.store.certificates().await? {
            if certificate.custody != Custody::Vault {
                continue;
            }
            let version = self.current(&certificate).await?;
            let Some(key) = version.and_then(|version| version.key_id) else { continue };
            let key = self.issuer.store.key(key).await?;
            if key.is_some_and(|key| key.state == KeyState::Lost) {
                tracing::warn!(certificate = %certificate.name, "its key is lost: ordered anew");
                let now = self.issuer.clock.now();
                some |= self.issuer.store.make_due(&certificate.name, now, true).await?;
            }
        }
        if some {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// What came of it, on the audit log.
    async fn record(&self, restored: &Restored, progress: &Progress) -> Result<()> {
        let keys = self.issuer.store.keys().await?;
        let lost = keys.iter().filter(|key| key.state == KeyState::Lost);
        let said = || progress.accounts.values();
        let silent = progress.accounts.iter().filter(|(_, said)| !said.asked);
        let silent: Vec<_> = silent.map(|(name, _)| name.as_str()).collect();
        let detail = json!({
            "snapshot_at": restored.snapshot_at.format(&Rfc3339).unwrap_or_default(),
            "backup_sha256": restored.backup_sha256,
            "keys_lost": counted(&lost.map(|key| key.name.as_str()).collect::<Vec<_>>()),
            "ordered_anew": counted(&names(said().flat_map(|said| &said.due))),
            "fetched": counted(&names(said().flat_map(|said| &said.taken))),
            "accounts_asked": progress.accounts.len() - silent.len(),
            "accounts_not_asked": counted(&silent),
            "findings": said().map(|said| said.findings.len()).sum::<usize>(),
        });
        let entry = Entry {
            principal: RENEWAL.to_string(),
            action: "restore.reconcile".to_owned(),
            resource: "vault".to_owned(),
            detail: detail.into(),
            grouped: false,
        };
        self.audit.event(entry).await
    }
}

fn names<'a>(certificates: impl Iterator<Item = &'a CertificateName>) -> Vec<&'a str> {
    certificates.map(CertificateName::as_str).collect()
}

/// Whether it is still open what a restore has missed at an account's CA.
pub(super) async fn awaits(store: &dyn Store, account: &AccountRecord) -> Result<bool> {
    if account.status != AccountStatus::Valid {
        return Ok(false);
    }
    let Some(restored) = Restored::read(store).await? else { return Ok(false) };
    Ok(!Progress::read(store, &restored).await?.is_asked(&account.name))
}

/// Names as a record has them: a record is bounded.
fn counted(names: &[&str]) -> Value {
    json!({ "count": names.len(), "names": listed(names) })
}

/// A time for people, to the second.
fn time(at: OffsetDateTime) -> String {
    at.truncate_to_second().format(&Rfc3339).unwrap_or_default()
}

/// What a person should know after a restore, for `vaultctl status`.
///
/// # Errors
/// Where the store cannot be read.
pub async fn findings(store: &dyn Store, now: OffsetDateTime) -> Result<Vec<String>> {
    let Some(restored) = Restored::read(store).await? else { return Ok(Vec::new()) };
    if now > restored.at + SAID_FOR {
        return Ok(Vec::new());
    }
    let mut said = vec![format!(
        "restored {} from the backup of {}: evict, revoke, delete and change again what operators \
         have evicted, revoked, deleted and changed in between; a copy of the audit log says what",
        time(restored.at),
        time(restored.snapshot_at)
    )];
    let progress = Progress::read(store, &restored).await?;
    for (name, of_account) in progress.accounts {
        // Registered anew since, or ended, it is settled.
        let account = store.account(&name).await?;
        let same = |account: AccountRecord| {
            account.status == AccountStatus::Valid && account.url == of_account.url
        };
        if account.is_some_and(same) {
            said.extend(of_account.findings);
        }
    }
    said.extend(agents::findings(store, now).await?);
    Ok(said)
}
