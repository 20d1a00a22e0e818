//! Checks of certificates and their staples.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::CertificateName;

use super::{
    SqlStore, Transaction, fail, one,
    row::{Columns, all, int, maybe, micros, opt_micros, text},
    versions,
};
use crate::error::Result;
use crate::store::{CertificateStatus, RevocationCheck, Revocations, Staple, VersionRecord};

pub(super) fn read(row: &Columns<'_>) -> Result<RevocationCheck> {
    Ok(RevocationCheck {
        certificate: row.parsed("certificate")?,
        version: row.int("version")?,
        status: row.parsed("status")?,
        source: row.text("source")?,
        detail: row.text("detail")?,
        checked_at: row.time("checked_at")?,
        unknown_since: row.opt_time("unknown_since")?,
        next_at: row.time("next_at")?,
    })
}

pub(super) fn read_staple(row: &Columns<'_>) -> Result<Staple> {
    Ok(Staple {
        certificate: row.parsed("certificate")?,
        version: row.int("version")?,
        response: row.blob("response")?,
        this_update: row.time("this_update")?,
        next_update: row.time("next_update")?,
        fetched_at: row.time("fetched_at")?,
    })
}

fn subject(certificate: &CertificateName, version: u64) -> String {
    format!("version {version} of certificate {certificate}")
}

async fn put(tx: &mut Transaction, check: &RevocationCheck) -> Result<()> {
    sqlx::query(
        "INSERT INTO revocation_checks (certificate, version, status, source, detail, checked_at,
         unknown_since, next_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (certificate, version) DO UPDATE SET status = excluded.status,
         source = excluded.source, detail = excluded.detail, checked_at = excluded.checked_at,
         unknown_since = excluded.unknown_since, next_at = excluded.next_at",
    )
    .bind(check.certificate.to_string())
    .bind(int(check.version))
    .bind(check.status.as_str())
    .bind(text(&check.source))
    .bind(text(&check.detail))
    .bind(micros(check.checked_at))
    .bind(opt_micros(check.unknown_since))
    .bind(micros(check.next_at))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(|e| fail("note a check of", &subject(&check.certificate, check.version), e))
}

#[async_trait]
impl Revocations for SqlStore {
    async fn versions_to_check(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<VersionRecord>> {
        let rows = sqlx::query(
            "SELECT v.* FROM certificate_versions v
             JOIN certificates c ON c.name = v.certificate
             LEFT JOIN revocation_checks r
               ON r.certificate = v.certificate AND r.version = v.version
             WHERE v.revoked IS NULL AND v.not_after > $1 AND COALESCE(r.next_at, 0) <= $1
               AND (v.version = c.current_version OR EXISTS (SELECT 1 FROM deployments d
                    WHERE d.certificate = v.certificate AND d.held_version = v.version))
             ORDER BY COALESCE(r.next_at, 0), v.certificate, v.version LIMIT $2",
        )
        .bind(micros(now))
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await
        .map_err(|e| fail("read", "versions to check", e))?;
        all(&rows, versions::read)
    }

    async fn next_check(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>> {
        let row = sqlx::query(
            "SELECT MIN(r.next_at) AS next_at FROM revocation_checks r JOIN certificate_versions v
             ON v.certificate = r.certificate AND v.version = r.version
             WHERE r.next_at > $1 AND v.revoked IS NULL",
        )
        .bind(micros(now))
        .fetch_optional(&self.reads)
        .await
        .map_err(|e| fail("read", "the next check", e))?;
        maybe(row, |row| row.opt_time("next_at")).map(Option::flatten)
    }

    async fn put_revocation_check(&self, check: &RevocationCheck) -> Result<()> {
        let mut tx = self.begin().await?;
        put(&mut tx, check).await?;
        let subject = subject(&check.certificate, check.version);
        tx.commit().await.map_err(|e| fail("note a check of", &subject, e))
    }

    async fn revocation_check(
        &self,
        certificate: &CertificateName,
        version: u64,
    ) -> Result<Option<RevocationCheck>> {
        let query = "SELECT * FROM revocation_checks WHERE certificate = $1 AND version = $2";
        let row = sqlx::query(query)
            .bind(certificate.to_string())
            .bind(int(version))
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read a check of", &subject(certificate, version), e))?;
        maybe(row, read)
    }

    async fn record_revocation(
        &self,
        check: &RevocationCheck,
        reason: &str,
        due: Option<OffsetDateTime>,
    ) -> Result<()> {
        let _changing = self.changing();
        let subject = subject(&check.certificate, check.version);
        let failed = |e| fail("revoke", &subject, e);
        let mut tx = self.begin().await?;
        put(&mut tx, check).await?;
        let done = sqlx::query(
            "UPDATE certificate_versions SET revoked = $3 WHERE certificate = $1 AND version = $2",
        )
        .bind(check.certificate.to_string())
        .bind(int(check.version))
        .bind(text(reason))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        one("revoke", &subject, done.rows_affected())?;
        sqlx::query("UPDATE certificates SET status = $3 WHERE name = $1 AND current_version = $2")
            .bind(check.certificate.to_string())
            .bind(int(check.version))
            .bind(CertificateStatus::Revoked.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        if let Some(due) = due {
            sqlx::query("UPDATE certificates SET renew_at = $2 WHERE name = $1 AND renew_at > $2")
                .bind(check.certificate.to_string())
                .bind(micros(due))
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }

    async fn put_staple(&self, staple: &Staple) -> Result<()> {
        sqlx::query(
            "INSERT INTO staples (certificate, version, response, this_update, next_update,
             fetched_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (certificate, version) DO UPDATE SET response = excluded.response,
             this_update = excluded.this_update, next_update = excluded.next_update,
             fetched_at = excluded.fetched_at",
        )
        .bind(staple.certificate.to_string())
        .bind(int(staple.version))
        .bind(staple.response.clone())
        .bind(micros(staple.this_update))
        .bind(micros(staple.next_update))
        .bind(micros(staple.fetched_at))
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("keep a staple of", &subject(&staple.certificate, staple.version), e))
    }

    async fn staple(&self, certificate: &CertificateName, version: u64) -> Result<Option<Staple>> {
        let row = sqlx::query("SELECT * FROM staples WHERE certificate = $1 AND version = $2")
            .bind(certificate.to_string())
            .bind(int(version))
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read a staple of", &subject(certificate, version), e))?;
        maybe(row, read_staple)
    }
}
