//! Versions of certificates. Helpers of the `Certificates` trait in `certificates.rs`.

use time::OffsetDateTime;
use vault_proto::ids::{CertificateName, OrderId};

use super::{
    SqlStore, fail, one,
    row::{Columns, int, micros, opt_micros},
};
use crate::error::Result;
use crate::store::{CertificateStatus, OrderState, VersionRecord};

pub(super) fn read(row: &Columns<'_>) -> Result<VersionRecord> {
    Ok(VersionRecord {
        certificate: row.parsed("certificate")?,
        version: row.int("version")?,
        account: row.parsed("account")?,
        chain_pem: row.text("chain_pem")?,
        serial: row.text("serial")?,
        not_before: row.time("not_before")?,
        not_after: row.time("not_after")?,
        fingerprint: row.text("fingerprint")?,
        key_id: row.opt_parsed("key_id")?,
        issued_at: row.time("issued_at")?,
        revoked: row.opt_text("revoked")?,
    })
}

impl SqlStore {
    pub(super) async fn add_version(
        &self,
        order: OrderId,
        version: &VersionRecord,
        renew_at: OffsetDateTime,
    ) -> Result<()> {
        let subject = format!("version {} of certificate {}", version.version, version.certificate);
        let failed = |e| fail("record", &subject, e);
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO certificate_versions (certificate, version, account, chain_pem, serial,
             not_before, not_after, fingerprint, key_id, issued_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(version.certificate.to_string())
        .bind(int(version.version))
        .bind(version.account.to_string())
        .bind(version.chain_pem.clone())
        .bind(version.serial.clone())
        .bind(micros(version.not_before))
        .bind(micros(version.not_after))
        .bind(version.fingerprint.clone())
        .bind(version.key_id.map(|id| id.to_string()))
        .bind(micros(version.issued_at))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        super::rollouts::begin(&mut tx, version).await?;
        let done = sqlx::query(
            "UPDATE certificates SET current_version = $2, status = $3, key_id = $4, renew_at = $5,
             failed_attempts = 0, last_error = NULL, ca_place = 0, ca_failures = 0, requested = 0,
             asked_anew = 0
             WHERE name = $1",
        )
        .bind(version.certificate.to_string())
        .bind(int(version.version))
        .bind(CertificateStatus::Issued.as_str())
        .bind(version.key_id.map(|id| id.to_string()))
        .bind(micros(renew_at))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        one("record", &subject, done.rows_affected())?;
        super::deployments::await_again(&mut tx, &version.certificate, version.issued_at).await?;
        super::orders::end(&mut tx, order, OrderState::Issued, None, version.issued_at).await?;
        tx.commit().await.map_err(failed)
    }

    pub(super) async fn mark_revoked(
        &self,
        name: &CertificateName,
        version: u64,
        reason: &str,
        renew_at: Option<OffsetDateTime>,
    ) -> Result<()> {
        let subject = format!("version {version} of certificate {name}");
        let failed = |e| fail("revoke", &subject, e);
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "UPDATE certificate_versions SET revoked = $3 WHERE certificate = $1 AND version = $2",
        )
        .bind(name.to_string())
        .bind(int(version))
        .bind(reason.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        one("revoke", &subject, done.rows_affected())?;
        sqlx::query(
            "UPDATE certificates SET status = $3, renew_at = COALESCE($4, renew_at)
             WHERE name = $1 AND current_version = $2",
        )
        .bind(name.to_string())
        .bind(int(version))
        .bind(CertificateStatus::Revoked.as_str())
        .bind(opt_micros(renew_at))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }
}
