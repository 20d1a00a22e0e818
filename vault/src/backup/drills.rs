//! Drills on record: whoever held one says what it has proved, the vault checks of it what it can
//! itself, and states by its internal CA's key what was said.

use std::sync::Arc;

use serde_json::json;
use vault_backup::Counts;
use vault_custody::drill::{FORMAT, Statement, VERSION};
use vault_proto::ids::DrillId;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::MessageSigner as _;
use crate::policy::{Action, Principal};
use crate::settings::Vault;
use crate::signing::Signing;
use crate::store::{BackupRecord, DrillRecord, Store};

const DRILL: Principal = Principal::Vault("drill");
/// More checks than a drill makes.
const MOST_CHECKS: usize = 64;
/// The longest text of a check that is kept, in bytes.
const LONGEST: usize = 4096;
/// How far the clock of whoever held it may be ahead.
const SKEW: time::Duration = time::Duration::minutes(5);
/// A year: no drill and no backup takes that long.
const LONGEST_DRILL: u64 = 365 * 24 * 3600 * 1000;

/// What of a backup's content the vault holds against its own record of it.
#[derive(Debug, Clone)]
pub struct Content {
    /// How much there is of each thing.
    pub counts: Counts,
    /// As far as the audit log is in it.
    pub audit_sequence: u64,
    /// The hash of that record.
    pub audit_head: String,
}

/// The vault's record of drills.
#[derive(Clone)]
pub struct Drills {
    store: Arc<dyn Store>,
    signing: Signing,
    clock: Arc<dyn Clock>,
}

impl Drills {
    /// Over these.
    pub fn new(store: Arc<dyn Store>, signing: Signing, clock: Arc<dyn Clock>) -> Self {
        Self { store, signing, clock }
    }

    /// Records a drill that `who` has held; answers the signed statement. What the vault fills in
    /// itself (`recorded_at`, `recorded_by`, `statement`) is taken from nobody.
    ///
    /// # Errors
    /// `Invalid` where it says what cannot be, `Verification` where it calls proven what is not the
    /// backup on record, `Conflict` where the drill is there already.
    pub async fn record(
        &self,
        who: &Principal,
        mut drill: DrillRecord,
        content: &Content,
    ) -> Result<String> {
        let now = self.clock.now();
        sane(&drill, now)?;
        if self.store.drill(drill.id).await?.is_some() {
            return Err(Error::conflict("record", subject(drill.id), "it is on record already")
                .hint("`vaultctl drill show` shows it"));
        }
        let known = self.store.backup_of(&drill.backup_sha256).await?;
        if drill.ok {
            is_on_record(&drill, content, known.as_ref())?;
        }
        let vault = Vault::read(self.store.as_ref()).await?.ok_or_else(|| {
            Error::unavailable("record", subject(drill.id), "the vault is not initialised")
        })?;
        drill.recorded_at = now;
        drill.recorded_by = who.to_string();
        drill.statement = self.state(&vault, &drill).await?;
        crash_point!("drill.signed");
        self.store.insert_drill(&drill).await?;
        Ok(drill.statement)
    }

    /// Has the internal CA sign it.
    async fn state(&self, vault: &Vault, drill: &DrillRecord) -> Result<String> {
        let statement = Statement {
            format: FORMAT.to_owned(),
            version: VERSION,
            drill_id: drill.id.to_string(),
            vault_id: vault.id.clone(),
            backup_sha256: drill.backup_sha256.clone(),
            ok: drill.ok,
            keys_proven: drill.keys_proven,
            started_at: drill.started_at,
            recorded_at: drill.recorded_at,
            recorded_by: drill.recorded_by.clone(),
            rto_milliseconds: drill.rto_milliseconds,
            rpo_milliseconds: drill.rpo_milliseconds,
            report_json_sha256: drill.report_json_sha256.clone(),
            report_html_sha256: drill.report_html_sha256.clone(),
        };
        let key = self.signing.record(vault.ca_key).await?;
        let context = json!({ "drill": drill.id, "backup": drill.backup_sha256, "ok": drill.ok });
        let signer = self.signing.bind(DRILL, key, Action::SignDrill, context);
        let signature = signer.sign(&statement.message()?).await?.x509()?;
        Ok(statement.signed(&signature, &vault.ca_root_pem)?)
    }
}

fn subject(id: DrillId) -> String {
    format!("drill {id}")
}

/// Refuses what no drill says.
fn sane(drill: &DrillRecord, now: time::OffsetDateTime) -> Result<()> {
    let invalid = |why: &str| {
        Err(Error::invalid("record", subject(drill.id), why)
            .hint("`vaultctl drill run` records what it has found by itself"))
    };
    let hash = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let hashes = [&drill.backup_sha256, &drill.report_json_sha256, &drill.report_html_sha256];
    if !hashes.into_iter().all(|text| hash(text)) {
        return invalid("a SHA-256 is none");
    }
    if drill.checks.is_empty() || drill.checks.len() > MOST_CHECKS {
        return invalid("its checks are none or too many");
    }
    for check in &drill.checks {
        if check.name.len().max(check.detail.len()) > LONGEST {
            return invalid("a check says too much");
        }
        if !["ok", "failed", "not-asked"].contains(&check.status.as_str()) {
            return invalid("a check's status is not known");
        }
    }
    let failed = drill.checks.iter().any(|check| check.status == "failed");
    if drill.ok == failed {
        return invalid("its outcome is not that of its checks");
    }
    if drill.started_at > now + SKEW || drill.backup_created_at.is_some_and(|at| at > now + SKEW) {
        return invalid("it lies in the future");
    }
    if drill.rto_milliseconds > LONGEST_DRILL {
        return invalid("a restore does not take so long");
    }
    Ok(())
}

/// A backup counts as proven only where it is the one that this vault has made.
fn is_on_record(
    drill: &DrillRecord,
    content: &Content,
    known: Option<&BackupRecord>,
) -> Result<()> {
    let wrong = |why: &str| {
        Err(Error::verification("record", subject(drill.id), why)
            .hint("`vaultctl backup list` shows the backups that this vault has made"))
    };
    let Some(known) = known else {
        return wrong("this vault has made no backup with this SHA-256");
    };
    if known.counts != content.counts {
        return wrong("its counts are not those on record");
    }
    let checkpoint = (known.audit_sequence, &known.audit_head);
    if checkpoint != (content.audit_sequence, &content.audit_head) {
        return wrong("its audit log ends at another place than the one on record");
    }
    if drill.backup_created_at.is_some_and(|at| at != known.created_at) {
        return wrong("its data are of another time than the one on record");
    }
    if drill.keys_proven != known.counts.keys_wrapped {
        return wrong("it has proved another number of keys than there are in it");
    }
    Ok(())
}
