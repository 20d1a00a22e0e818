//! Certificates; their versions, orders and deployments are in files of their own.

use async_trait::async_trait;
use sqlx::{Any, any::AnyArguments, query::Query};
use time::OffsetDateTime;
use url::Url;
use vault_proto::ids::{AccountName, AgentName, CertificateName, OrderId};

use super::{
    SqlStore, deployments, fail, one, rollouts,
    row::{Columns, all, int, json, maybe, micros, opt_text, text},
    versions,
};
use crate::error::{Error, Result};
use crate::store::{
    CertificateRecord, CertificateSettings, CertificateStatus, Certificates, ChallengeRecord,
    DeploymentRecord, DeploymentStatus, Identifier, OrderRecord, Turn, VersionRecord,
};

pub(super) fn read(row: &Columns<'_>) -> Result<CertificateRecord> {
    let identifiers: Vec<String> = row.json("identifiers")?;
    let identifiers: Result<Vec<Identifier>> =
        identifiers.iter().map(|text| text.parse()).collect();
    let fallback: Vec<String> = row.json("fallback")?;
    let fallback: Result<Vec<AccountName>> =
        fallback.iter().map(|name| Ok(name.parse()?)).collect();
    Ok(CertificateRecord {
        name: row.parsed("name")?,
        account: row.parsed("account")?,
        identifiers: identifiers?,
        challenge: row.parsed("challenge")?,
        custody: row.parsed("custody")?,
        algorithm: row.parsed("algorithm")?,
        profile: row.opt_text("profile")?,
        must_staple: row.int::<i64>("must_staple")? != 0,
        tls_use: row.parsed("tls_use")?,
        rotate_key: row.int::<i64>("rotate_key")? != 0,
        fallback: fallback?,
        preferred_chain: row.opt_text("preferred_chain")?,
        windows: row.json("windows")?,
        turn: Turn { place: row.int("ca_place")?, failures: row.int("ca_failures")? },
        status: row.parsed("status")?,
        current_version: row.int("current_version")?,
        key_id: row.opt_parsed("key_id")?,
        renew_at: row.time("renew_at")?,
        failed_attempts: row.int("failed_attempts")?,
        last_error: row.opt_text("last_error")?,
        created_at: row.time("created_at")?,
    })
}

fn names(accounts: &[AccountName]) -> Result<String> {
    json(&accounts.iter().map(AccountName::as_str).collect::<Vec<_>>())
}

/// Binds every column in the order of the table.
fn bind(
    query: &'static str,
    certificate: &CertificateRecord,
) -> Result<Query<'static, Any, AnyArguments>> {
    let identifiers: Vec<_> = certificate.identifiers.iter().map(ToString::to_string).collect();
    Ok(sqlx::query(query)
        .bind(certificate.name.to_string())
        .bind(certificate.account.to_string())
        .bind(json(&identifiers)?)
        .bind(certificate.challenge.as_str())
        .bind(certificate.custody.as_str())
        .bind(certificate.algorithm.as_str())
        .bind(opt_text(certificate.profile.as_deref()))
        .bind(i64::from(certificate.must_staple))
        .bind(certificate.tls_use.as_str())
        .bind(i64::from(certificate.rotate_key))
        .bind(names(&certificate.fallback)?)
        .bind(opt_text(certificate.preferred_chain.as_deref()))
        .bind(i64::from(certificate.turn.place))
        .bind(i64::from(certificate.turn.failures))
        .bind(certificate.status.as_str())
        .bind(int(certificate.current_version))
        .bind(certificate.key_id.map(|id| id.to_string()))
        .bind(micros(certificate.renew_at))
        .bind(i64::from(certificate.failed_attempts))
        .bind(opt_text(certificate.last_error.as_deref()))
        .bind(micros(certificate.created_at))
        .bind(json(&certificate.windows)?))
}

impl SqlStore {
    async fn forget(&self, name: &CertificateName) -> Result<()> {
        let subject = format!("certificate {name}");
        let failed = |e| fail("delete", &subject, e);
        let mut tx = self.begin().await?;
        let deployed: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM deployments WHERE certificate = $1")
                .bind(name.to_string())
                .fetch_one(&mut *tx)
                .await
                .map_err(failed)?;
        if deployed > 0 {
            return Err(Error::conflict("delete", &subject, "it is deployed")
                .hint("end its deployments first with `vaultctl cert undeploy`"));
        }
        rollouts::clear(&mut tx, name).await?;
        for query in [
            // Whether something comes of it at the CA will not be known.
            "UPDATE placements SET state = 'issued' WHERE certificate = $1 AND state = 'open'",
            "DELETE FROM challenges WHERE order_id IN
                 (SELECT id FROM orders WHERE certificate = $1)",
            "DELETE FROM orders WHERE certificate = $1",
            "DELETE FROM certificate_versions WHERE certificate = $1",
        ] {
            sqlx::query(query).bind(name.to_string()).execute(&mut *tx).await.map_err(failed)?;
        }
        let done = sqlx::query("DELETE FROM certificates WHERE name = $1")
            .bind(name.to_string())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        one("delete", &subject, done.rows_affected())?;
        tx.commit().await.map_err(failed)
    }
}

