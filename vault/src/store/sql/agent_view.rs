//! What agents get to see of certificates, and which keys their web servers may use: those of versions that
//! are in date. A revoked one is among them only while it is in force or held by an agent: its successor is
//! on its way, and until that is proven the site stays up.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    SqlStore, certificates, deployments, fail, keys, revocations,
    row::{Columns, all, int, maybe, micros},
    versions,
};
use crate::error::Result;
use crate::store::{
    AgentView, AgentViews, Concerned, KeyRecord, RolloutState, TlsUse, VersionsFor,
};

/// What holds of a certificate `c` and its version `v` whose key is in use at the time `$2`.
macro_rules! in_use {
    () => {
        "(c.custody = 'vault' AND v.key_id IS NOT NULL AND v.not_after > $2
          AND (v.revoked IS NULL OR v.version = c.current_version OR EXISTS
               (SELECT 1 FROM deployments h
                WHERE h.certificate = c.name AND h.held_version = v.version)))"
    };
}

fn read_view(row: &Columns<'_>) -> Result<AgentView> {
    let certificate = certificates::read(row)?;
    let order = match row.opt_parsed("order_id")? {
        Some(id) => Some((id, row.parsed("order_state")?)),
        None => None,
    };
    let rollout: Option<RolloutState> = row.opt_parsed("rollout_state")?;
    let wanted_version = match rollout {
        Some(state) if state.is_open() => row.int("rollout_version")?,
        Some(_) => row.int("rollout_wanted")?,
        None => certificate.current_version,
    };
    Ok(AgentView {
        deployment: deployments::read(&row.under("d_"))?,
        order,
        wanted_version,
        is_stapled: row.int::<i64>("staples")? > 0,
        certificate,
    })
}

#[async_trait]
impl AgentViews for SqlStore {
    async fn agent_view(
        &self,
        name: &CertificateName,
        agent: &AgentName,
    ) -> Result<Option<AgentView>> {
        let row = sqlx::query(
            "SELECT c.*, d.certificate AS d_certificate, d.agent AS d_agent,
                    d.held_version AS d_held_version, d.status AS d_status, d.detail AS d_detail,
                    d.updated_at AS d_updated_at, o.id AS order_id, o.state AS order_state,
                    r.state AS rollout_state, r.version AS rollout_version,
                    COALESCE(a.wanted_version, r.base) AS rollout_wanted,
                    (SELECT COUNT(*) FROM staples s WHERE s.certificate = c.name) AS staples
             FROM certificates c
             JOIN deployments d ON d.certificate = c.name AND d.agent = $2
             LEFT JOIN orders o
               ON o.certificate = c.name AND o.state <> 'issued' AND o.state <> 'failed'
             LEFT JOIN rollouts r ON r.certificate = c.name
             LEFT JOIN rollout_agents a ON a.certificate = c.name AND a.agent = $2
             WHERE c.name = $1",
        )
        .bind(name.to_string())
        .bind(agent.to_string())
        .fetch_optional(&self.reads)
        .await
        .map_err(|e| fail("read", &format!("certificate {name} for agent {agent}"), e))?;
        maybe(row, read_view)
    }

    async fn versions_for(
        &self,
        name: &CertificateName,
        wanted: u64,
        now: OffsetDateTime,
    ) -> Result<VersionsFor> {
        let query = concat!(
            "SELECT v.*, CAST(CASE WHEN ",
            in_use!(),
            " THEN 1 ELSE 0 END AS BIGINT) AS in_use,
                    s.response, s.this_update, s.next_update, s.fetched_at
             FROM certificates c JOIN certificate_versions v ON v.certificate = c.name
             LEFT JOIN staples s ON s.certificate = v.certificate AND s.version = v.version
             WHERE c.name = $1 AND (v.version = $3 OR ",
            in_use!(),
            ") ORDER BY v.version DESC"
        );
        let rows = sqlx::query(query)
            .bind(name.to_string())
            .bind(micros(now))
            .bind(int(wanted))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "a certificate's versions", e))?;
        let mut read = VersionsFor::default();
        for row in &rows {
            let row = Columns::of(row);
            let version = versions::read(&row)?;
            if version.version == wanted {
                let staple = row.opt_blob("response")?.map(|_| revocations::read_staple(&row));
                read.wanted = Some((version.clone(), staple.transpose()?));
            }
            if row.int::<i64>("in_use")? != 0 {
                read.in_use.push(version);
            }
        }
        Ok(read)
    }

    async fn concerned(&self, name: &CertificateName) -> Result<Concerned> {
        let rows = sqlx::query(
            "SELECT d.agent, r.state FROM deployments d
             LEFT JOIN rollouts r ON r.certificate = d.certificate
             WHERE d.certificate = $1 ORDER BY d.agent",
        )
        .bind(name.to_string())
        .fetch_all(&self.reads)
        .await
        .map_err(|e| fail("read", &format!("where certificate {name} goes"), e))?;
        let rows = all(&rows, |row| {
            let state: Option<RolloutState> = row.opt_parsed("state")?;
            Ok((row.parsed("agent")?, state.is_some_and(|state| state != RolloutState::Done)))
        })?;
        // One whose last deployment has just ended may be rolled out still.
        let is_rolled_out = rows.is_empty() || rows.iter().any(|(_, rolled_out)| *rolled_out);
        Ok(Concerned { agents: rows.into_iter().map(|(agent, _)| agent).collect(), is_rolled_out })
    }

    async fn keys_in_use_on(
        &self,
        agent: &AgentName,
        now: OffsetDateTime,
    ) -> Result<Vec<(KeyRecord, TlsUse)>> {
        let query = concat!(
            "SELECT k.*, c.tls_use FROM keys k JOIN
             (SELECT DISTINCT v.key_id AS key_id, c.tls_use AS tls_use FROM deployments d
              JOIN certificates c ON c.name = d.certificate
              JOIN certificate_versions v ON v.certificate = c.name
              WHERE d.agent = $1 AND ",
            in_use!(),
            ") c ON c.key_id = k.id WHERE k.state IN ('active', 'retired')"
        );
        let rows = sqlx::query(query)
            .bind(agent.to_string())
            .bind(micros(now))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", &format!("what agent {agent} signs with"), e))?;
        all(&rows, |row| Ok((keys::read(row)?, row.parsed("tls_use")?)))
    }
}
