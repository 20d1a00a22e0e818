//! All that is shown of certificates.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::any::AnyRow;
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    SqlStore, certificates, deployments, fail, renewal_info, revocations, rollouts,
    row::{Columns, all},
    versions,
};
use crate::error::Result;
use crate::store::{CertificateRecord, CertificateView, CertificateViews, OrderState, RolledOut};

/// Certificates, and what there is once for each at most.
macro_rules! certificates {
    ($rest:literal) => {
        concat!(
            "SELECT c.*, o.state AS o_state, s.next_update AS s_next_update,
             v.certificate AS v_certificate, v.version AS v_version, v.account AS v_account,
             v.chain_pem AS v_chain_pem, v.serial AS v_serial, v.not_before AS v_not_before,
             v.not_after AS v_not_after, v.fingerprint AS v_fingerprint, v.key_id AS v_key_id,
             v.issued_at AS v_issued_at, v.revoked AS v_revoked,
             i.certificate AS i_certificate, i.version AS i_version,
             i.window_start AS i_window_start, i.window_end AS i_window_end,
             i.explanation_url AS i_explanation_url, i.selected_at AS i_selected_at,
             i.checked_at AS i_checked_at, i.next_check_at AS i_next_check_at,
             i.failures AS i_failures, i.replaces_refused AS i_replaces_refused,
             k.certificate AS k_certificate, k.version AS k_version, k.status AS k_status,
             k.source AS k_source, k.detail AS k_detail, k.checked_at AS k_checked_at,
             k.unknown_since AS k_unknown_since, k.next_at AS k_next_at
             FROM certificates c
             LEFT JOIN certificate_versions v
               ON v.certificate = c.name AND v.version = c.current_version
             LEFT JOIN orders o
               ON o.certificate = c.name AND o.state <> 'issued' AND o.state <> 'failed'
             LEFT JOIN renewal_info i ON i.certificate = c.name AND i.version = c.current_version
             LEFT JOIN revocation_checks k
               ON k.certificate = c.name AND k.version = c.current_version
             LEFT JOIN staples s ON s.certificate = c.name AND s.version = c.current_version ",
            $rest
        )
    };
}

/// Rollouts with what each agent is sent. One statement sees one moment in either database; two would not.
const ROLLOUTS: &str = "SELECT r.*, a.agent, a.wanted_version FROM rollouts r
     LEFT JOIN rollout_agents a ON a.certificate = r.certificate
     WHERE r.certificate >= $1 AND r.certificate <= $2";

/// Where certificates go.
const DEPLOYMENTS: &str = "SELECT * FROM deployments WHERE certificate >= $1 AND certificate <= $2
     ORDER BY agent";

/// Reads what there is once, where it is there.
fn read(row: &Columns<'_>) -> Result<CertificateView> {
    fn of<T>(
        row: &Columns<'_>,
        prefix: &'static str,
        read: impl Fn(&Columns<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let its = row.under(prefix);
        let there = its.opt_text("certificate")?.is_some();
        there.then(|| read(&its)).transpose()
    }
    let order: Option<OrderState> = row.opt_parsed("o_state")?;
    Ok(CertificateView {
        order,
        version: of(row, "v_", versions::read)?,
        renewal_info: of(row, "i_", renewal_info::read)?,
        check: of(row, "k_", revocations::read)?,
        staple_next_update: row.opt_time("s_next_update")?,
        rolled_out: None,
        deployments: Vec::new(),
        canary: row.opt_parsed("canary")?,
        certificate: certificates::read(row)?,
    })
}

/// Rollouts by certificate, from a row for each agent.
fn rolled_out(rows: &[AnyRow]) -> Result<HashMap<CertificateName, RolledOut>> {
    let mut read: HashMap<CertificateName, RolledOut> = HashMap::new();
    for row in rows {
        let row = Columns::of(row);
        let rollout = rollouts::read(&row)?;
        let agent: Option<AgentName> = row.opt_parsed("agent")?;
        let its = read.entry(rollout.certificate.clone());
        let its = its.or_insert_with(|| RolledOut { rollout, chosen: Default::default() });
        if let Some(agent) = agent {
            its.chosen.insert(agent, row.int("wanted_version")?);
        }
    }
    Ok(read)
}

impl SqlStore {
    /// Adds what there may be several of to certificates that are in the order of their names, with none left
    /// out between the first and the last.
    async fn whole(&self, views: Vec<CertificateView>) -> Result<Vec<CertificateView>> {
        let failed = |e| fail("read", "where certificates go", e);
        let (Some(first), Some(last)) = (views.first(), views.last()) else { return Ok(views) };
        let ends = [first, last].map(|view| view.certificate.name.to_string());
        let between = |query: &'static str| {
            let [first, last] = ends.clone();
            sqlx::query(query).bind(first).bind(last).fetch_all(&self.reads)
        };
        let mut rolled_out = rolled_out(&between(ROLLOUTS).await.map_err(failed)?)?;
        let mut deployed: HashMap<_, Vec<_>> = HashMap::new();
        for deployment in all(&between(DEPLOYMENTS).await.map_err(failed)?, deployments::read)? {
            deployed.entry(deployment.certificate.clone()).or_default().push(deployment);
        }
        let whole = |view: CertificateView| {
            let CertificateRecord { name, current_version, .. } = &view.certificate;
            // One of a version that was issued since the certificate was read says nothing of it.
            let rolled_out =
                rolled_out.remove(name).filter(|r| r.rollout.version == *current_version);
            let deployments = deployed.remove(name).unwrap_or_default();
            CertificateView { rolled_out, deployments, ..view }
        };
        Ok(views.into_iter().map(whole).collect())
    }
}

#[async_trait]
impl CertificateViews for SqlStore {
    async fn certificate_view(&self, name: &CertificateName) -> Result<Option<CertificateView>> {
        let one = sqlx::query(certificates!("WHERE c.name = $1"))
            .bind(name.to_string())
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", &format!("certificate {name}"), e))?;
        Ok(self.whole(all(&one, read)?).await?.pop())
    }

    async fn certificate_views(
        &self,
        after: Option<&CertificateName>,
        limit: u32,
    ) -> Result<Vec<CertificateView>> {
        let some = sqlx::query(certificates!("WHERE c.name > $1 ORDER BY c.name LIMIT $2"))
            .bind(after.map(ToString::to_string).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "certificates", e))?;
        self.whole(all(&some, read)?).await
    }
}
