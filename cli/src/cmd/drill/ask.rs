//! What a drill asks the vault: for a backup, for what is on record of it, for earlier drills; and
//! what it tells.

use std::path::Path;

use vault_backup::{
    Counts, Facts,
    drill::{Check, Name, Status},
};
use vault_proto::{error::ErrorKind, v1};

use super::{Context, Run, report::Past};
use crate::client::{Client, call};
use crate::cmd::backup;
use crate::error::{Error, Result};
use crate::output;

/// Backups that are asked for at once.
const PAGE: u32 = 1000;
/// Drills that a report shows.
const PAST: u32 = 100;

/// The vault, where it can be reached.
pub(super) struct Vault {
    client: Option<Client>,
    /// Why there is none.
    pub(super) why: String,
}

impl Vault {
    /// Connects. A vault that cannot be reached keeps no backup from being drilled that is there
    /// already.
    ///
    /// # Errors
    /// Where the connection is described wrongly, or there is no file to drill without it.
    pub(super) async fn connect(context: &Context, args: &Run) -> Result<Self> {
        let without = |why: String| Ok(Self { client: None, why });
        if args.offline {
            return without("--offline was given".to_owned());
        }
        match context.client().await {
            Ok(client) => Ok(Self { client: Some(client), why: String::new() }),
            Err(error) if args.file.is_some() && error.kind() == ErrorKind::Unavailable => {
                output::note(&format!("the vault cannot be reached: {error}"));
                without(error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on without a vault that went away in the middle: what was found until then stays found.
    ///
    /// # Errors
    /// Any other error than that.
    pub(super) fn or_away<T>(&mut self, asked: Result<T>, otherwise: T) -> Result<T> {
        match asked {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                output::note(&format!("the vault went away: {error}"));
                (self.client, self.why) = (None, error.to_string());
                Ok(otherwise)
            }
            asked => asked,
        }
    }

    /// Fetches the newest backup that the vault keeps; answers its id.
    pub(super) async fn fetch_newest(&self, out: &Path) -> Result<String> {
        let missing = || {
            Error::new(ErrorKind::NotFound, "drill", "the newest backup", "the vault keeps none")
                .hint("name a file, or see `vaultctl backup list`")
        };
        let client = self.client.as_ref().ok_or_else(missing)?;
        let mut before = String::new();
        loop {
            let request = call(v1::ListBackupsRequest { limit: PAGE, before });
            let page = client.backups().list_backups(request).await?.into_inner().backups;
            let last = page.last().map(|backup| backup.id.clone());
            if let Some(newest) = page.into_iter().find(|backup| backup.state == "kept") {
                let fetched = backup::fetch_into(client, newest.id, out).await?;
                return Ok(fetched.id);
            }
            before = last.ok_or_else(missing)?;
        }
    }

    /// Holds a backup against what the vault has on record of it.
    ///
    /// # Errors
    /// What the vault says.
    pub(super) async fn record(
        &self,
        sha256: &str,
        size: u64,
        facts: Option<&Facts>,
        counts: Option<&Counts>,
    ) -> Result<Check> {
        let Some(client) = &self.client else { return Ok(not_asked(&self.why)) };
        let failed = |why: &str| Ok(Check::failed(Name::Record, why));
        let Some(known) = find(client, sha256).await? else {
            return failed("the vault has made no backup with this SHA-256");
        };
        let (Some(facts), Some(counts)) = (facts, counts) else {
            return failed("it is on record, and does not hold");
        };
        let same = |said: Option<&v1::BackupCounts>| said.is_some_and(|said| same(said, counts));
        if known.size != size || !same(known.counts.as_ref()) {
            return failed("its counts or size are not those on record");
        }
        let checkpoint = (known.audit_sequence, known.audit_head.as_str());
        if checkpoint != (facts.audit.sequence, facts.audit.head.as_str()) {
            return failed("its audit log ends at another place than the one on record");
        }
        let detail = "SHA-256, size, counts and checkpoint are those on the vault's record";
        Ok(Check::ok(Name::Record, detail))
    }

    /// Drills before this one, the oldest first, and the longest time between two backups that the
    /// schedule allows.
    ///
    /// # Errors
    /// What the vault says.
    pub(super) async fn past(&self) -> Result<(Vec<Past>, Option<f64>)> {
        let Some(client) = &self.client else { return Ok((Vec::new(), None)) };
        let request = call(v1::ListDrillsRequest { limit: PAST });
        let listed = client.drills().list_drills(request).await?.into_inner().drills;
        let past = listed.into_iter().rev().map(Past::from).collect();
        let status = client.system().status(call(v1::StatusRequest {})).await?.into_inner();
        let backup = status.backup.unwrap_or_default();
        let seconds = |at: prost_types::Timestamp| at.seconds;
        let made = backup.last.and_then(|last| last.created_at).map(seconds);
        let worst = match (backup.scheduled, backup.next_at.map(seconds), made) {
            (true, Some(next), Some(made)) if next > made => Some(whole(next - made)),
            _ => None,
        };
        Ok((past, worst))
    }

    /// Records the drill; answers the signed statement, or nothing where no vault was asked.
    ///
    /// # Errors
    /// What the vault says.
    pub(super) async fn tell(&self, request: v1::RecordDrillRequest) -> Result<Option<String>> {
        let Some(client) = &self.client else { return Ok(None) };
        let told = client.drills().record_drill(call(request)).await?;
        Ok(Some(told.into_inner().statement))
    }
}

/// Nobody could be asked for the record.
pub(super) fn not_asked(why: &str) -> Check {
    let detail = format!("no vault was asked: {why}");
    Check { name: Name::Record, status: Status::NotAsked, detail }
}

fn whole(seconds: i64) -> f64 {
    u32::try_from(seconds).map_or(f64::from(u32::MAX), f64::from)
}

/// The backup with this SHA-256, among all that were made.
async fn find(client: &Client, sha256: &str) -> Result<Option<v1::Backup>> {
    let mut before = String::new();
    loop {
        let request = call(v1::ListBackupsRequest { limit: PAGE, before });
        let page = client.backups().list_backups(request).await?.into_inner().backups;
        let Some(last) = page.last().map(|backup| backup.id.clone()) else { return Ok(None) };
        if let Some(found) = page.into_iter().find(|backup| backup.sha256 == sha256) {
            return Ok(Some(found));
        }
        before = last;
    }
}

fn same(said: &v1::BackupCounts, counts: &Counts) -> bool {
    *said == counts.into()
}
