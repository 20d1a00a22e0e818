//! Agents, join tokens and identities.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::AgentName;

use super::{
    SqlStore, fail, one,
    row::{Columns, all, maybe, micros, opt_micros, opt_text, text},
};
use crate::error::{Error, Result};
use crate::store::{AgentRecord, AgentSeen, AgentStatus, Agents, IdentityRecord};

pub(super) fn read(row: &Columns<'_>) -> Result<AgentRecord> {
    Ok(AgentRecord {
        name: row.parsed("name")?,
        status: row.parsed("status")?,
        identity_not_after: row.opt_time("identity_not_after")?,
        last_seen_at: row.opt_time("last_seen_at")?,
        software_version: row.text("software_version")?,
        created_at: row.time("created_at")?,
    })
}

fn read_identity(row: &Columns<'_>) -> Result<IdentityRecord> {
    Ok(IdentityRecord {
        serial: row.text("serial")?,
        spiffe_id: row.text("spiffe_id")?,
        not_after: row.time("not_after")?,
        revoked_at: row.opt_time("revoked_at")?,
    })
}

#[async_trait]
impl Agents for SqlStore {
    async fn put_agent(&self, agent: &AgentRecord) -> Result<()> {
        let _changing = self.changing();
        sqlx::query(
            "INSERT INTO agents (name, status, identity_not_after, last_seen_at, software_version,
             created_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (name) DO UPDATE SET status = excluded.status,
             identity_not_after = excluded.identity_not_after,
             last_seen_at = excluded.last_seen_at, software_version = excluded.software_version",
        )
        .bind(agent.name.to_string())
        .bind(agent.status.as_str())
        .bind(opt_micros(agent.identity_not_after))
        .bind(opt_micros(agent.last_seen_at))
        .bind(text(&agent.software_version))
        .bind(micros(agent.created_at))
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("write", &format!("agent {}", agent.name), e))
    }

    async fn note_agent(&self, name: &AgentName, seen: &AgentSeen) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE agents SET last_seen_at = $2,
             software_version = COALESCE($3, software_version),
             identity_not_after = COALESCE($4, identity_not_after)
             WHERE name = $1 AND status = $5",
        )
        .bind(name.to_string())
        .bind(micros(seen.at))
        .bind(opt_text(seen.software_version.as_deref()))
        .bind(opt_micros(seen.identity_not_after))
        .bind(AgentStatus::Active.as_str())
        .execute(&self.writes)
        .await;
        let done = done.map_err(|e| fail("change", &format!("agent {name}"), e))?;
        Ok(done.rows_affected() > 0)
    }

    async fn agent(&self, name: &AgentName) -> Result<Option<AgentRecord>> {
        let row = sqlx::query("SELECT * FROM agents WHERE name = $1")
            .bind(name.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "an agent", e))?;
        maybe(row, read)
    }

    async fn agents(&self) -> Result<Vec<AgentRecord>> {
        let rows = sqlx::query("SELECT * FROM agents ORDER BY name")
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "agents", e))?;
        all(&rows, read)
    }

    async fn evict_agent(
        &self,
        name: &AgentName,
        spiffe_id: &str,
        now: OffsetDateTime,
    ) -> Result<()> {
        let _changing = self.changing();
        let subject = format!("agent {name}");
        let failed = |e| fail("evict", &subject, e);
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE agents SET status = $1 WHERE name = $2")
            .bind(AgentStatus::Evicted.as_str())
            .bind(name.to_string())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        one("evict", &subject, done.rows_affected())?;
        sqlx::query(
            "UPDATE identities SET revoked_at = $1 WHERE spiffe_id = $2 AND revoked_at IS NULL",
        )
        .bind(micros(now))
        .bind(spiffe_id.to_owned())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        sqlx::query("DELETE FROM join_tokens WHERE agent = $1")
            .bind(name.to_string())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    async fn insert_join_token(
        &self,
        hash: &[u8],
        agent: &AgentName,
        expires_at: OffsetDateTime,
    ) -> Result<()> {
        sqlx::query("INSERT INTO join_tokens (hash, agent, expires_at) VALUES ($1, $2, $3)")
            .bind(hash.to_vec())
            .bind(agent.to_string())
            .bind(micros(expires_at))
            .execute(&self.writes)
            .await
            .map(drop)
            .map_err(|e| fail("add", "a join token", e))
    }

    async fn redeem_join_token(&self, hash: &[u8], now: OffsetDateTime) -> Result<AgentName> {
        // One statement: of two callers the database lets one delete the row.
        let query = "DELETE FROM join_tokens WHERE hash = $1 RETURNING agent, expires_at";
        let row = sqlx::query(query)
            .bind(hash.to_vec())
            .fetch_optional(&self.writes)
            .await
            .map_err(|e| fail("redeem", "a join token", e))?;
        let denied = || {
            Error::denied("join", "this vault", "the join token is unknown, used or expired")
                .hint("ask an operator for a new one: vaultctl agent token NAME")
        };
        let row = row.ok_or_else(denied)?;
        let row = Columns::of(&row);
        if row.time("expires_at")? <= now {
            return Err(denied());
        }
        row.parsed("agent")
    }

    async fn insert_identity(&self, identity: &IdentityRecord) -> Result<()> {
        let _changing = self.changing();
        sqlx::query(
            "INSERT INTO identities (serial, spiffe_id, not_after, revoked_at)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(identity.serial.clone())
        .bind(identity.spiffe_id.clone())
        .bind(micros(identity.not_after))
        .bind(opt_micros(identity.revoked_at))
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("register", &format!("identity {}", identity.spiffe_id), e))
    }

    async fn identity(&self, serial: &str) -> Result<Option<IdentityRecord>> {
        let row = sqlx::query("SELECT * FROM identities WHERE serial = $1")
            .bind(serial.to_owned())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "an identity", e))?;
        maybe(row, read_identity)
    }
}
