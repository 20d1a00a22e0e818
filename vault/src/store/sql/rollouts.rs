//! Rollouts, and what each agent is sent in their course.

use std::collections::BTreeMap;

use async_trait::async_trait;
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    SqlStore, Transaction, fail, one,
    row::{Columns, all, int, maybe, micros, text},
};
use crate::error::Result;
use crate::store::{RolloutRecord, RolloutState, Rollouts, VersionRecord};

pub(super) fn read(row: &Columns<'_>) -> Result<RolloutRecord> {
    Ok(RolloutRecord {
        certificate: row.parsed("certificate")?,
        version: row.int("version")?,
        base: row.int("base")?,
        canary: row.opt_parsed("canary")?,
        state: row.parsed("state")?,
        since: row.time("since")?,
        detail: row.text("detail")?,
        revision: row.int("revision")?,
    })
}

/// Begins the rollout of a version that is about to become the current one, inside a transaction:
/// from the first moment on only those get it who shall. A first version goes to all at once, as
/// does one that goes to a single agent.
pub(super) async fn begin(tx: &mut Transaction, version: &VersionRecord) -> Result<()> {
    let name = version.certificate.to_string();
    let failed = |e| fail("begin", &format!("the rollout of certificate {name}"), e);
    let known = sqlx::query(
        "SELECT c.current_version,
                (SELECT COUNT(*) FROM deployments d WHERE d.certificate = c.name) AS agents
         FROM certificates c WHERE c.name = $1",
    )
    .bind(name.clone())
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed)?;
    let known = maybe(known, |row| Ok((row.int("current_version")?, row.int("agents")?)))?;
    let (before, agents): (u64, u64) = known.unwrap_or_default();
    let last = sqlx::query("SELECT * FROM rollouts WHERE certificate = $1")
        .bind(name.clone())
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed)?;
    let last = maybe(last, read)?;
    if last.is_some() {
        clear(tx, &version.certificate).await?;
    }
    if before == 0 || agents < 2 {
        return Ok(());
    }
    let closed = last.as_ref().filter(|last| !last.state.is_open());
    let rollout = RolloutRecord {
        certificate: version.certificate.clone(),
        version: version.version,
        base: closed.map_or(before, |last| last.base),
        canary: None,
        state: RolloutState::Running,
        since: version.issued_at,
        detail: String::new(),
        revision: last.map_or(1, |last| last.revision + 1),
    };
    insert(tx, &rollout).await?;
    // What an agent has proven beyond that stays with it.
    sqlx::query(
        "INSERT INTO rollout_agents (certificate, agent, wanted_version)
         SELECT certificate, agent, CASE WHEN held_version > $2 AND held_version < $3
             THEN held_version ELSE $2 END FROM deployments WHERE certificate = $1",
    )
    .bind(name.clone())
    .bind(int(rollout.base))
    .bind(int(rollout.version))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(failed)
}

/// Forgets a certificate's rollout, inside a transaction.
pub(super) async fn clear(tx: &mut Transaction, certificate: &CertificateName) -> Result<()> {
    for query in [
        "DELETE FROM rollout_agents WHERE certificate = $1",
        "DELETE FROM rollouts WHERE certificate = $1",
    ] {
        sqlx::query(query)
            .bind(certificate.to_string())
            .execute(&mut **tx)
            .await
            .map_err(|e| fail("end", &format!("the rollout of certificate {certificate}"), e))?;
    }
    Ok(())
}

async fn insert(tx: &mut Transaction, rollout: &RolloutRecord) -> Result<()> {
    sqlx::query(
        "INSERT INTO rollouts (certificate, version, base, canary, state, since, detail, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(rollout.certificate.to_string())
    .bind(int(rollout.version))
    .bind(int(rollout.base))
    .bind(rollout.canary.as_ref().map(ToString::to_string))
    .bind(rollout.state.as_str())
    .bind(micros(rollout.since))
    .bind(text(&rollout.detail))
    .bind(int(rollout.revision))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(|e| fail("begin", &format!("the rollout of certificate {}", rollout.certificate), e))
}

#[async_trait]
impl Rollouts for SqlStore {
    async fn rollout(&self, certificate: &CertificateName) -> Result<Option<RolloutRecord>> {
        let row = sqlx::query("SELECT * FROM rollouts WHERE certificate = $1")
            .bind(certificate.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a rollout", e))?;
        maybe(row, read)
    }

    async fn unfinished_rollouts(&self) -> Result<Vec<RolloutRecord>> {
        let rows = sqlx::query("SELECT * FROM rollouts WHERE state <> $1 ORDER BY certificate")
            .bind(RolloutState::Done.as_str())
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "rollouts", e))?;
        all(&rows, read)
    }

    async fn move_rollout(
        &self,
        from: &RolloutRecord,
        to: &RolloutRecord,
        wanted: &BTreeMap<AgentName, u64>,
    ) -> Result<bool> {
        let failed =
            |e| fail("change", &format!("the rollout of certificate {}", to.certificate), e);
        let mut tx = self.begin().await?;
        let done = sqlx::query(
            "UPDATE rollouts SET canary = $2, state = $3, since = $4, detail = $5, revision = $6
             WHERE certificate = $1 AND revision = $7",
        )
        .bind(to.certificate.to_string())
        .bind(to.canary.as_ref().map(ToString::to_string))
        .bind(to.state.as_str())
        .bind(micros(to.since))
        .bind(text(&to.detail))
        .bind(int(from.revision + 1))
        .bind(int(from.revision))
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM rollout_agents WHERE certificate = $1")
            .bind(to.certificate.to_string())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        for (agent, version) in wanted {
            sqlx::query(
                "INSERT INTO rollout_agents (certificate, agent, wanted_version)
                 VALUES ($1, $2, $3)",
            )
            .bind(to.certificate.to_string())
            .bind(agent.to_string())
            .bind(int(*version))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        }
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }

    async fn canary(&self, certificate: &CertificateName) -> Result<Option<AgentName>> {
        let row = sqlx::query("SELECT canary FROM certificates WHERE name = $1")
            .bind(certificate.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a certificate's canary", e))?;
        Ok(maybe(row, |row| row.opt_parsed("canary"))?.flatten())
    }

    async fn set_canary(
        &self,
        certificate: &CertificateName,
        agent: Option<&AgentName>,
    ) -> Result<bool> {
        let subject = format!("certificate {certificate}");
        let done = sqlx::query(
            "UPDATE certificates SET canary = $2 WHERE name = $1 AND ($3 = 0 OR EXISTS
             (SELECT 1 FROM deployments WHERE certificate = $1 AND agent = $2))",
        )
        .bind(certificate.to_string())
        .bind(agent.map(ToString::to_string))
        .bind(i64::from(agent.is_some()))
        .execute(&self.writes)
        .await
        .map_err(|e| fail("change", &subject, e))?;
        match agent {
            None => one("change", &subject, done.rows_affected()).map(|()| true),
            Some(_) => Ok(done.rows_affected() > 0),
        }
    }
}
