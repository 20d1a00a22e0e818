//! What this vault remembers of its drills; in no backup, as its backups are.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use vault_proto::ids::DrillId;

use super::BackupRecord;
use crate::error::Result;

/// One thing that a drill has checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillCheck {
    /// Its name.
    pub name: String,
    /// `ok`, `failed` or `not-asked`.
    pub status: String,
    /// What was found.
    pub detail: String,
}

/// A drill that was held, and what it has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillRecord {
    /// Its id.
    pub id: DrillId,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it was recorded.
    pub recorded_at: OffsetDateTime,
    /// Who recorded it.
    pub recorded_by: String,
    /// SHA-256 of the backup's file, lower-case hex.
    pub backup_sha256: String,
    /// When the backup's data were read, as it says.
    pub backup_created_at: Option<OffsetDateTime>,
    /// Whether everything was proven.
    pub ok: bool,
    /// What was checked.
    pub checks: Vec<DrillCheck>,
    /// Keys that were unwrapped and have signed.
    pub keys_proven: u64,
    /// How long the restore took.
    pub rto_milliseconds: u64,
    /// How old the data were when it began.
    pub rpo_milliseconds: u64,
    /// SHA-256 of the report's `report.json`, lower-case hex.
    pub report_json_sha256: String,
    /// SHA-256 of the report's `report.html`, lower-case hex.
    pub report_html_sha256: String,
    /// What the internal CA has signed of it.
    pub statement: String,
}

/// Drills' rows.
#[async_trait]
pub trait Drills: Send + Sync {
    /// Adds a drill; `Conflict` where its id is there already.
    async fn insert_drill(&self, drill: &DrillRecord) -> Result<()>;
    /// One drill.
    async fn drill(&self, id: DrillId) -> Result<Option<DrillRecord>>;
    /// Drills, the newest first.
    async fn drills(&self, limit: u32) -> Result<Vec<DrillRecord>>;
    /// The last drill that has proved everything.
    async fn last_proven_drill(&self) -> Result<Option<DrillRecord>>;
    /// What is on record of the backup whose file has this SHA-256.
    async fn backup_of(&self, sha256: &str) -> Result<Option<BackupRecord>>;
}
