//! Where certificates go. Helpers of the `Certificates` trait in `certificates.rs`.

use time::OffsetDateTime;
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    SqlStore, Transaction, fail, one,
    row::{Columns, all, int, maybe, micros, text},
};
use crate::error::Result;
use crate::store::{DeploymentRecord, DeploymentStatus};

pub(super) const INSERT: &str = "INSERT INTO deployments (certificate, agent, held_version, status,
     detail, updated_at) VALUES ($1, $2, 0, $3, '', $4) ON CONFLICT DO NOTHING";

pub(super) fn read(row: &Columns<'_>) -> Result<DeploymentRecord> {
    Ok(DeploymentRecord {
        certificate: row.parsed("certificate")?,
        agent: row.parsed("agent")?,
        held_version: row.int("held_version")?,
        status: row.parsed("status")?,
        detail: row.text("detail")?,
        updated_at: row.time("updated_at")?,
    })
}

/// There is a new version, inside a transaction: that an agent refused an earlier one says nothing
/// of it.
pub(super) async fn await_again(
    tx: &mut Transaction,
    certificate: &CertificateName,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query(
        "UPDATE deployments SET status = $2, detail = '', updated_at = $3
         WHERE certificate = $1 AND status = $4",
    )
    .bind(certificate.to_string())
    .bind(DeploymentStatus::Pending.as_str())
    .bind(micros(now))
    .bind(DeploymentStatus::Failed.as_str())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(|e| fail("change", &format!("deployments of {certificate}"), e))
}

impl SqlStore {
    pub(super) async fn add_deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
        now: OffsetDateTime,
    ) -> Result<()> {
        sqlx::query(INSERT)
            .bind(certificate.to_string())
            .bind(agent.to_string())
            .bind(DeploymentStatus::Pending.as_str())
            .bind(micros(now))
            .execute(&self.writes)
            .await
            .map(drop)
            .map_err(|e| fail("deploy", &format!("certificate {certificate} to {agent}"), e))
    }

    pub(super) async fn write_deployment(&self, deployment: &DeploymentRecord) -> Result<()> {
        let subject = format!("deployment of {} on {}", deployment.certificate, deployment.agent);
        let done = sqlx::query(
            "UPDATE deployments SET held_version = $3, status = $4, detail = $5, updated_at = $6
             WHERE certificate = $1 AND agent = $2",
        )
        .bind(deployment.certificate.to_string())
        .bind(deployment.agent.to_string())
        .bind(int(deployment.held_version))
        .bind(deployment.status.as_str())
        .bind(text(&deployment.detail))
        .bind(micros(deployment.updated_at))
        .execute(&self.writes)
        .await
        .map_err(|e| fail("change", &subject, e))?;
        one("change", &subject, done.rows_affected())
    }

    pub(super) async fn delete_deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
    ) -> Result<()> {
        let subject = format!("deployment of {certificate} on {agent}");
        let done = sqlx::query("DELETE FROM deployments WHERE certificate = $1 AND agent = $2")
            .bind(certificate.to_string())
            .bind(agent.to_string())
            .execute(&self.writes)
            .await
            .map_err(|e| fail("remove", &subject, e))?;
        one("remove", &subject, done.rows_affected())?;
        sqlx::query("UPDATE certificates SET canary = NULL WHERE name = $1 AND canary = $2")
            .bind(certificate.to_string())
            .bind(agent.to_string())
            .execute(&self.writes)
            .await
            .map(drop)
            .map_err(|e| fail("change", &format!("certificate {certificate}"), e))
    }

    pub(super) async fn one_deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
    ) -> Result<Option<DeploymentRecord>> {
        let row = sqlx::query("SELECT * FROM deployments WHERE certificate = $1 AND agent = $2")
            .bind(certificate.to_string())
            .bind(agent.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a deployment", e))?;
        maybe(row, read)
    }

    pub(super) async fn deployments_by(
        &self,
        query: &'static str,
        name: String,
    ) -> Result<Vec<DeploymentRecord>> {
        let rows = sqlx::query(query)
            .bind(name)
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "deployments", e))?;
        all(&rows, read)
    }
}
