//! Which keys web servers may use: those of versions that are in date. A revoked one is among them only
//! while it is in force or held by an agent: its successor is on its way, and until that is proven the
//! site stays up.

use time::OffsetDateTime;
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    SqlStore, fail, keys,
    row::{all, micros},
    versions,
};
use crate::error::Result;
use crate::store::{KeyRecord, TlsUse, VersionRecord};

/// What holds of a certificate `c` and its version `v` whose key is in use at the time `$2`.
macro_rules! in_use {
    ($select:literal, $whose:literal) => {
        concat!(
            $select,
            " AND c.custody = 'vault' AND v.key_id IS NOT NULL AND v.not_after > $2
              AND (v.revoked IS NULL OR v.version = c.current_version OR EXISTS
                   (SELECT 1 FROM deployments h
                    WHERE h.certificate = c.name AND h.held_version = v.version)) ",
            $whose
        )
    };
}

impl SqlStore {
    pub(super) async fn certificate_versions_in_use(
        &self,
        name: &CertificateName,
        now: OffsetDateTime,
    ) -> Result<Vec<VersionRecord>> {
        let query = in_use!(
            "SELECT v.* FROM certificates c JOIN certificate_versions v ON v.certificate = c.name
             WHERE c.name = $1",
            "ORDER BY v.version DESC"
        );
        let rows = sqlx::query(query)
            .bind(name.to_string())
            .bind(micros(now))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "a certificate's versions", e))?;
        all(&rows, versions::read)
    }

    pub(super) async fn agent_keys_in_use(
        &self,
        agent: &AgentName,
        now: OffsetDateTime,
    ) -> Result<Vec<(KeyRecord, TlsUse)>> {
        let query = in_use!(
            "SELECT k.*, c.tls_use FROM keys k JOIN
             (SELECT DISTINCT v.key_id AS key_id, c.tls_use AS tls_use FROM deployments d
              JOIN certificates c ON c.name = d.certificate
              JOIN certificate_versions v ON v.certificate = c.name
              WHERE d.agent = $1",
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