#[async_trait]
impl Certificates for SqlStore {
    async fn insert_certificate(
        &self,
        certificate: &CertificateRecord,
        deploy_to: &[AgentName],
    ) -> Result<()> {
        let subject = format!("certificate {}", certificate.name);
        let failed = |e| fail("add", &subject, e);
        let query = "INSERT INTO certificates (name, account, identifiers, challenge, custody,
             algorithm, profile, must_staple, tls_use, rotate_key, fallback, preferred_chain, ca_place,
             ca_failures, status, current_version, key_id, renew_at, failed_attempts, last_error,
             created_at, windows) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
             $15, $16, $17, $18, $19, $20, $21, $22)";
        let mut tx = self.begin().await?;
        bind(query, certificate)?.execute(&mut *tx).await.map_err(failed)?;
        for agent in deploy_to {
            sqlx::query(deployments::INSERT)
                .bind(certificate.name.to_string())
                .bind(agent.to_string())
                .bind(DeploymentStatus::Pending.as_str())
                .bind(micros(certificate.created_at))
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }

    async fn change_settings(
        &self,
        name: &CertificateName,
        from: &CertificateSettings,
        to: &CertificateSettings,
    ) -> Result<bool> {
        let _changing = self.changing();
        let mut query = sqlx::query(
            "UPDATE certificates SET challenge = $9, profile = $10, tls_use = $11, rotate_key = $12,
             fallback = $13, preferred_chain = $14, windows = $15
             WHERE name = $1 AND challenge = $2 AND profile IS NOT DISTINCT FROM $3
             AND tls_use = $4 AND rotate_key = $5 AND fallback = $6
             AND preferred_chain IS NOT DISTINCT FROM $7 AND windows = $8",
        )
        .bind(name.to_string());
        for settings in [from, to] {
            query = query
                .bind(settings.challenge.as_str())
                .bind(opt_text(settings.profile.as_deref()))
                .bind(settings.tls_use.as_str())
                .bind(i64::from(settings.rotate_key))
                .bind(names(&settings.fallback)?)
                .bind(opt_text(settings.preferred_chain.as_deref()))
                .bind(json(&settings.windows)?);
        }
        let done = query.execute(&self.writes).await;
        let changed = done.map_err(|e| fail("change", &format!("certificate {name}"), e))?;
        Ok(changed.rows_affected() > 0)
    }

    async fn make_due(
        &self,
        name: &CertificateName,
        at: OffsetDateTime,
        force: bool,
    ) -> Result<bool> {
        sqlx::query(
            "UPDATE certificates SET renew_at = CASE WHEN renew_at > $2 THEN $2 ELSE renew_at END,
             requested = CASE WHEN $3 = 1 THEN 1 ELSE requested END, asked_anew = 1
             WHERE name = $1 AND ($3 = 1 OR failed_attempts > 0 OR status <> $4)",
        )
        .bind(name.to_string())
        .bind(micros(at))
        .bind(i64::from(force))
        .bind(CertificateStatus::Issued.as_str())
        .execute(&self.writes)
        .await
        .map(|done| done.rows_affected() > 0)
        .map_err(|e| fail("change", &format!("certificate {name}"), e))
    }

    async fn fail_attempt(
        &self,
        name: &CertificateName,
        error: &str,
        failed_attempts: u32,
        renew_at: OffsetDateTime,
    ) -> Result<()> {
        let subject = format!("certificate {name}");
        let done = sqlx::query(
            "UPDATE certificates SET failed_attempts = $2, last_error = $3, renew_at = $4,
             asked_anew = 0 WHERE name = $1",
        )
        .bind(name.to_string())
        .bind(i64::from(failed_attempts))
        .bind(text(error))
        .bind(micros(renew_at))
        .execute(&self.writes)
        .await;
        one("change", &subject, done.map_err(|e| fail("change", &subject, e))?.rows_affected())
    }

    async fn set_turn(&self, name: &CertificateName, turn: Turn) -> Result<()> {
        let subject = format!("certificate {name}");
        let done =
            sqlx::query("UPDATE certificates SET ca_place = $2, ca_failures = $3 WHERE name = $1")
                .bind(name.to_string())
                .bind(i64::from(turn.place))
                .bind(i64::from(turn.failures))
                .execute(&self.writes)
                .await;
        one("change", &subject, done.map_err(|e| fail("change", &subject, e))?.rows_affected())
    }

    async fn delete_certificate(&self, name: &CertificateName) -> Result<()> {
        let _changing = self.changing();
        self.forget(name).await
    }

    async fn certificate(&self, name: &CertificateName) -> Result<Option<CertificateRecord>> {
        let row = sqlx::query("SELECT * FROM certificates WHERE name = $1")
            .bind(name.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a certificate", e))?;
        maybe(row, read)
    }

    async fn certificates(&self) -> Result<Vec<CertificateRecord>> {
        let rows = sqlx::query("SELECT * FROM certificates ORDER BY name")
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "certificates", e))?;
        all(&rows, read)
    }

    async fn record_issuance(
        &self,
        order: OrderId,
        version: &VersionRecord,
        renew_at: OffsetDateTime,
    ) -> Result<()> {
        let _changing = self.changing();
        self.add_version(order, version, renew_at).await
    }

    async fn version(&self, name: &CertificateName, version: u64) -> Result<Option<VersionRecord>> {
        if version == 0 {
            return Ok(None);
        }
        let query = "SELECT * FROM certificate_versions WHERE certificate = $1 AND version = $2";
        let row = sqlx::query(query)
            .bind(name.to_string())
            .bind(int(version))
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a certificate's version", e))?;
        maybe(row, versions::read)
    }

    async fn versions_revoked(
        &self,
        name: &CertificateName,
        reason: &str,
    ) -> Result<Vec<VersionRecord>> {
        let query = "SELECT * FROM certificate_versions WHERE certificate = $1 AND revoked = $2";
        let rows = sqlx::query(query)
            .bind(name.to_string())
            .bind(reason.to_owned())
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "a certificate's versions", e))?;
        all(&rows, versions::read)
    }

    async fn versions(&self, name: &CertificateName) -> Result<Vec<VersionRecord>> {
        let query =
            "SELECT * FROM certificate_versions WHERE certificate = $1 ORDER BY version DESC";
        let rows = sqlx::query(query)
            .bind(name.to_string())
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "a certificate's versions", e))?;
        all(&rows, versions::read)
    }

    async fn revoke_version(
        &self,
        name: &CertificateName,
        version: u64,
        reason: &str,
        renew_at: Option<OffsetDateTime>,
    ) -> Result<()> {
        let _changing = self.changing();
        self.mark_revoked(name, version, reason, renew_at).await
    }

    async fn insert_order(&self, order: &OrderRecord) -> Result<()> {
        self.add_order(order).await
    }

    async fn update_order(&self, order: &OrderRecord) -> Result<()> {
        self.write_order(order).await
    }

    async fn finalize_order(&self, order: OrderId, now: OffsetDateTime) -> Result<()> {
        self.mark_finalizing(order, now).await
    }

    async fn fail_order(
        &self,
        order: OrderId,
        error: &str,
        failed_attempts: u32,
        renew_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<()> {
        self.give_up(order, error, failed_attempts, renew_at, now).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<OrderRecord>> {
        let orders = "SELECT * FROM orders WHERE id = $1";
        Ok(self.orders_by(orders, Some(id.to_string())).await?.into_iter().next())
    }

    async fn order_by_url(&self, url: &Url) -> Result<Option<OrderRecord>> {
        let orders = "SELECT * FROM orders WHERE url = $1";
        Ok(self.orders_by(orders, Some(url.to_string())).await?.into_iter().next())
    }

    async fn open_order(&self, name: &CertificateName) -> Result<Option<OrderRecord>> {
        let orders = "SELECT * FROM orders WHERE certificate = $1
             AND state <> 'issued' AND state <> 'failed'";
        Ok(self.orders_by(orders, Some(name.to_string())).await?.into_iter().next())
    }

    async fn orders_with(&self, account: &AccountName, limit: u32) -> Result<Vec<OrderRecord>> {
        self.orders_of_account(account, limit).await
    }

    async fn open_orders(&self) -> Result<Vec<OrderRecord>> {
        let orders = "SELECT * FROM orders WHERE state <> 'issued' AND state <> 'failed'
             ORDER BY created_at";
        self.orders_by(orders, None).await
    }

    async fn put_challenges(&self, challenges: &[ChallengeRecord]) -> Result<()> {
        self.write_challenges(challenges).await
    }

    async fn remove_challenges(&self, order: OrderId) -> Result<()> {
        self.delete_challenges(order).await
    }

    async fn challenges_of(&self, order: OrderId) -> Result<Vec<ChallengeRecord>> {
        self.read_challenges(order).await
    }

    async fn insert_deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
        now: OffsetDateTime,
    ) -> Result<()> {
        let _changing = self.changing();
        self.add_deployment(certificate, agent, now).await
    }

    async fn update_deployment(&self, deployment: &DeploymentRecord) -> Result<()> {
        self.write_deployment(deployment).await
    }

    async fn remove_deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
    ) -> Result<()> {
        let _changing = self.changing();
        self.delete_deployment(certificate, agent).await
    }

    async fn deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
    ) -> Result<Option<DeploymentRecord>> {
        self.one_deployment(certificate, agent).await
    }

    async fn deployments_of(&self, certificate: &CertificateName) -> Result<Vec<DeploymentRecord>> {
        let query = "SELECT * FROM deployments WHERE certificate = $1 ORDER BY agent";
        self.deployments_by(query, certificate.to_string()).await
    }

    async fn deployments_on(&self, agent: &AgentName) -> Result<Vec<DeploymentRecord>> {
        let query = "SELECT * FROM deployments WHERE agent = $1 ORDER BY certificate";
        self.deployments_by(query, agent.to_string()).await
    }
}
