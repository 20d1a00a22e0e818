//! Open alerts.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{
    SqlStore, fail,
    row::{Columns, all, micros, text},
};
use crate::error::Result;
use crate::store::{AlertKind, AlertRecord, Alerts};

fn read(row: &Columns<'_>) -> Result<AlertRecord> {
    Ok(AlertRecord {
        kind: row.parsed("kind")?,
        subject: row.text("subject")?,
        detail: row.text("detail")?,
        since: row.time("since")?,
    })
}

#[async_trait]
impl Alerts for SqlStore {
    async fn raise_alert(
        &self,
        kind: AlertKind,
        subject: &str,
        detail: &str,
        now: OffsetDateTime,
    ) -> Result<bool> {
        let failed = |e| fail("raise", &format!("alert {kind} of {subject}"), e);
        let mut tx = self.begin().await?;
        let opened = sqlx::query(
            "INSERT INTO alerts (kind, subject, detail, since) VALUES ($1, $2, $3, $4)
             ON CONFLICT (kind, subject) DO NOTHING",
        )
        .bind(kind.as_str())
        .bind(text(subject))
        .bind(text(detail))
        .bind(micros(now))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let new = opened.rows_affected() > 0;
        if !new {
            sqlx::query("UPDATE alerts SET detail = $3 WHERE kind = $1 AND subject = $2")
                .bind(kind.as_str())
                .bind(text(subject))
                .bind(text(detail))
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
        tx.commit().await.map_err(failed)?;
        Ok(new)
    }

    async fn clear_alert(&self, kind: AlertKind, subject: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM alerts WHERE kind = $1 AND subject = $2")
            .bind(kind.as_str())
            .bind(text(subject))
            .execute(&self.writes)
            .await
            .map_err(|e| fail("clear", &format!("alert {kind} of {subject}"), e))?;
        Ok(done.rows_affected() > 0)
    }

    async fn alerts_on(&self, subject: &str) -> Result<Vec<AlertRecord>> {
        let rows = sqlx::query("SELECT * FROM alerts WHERE subject = $1 ORDER BY kind")
            .bind(text(subject))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "alerts", e))?;
        all(&rows, read)
    }

    async fn open_alerts(&self) -> Result<Vec<AlertRecord>> {
        let rows = sqlx::query("SELECT * FROM alerts ORDER BY since, kind, subject")
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "alerts", e))?;
        all(&rows, read)
    }
}
