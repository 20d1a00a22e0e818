//! What this vault remembers of its drills.

use async_trait::async_trait;
use vault_proto::ids::DrillId;

use super::{
    SqlStore, fail, history,
    row::{Columns, all, int, json, maybe, micros, opt_micros, text},
};
use crate::error::Result;
use crate::store::{BackupRecord, DrillRecord, Drills};

fn read(row: &Columns<'_>) -> Result<DrillRecord> {
    Ok(DrillRecord {
        id: row.parsed("id")?,
        started_at: row.time("started_at")?,
        recorded_at: row.time("recorded_at")?,
        recorded_by: row.text("recorded_by")?,
        backup_sha256: row.text("backup_sha256")?,
        backup_created_at: row.opt_time("backup_created_at")?,
        ok: row.int::<u8>("ok")? == 1,
        checks: row.json("checks")?,
        keys_proven: row.int("keys_proven")?,
        rto_milliseconds: row.int("rto_milliseconds")?,
        rpo_milliseconds: row.int("rpo_milliseconds")?,
        report_json_sha256: row.text("report_json_sha256")?,
        report_html_sha256: row.text("report_html_sha256")?,
        statement: row.text("statement")?,
    })
}

#[async_trait]
impl Drills for SqlStore {
    async fn insert_drill(&self, drill: &DrillRecord) -> Result<()> {
        let done = sqlx::query(
            "INSERT INTO drills (id, started_at, recorded_at, recorded_by, backup_sha256,
             backup_created_at, ok, checks, keys_proven, rto_milliseconds, rpo_milliseconds,
             report_json_sha256, report_html_sha256, statement)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(drill.id.to_string())
        .bind(micros(drill.started_at))
        .bind(micros(drill.recorded_at))
        .bind(drill.recorded_by.clone())
        .bind(drill.backup_sha256.clone())
        .bind(opt_micros(drill.backup_created_at))
        .bind(i64::from(drill.ok))
        .bind(text(&json(&drill.checks)?))
        .bind(int(drill.keys_proven))
        .bind(int(drill.rto_milliseconds))
        .bind(int(drill.rpo_milliseconds))
        .bind(drill.report_json_sha256.clone())
        .bind(drill.report_html_sha256.clone())
        .bind(drill.statement.clone())
        .execute(&self.writes)
        .await;
        done.map(drop).map_err(|e| fail("record", &format!("drill {}", drill.id), e))
    }

    async fn drill(&self, id: DrillId) -> Result<Option<DrillRecord>> {
        let row = sqlx::query("SELECT * FROM drills WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a drill's record", e))?;
        maybe(row, read)
    }

    async fn drills(&self, limit: u32) -> Result<Vec<DrillRecord>> {
        let query = "SELECT * FROM drills ORDER BY recorded_at DESC, id DESC LIMIT $1";
        let rows = sqlx::query(query)
            .bind(i64::from(limit))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "drills' records", e))?;
        all(&rows, read)
    }

    async fn last_proven_drill(&self) -> Result<Option<DrillRecord>> {
        let query = "SELECT * FROM drills WHERE ok = 1 ORDER BY recorded_at DESC, id DESC LIMIT 1";
        let row = sqlx::query(query)
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a drill's record", e))?;
        maybe(row, read)
    }

    async fn backup_of(&self, sha256: &str) -> Result<Option<BackupRecord>> {
        let query = "SELECT * FROM backups WHERE sha256 = $1 ORDER BY id DESC LIMIT 1";
        let row = sqlx::query(query)
            .bind(sha256.to_owned())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a backup's record", e))?;
        maybe(row, history::read)
    }
}
