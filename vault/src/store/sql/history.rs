//! What this vault remembers of its backups.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::BackupId;

use super::{
    SqlStore, fail, one,
    row::{Columns, all, int, json, maybe, micros, opt_micros, opt_text},
};
use crate::error::Result;
use crate::store::{BackupRecord, BackupState, History, ScheduleRecord};

pub(super) fn read(row: &Columns<'_>) -> Result<BackupRecord> {
    Ok(BackupRecord {
        id: row.parsed("id")?,
        created_at: row.time("created_at")?,
        size: row.int("size")?,
        sha256: row.text("sha256")?,
        counts: row.json("counts")?,
        kek_check_value: row.text("kek_check_value")?,
        audit_sequence: row.int("audit_sequence")?,
        audit_head: row.text("audit_head")?,
        location: row.text("location")?,
        state: row.parsed("state")?,
    })
}

fn read_schedule(row: &Columns<'_>) -> Result<ScheduleRecord> {
    Ok(ScheduleRecord {
        last_ok_at: row.opt_time("last_ok_at")?,
        failed_attempts: row.int("failed_attempts")?,
        last_error: row.opt_text("last_error")?,
        last_failed_at: row.opt_time("last_failed_at")?,
        retry_at: row.opt_time("retry_at")?,
        unfinished: row.opt_text("unfinished")?,
    })
}

#[async_trait]
impl History for SqlStore {
    async fn insert_backup(&self, backup: &BackupRecord) -> Result<()> {
        sqlx::query(
            "INSERT INTO backups (id, created_at, size, sha256, counts, kek_check_value,
             audit_sequence, audit_head, location, state)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(backup.id.to_string())
        .bind(micros(backup.created_at))
        .bind(int(backup.size))
        .bind(backup.sha256.clone())
        .bind(json(&backup.counts)?)
        .bind(backup.kek_check_value.clone())
        .bind(int(backup.audit_sequence))
        .bind(backup.audit_head.clone())
        .bind(backup.location.clone())
        .bind(backup.state.as_str())
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("record", "a backup", e))
    }

    async fn set_backup_state(&self, id: BackupId, state: BackupState) -> Result<()> {
        let subject = format!("backup {id}");
        let done = sqlx::query("UPDATE backups SET state = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(state.as_str())
            .execute(&self.writes)
            .await
            .map_err(|e| fail("change", &subject, e))?;
        one("change", &subject, done.rows_affected())
    }

    async fn backup(&self, id: BackupId) -> Result<Option<BackupRecord>> {
        let row = sqlx::query("SELECT * FROM backups WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a backup's record", e))?;
        maybe(row, read)
    }

    async fn backups(&self, before: Option<BackupId>, limit: u32) -> Result<Vec<BackupRecord>> {
        let rows = sqlx::query(
            "SELECT * FROM backups WHERE $1 = '' OR (created_at, id) <
             (SELECT created_at, id FROM backups WHERE id = $1)
             ORDER BY created_at DESC, id DESC LIMIT $2",
        )
        .bind(before.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await
        .map_err(|e| fail("read", "backups' records", e))?;
        all(&rows, read)
    }

    async fn backups_in(&self, state: BackupState) -> Result<Vec<BackupRecord>> {
        let rows =
            sqlx::query("SELECT * FROM backups WHERE state = $1 ORDER BY created_at DESC, id DESC")
                .bind(state.as_str())
                .fetch_all(&self.reads)
                .await
                .map_err(|e| fail("read", "backups' records", e))?;
        all(&rows, read)
    }

    async fn schedule(&self, name: &str) -> Result<ScheduleRecord> {
        let row = sqlx::query("SELECT * FROM schedules WHERE name = $1")
            .bind(name.to_owned())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a schedule", e))?;
        Ok(maybe(row, read_schedule)?.unwrap_or_default())
    }

    async fn claim_schedule(
        &self,
        name: &str,
        holder: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO schedules (name, holder, held_until, failed_attempts)
             VALUES ($1, $2, $4, 0)
             ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, held_until = excluded.held_until
             WHERE schedules.holder = excluded.holder OR schedules.held_until <= $3",
        )
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .bind(micros(now))
        .bind(micros(until))
        .execute(&self.writes)
        .await
        .map_err(|e| fail("claim", "a schedule", e))?;
        Ok(done.rows_affected() > 0)
    }

    async fn update_schedule(
        &self,
        name: &str,
        holder: &str,
        schedule: &ScheduleRecord,
    ) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE schedules SET last_ok_at = $3, failed_attempts = $4, last_error = $5,
             last_failed_at = $6, retry_at = $7, unfinished = $8
             WHERE name = $1 AND holder = $2",
        )
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .bind(opt_micros(schedule.last_ok_at))
        .bind(i64::from(schedule.failed_attempts))
        .bind(opt_text(schedule.last_error.as_deref()))
        .bind(opt_micros(schedule.last_failed_at))
        .bind(opt_micros(schedule.retry_at))
        .bind(opt_text(schedule.unfinished.as_deref()))
        .execute(&self.writes)
        .await
        .map_err(|e| fail("change", "a schedule", e))?;
        Ok(done.rows_affected() > 0)
    }

    async fn release_schedule(&self, name: &str, holder: &str) -> Result<()> {
        sqlx::query(
            "UPDATE schedules SET holder = '', held_until = 0 WHERE name = $1 AND holder = $2",
        )
        .bind(name.to_owned())
        .bind(holder.to_owned())
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("release", "a schedule", e))
    }
}
