//! What CAs say of when to renew.

use async_trait::async_trait;
use sqlx::Row as _;
use time::OffsetDateTime;
use vault_proto::ids::{AccountName, CertificateName};

use super::{
    SqlStore, fail,
    row::{Columns, int, maybe, micros, opt_micros},
};
use crate::error::{Error, Result};
use crate::store::{CertificateStatus, RenewalInfoRecord, RenewalInfos};

pub(super) fn read(row: &Columns<'_>) -> Result<RenewalInfoRecord> {
    Ok(RenewalInfoRecord {
        certificate: row.parsed("certificate")?,
        version: row.int("version")?,
        window: row.opt_time("window_start")?.zip(row.opt_time("window_end")?),
        explanation_url: row.opt_parsed("explanation_url")?,
        selected_at: row.opt_time("selected_at")?,
        checked_at: row.opt_time("checked_at")?,
        next_check_at: row.time("next_check_at")?,
        failures: row.int("failures")?,
        replaces_refused: row.int::<i64>("replaces_refused")? != 0,
    })
}

/// Holds the certificate's row until the transaction ends; no row where the version is another.
const STILL: &str = "UPDATE certificates SET current_version = current_version
     WHERE name = $1 AND current_version = $2";

const PLAN: &str = "UPDATE certificates SET renew_at = CASE
         WHEN renew_at > $3 THEN $3
         WHEN failed_attempts = 0 AND renew_at > $4 AND NOT EXISTS (SELECT 1 FROM orders
              WHERE certificate = $1 AND state <> 'issued' AND state <> 'failed') THEN $3
         ELSE renew_at END
     WHERE name = $1 AND current_version = $2";

const KEEP: &str = "INSERT INTO renewal_info (certificate, version, window_start, window_end,
     explanation_url, selected_at, checked_at, next_check_at, failures, replaces_refused)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
     ON CONFLICT (certificate) DO UPDATE SET version = excluded.version,
     window_start = excluded.window_start, window_end = excluded.window_end,
     explanation_url = excluded.explanation_url, selected_at = excluded.selected_at,
     checked_at = excluded.checked_at, next_check_at = excluded.next_check_at,
     failures = excluded.failures, replaces_refused = CASE
         WHEN renewal_info.version = excluded.version AND renewal_info.replaces_refused = 1 THEN 1
         ELSE excluded.replaces_refused END";

#[async_trait]
impl RenewalInfos for SqlStore {
    async fn renewal_info(&self, name: &CertificateName) -> Result<Option<RenewalInfoRecord>> {
        let row = sqlx::query("SELECT * FROM renewal_info WHERE certificate = $1")
            .bind(name.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "renewal information", e))?;
        maybe(row, read)
    }

    async fn renewal_info_due(
        &self,
        account: &AccountName,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<CertificateName>> {
        let failed = |e| fail("read", "renewal information that is due", e);
        let rows = sqlx::query(
            "SELECT c.name FROM certificates c
             JOIN certificate_versions v
                  ON v.certificate = c.name AND v.version = c.current_version
             LEFT JOIN renewal_info r
                  ON r.certificate = c.name AND r.version = c.current_version
             WHERE v.account = $1 AND c.status = $2 AND v.not_after > $3
             AND (r.next_check_at IS NULL OR r.next_check_at <= $3)
             ORDER BY COALESCE(r.next_check_at, 0), c.name LIMIT $4",
        )
        .bind(account.to_string())
        .bind(CertificateStatus::Issued.as_str())
        .bind(micros(now))
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await
        .map_err(failed)?;
        let name = |row: &sqlx::any::AnyRow| {
            let name: String = row.try_get(0).map_err(failed)?;
            name.parse().map_err(Error::from)
        };
        rows.iter().map(name).collect()
    }

    async fn keep_renewal_info(
        &self,
        info: &RenewalInfoRecord,
        renew_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Result<bool> {
        let subject = format!("renewal information of certificate {}", info.certificate);
        let failed = |e| fail("keep", &subject, e);
        let mut tx = self.begin().await?;
        let query = sqlx::query(if renew_at.is_some() { PLAN } else { STILL })
            .bind(info.certificate.to_string())
            .bind(int(info.version));
        let query = match renew_at {
            Some(at) => query.bind(micros(at)).bind(micros(now)),
            None => query,
        };
        if query.execute(&mut *tx).await.map_err(failed)?.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(KEEP)
            .bind(info.certificate.to_string())
            .bind(int(info.version))
            .bind(opt_micros(info.window.map(|(start, _)| start)))
            .bind(opt_micros(info.window.map(|(_, end)| end)))
            .bind(info.explanation_url.as_ref().map(ToString::to_string))
            .bind(opt_micros(info.selected_at))
            .bind(opt_micros(info.checked_at))
            .bind(micros(info.next_check_at))
            .bind(i64::from(info.failures))
            .bind(i64::from(info.replaces_refused))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }

    async fn refuse_replaces(
        &self,
        name: &CertificateName,
        version: u64,
        now: OffsetDateTime,
    ) -> Result<()> {
        let subject = format!("renewal information of certificate {name}");
        let failed = |e| fail("keep", &subject, e);
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM renewal_info WHERE certificate = $1 AND version <> $2")
            .bind(name.to_string())
            .bind(int(version))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO renewal_info (certificate, version, next_check_at, failures,
             replaces_refused) VALUES ($1, $2, $3, 0, 1)
             ON CONFLICT (certificate) DO UPDATE SET replaces_refused = 1",
        )
        .bind(name.to_string())
        .bind(int(version))
        .bind(micros(now))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }
}
