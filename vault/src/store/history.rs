//! What this vault remembers of its backups. It is this vault's own history and in no backup: after
//! a restore it begins anew.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_backup::Counts;
use vault_proto::ids::BackupId;

use crate::error::Result;
use crate::named::named_enum;

named_enum!(
    /// What became of a backup.
    BackupState, "backup state" {
        /// It went to whoever asked for it.
        HandedOut = "handed-out",
        /// It is being put where the schedule puts them; whether it is there whole is not known yet.
        Storing = "storing",
        /// It is there, whole.
        Kept = "kept",
        /// Retention has removed it.
        Removed = "removed",
        /// It was never there whole, or is not there any more.
        Missing = "missing",
    }
);

/// A backup that was made, as the audit log has it, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRecord {
    /// Its id.
    pub id: BackupId,
    /// When the store was read.
    pub created_at: OffsetDateTime,
    /// Bytes of the age file.
    pub size: u64,
    /// SHA-256 over them, lower-case hex.
    pub sha256: String,
    /// How much of each thing is in it.
    pub counts: Counts,
    /// The KEK that its keys are under; empty in a vault without one.
    pub kek_check_value: String,
    /// As far as the audit log is in it.
    pub audit_sequence: u64,
    /// The hash of that record.
    pub audit_head: String,
    /// Where it is, as a URL; empty where it was handed out.
    pub location: String,
    /// What became of it.
    pub state: BackupState,
}

/// Where work that is done again and again stands, among all nodes of a vault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// When the last attempt that succeeded began.
    pub last_ok_at: Option<OffsetDateTime>,
    /// Failed attempts since.
    pub failed_attempts: u32,
    /// Why the last attempt failed; `None` after a success.
    pub last_error: Option<String>,
    /// When that was.
    pub last_failed_at: Option<OffsetDateTime>,
    /// When it is tried again.
    pub retry_at: Option<OffsetDateTime>,
    /// What an attempt has begun and not ended: whoever comes next clears it away.
    pub unfinished: Option<String>,
}

/// Backups' rows and their schedule.
#[async_trait]
pub trait History: Send + Sync {
    /// Adds a backup.
    async fn insert_backup(&self, backup: &BackupRecord) -> Result<()>;
    /// Says what became of a backup.
    async fn set_backup_state(&self, id: BackupId, state: BackupState) -> Result<()>;
    /// One backup.
    async fn backup(&self, id: BackupId) -> Result<Option<BackupRecord>>;
    /// Backups, newest first; only those before `before` where it is set.
    async fn backups(&self, before: Option<BackupId>, limit: u32) -> Result<Vec<BackupRecord>>;
    /// Every backup in this state, newest first.
    async fn backups_in(&self, state: BackupState) -> Result<Vec<BackupRecord>>;

    /// Where a schedule stands; as if nothing had ever been done where it has no row.
    async fn schedule(&self, name: &str) -> Result<ScheduleRecord>;
    /// Takes a schedule's work, or goes on holding it, until `until`: `false` where another holder
    /// has it at `now`. Of several who ask at once exactly one gets it.
    async fn claim_schedule(
        &self,
        name: &str,
        holder: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<bool>;
    /// Replaces where a schedule stands; `false` where `holder` does not hold it any more.
    async fn update_schedule(
        &self,
        name: &str,
        holder: &str,
        schedule: &ScheduleRecord,
    ) -> Result<bool>;
    /// Gives a schedule's work back, where `holder` still holds it.
    async fn release_schedule(&self, name: &str, holder: &str) -> Result<()>;
}
