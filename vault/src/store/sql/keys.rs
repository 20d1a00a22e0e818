//! Keys' rows.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::KeyId;

use super::{
    SqlStore, fail, one,
    row::{Columns, all, json, maybe, micros},
};
use crate::error::Result;
use crate::store::{KeyPurpose, KeyRecord, KeyState, Keys};

pub(super) fn read(row: &Columns<'_>) -> Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.parsed("id")?,
        name: row.text("name")?,
        version: row.int("version")?,
        purpose: row.parsed("purpose")?,
        algorithm: row.parsed("algorithm")?,
        escrow: row.parsed("escrow")?,
        state: row.parsed("state")?,
        spki_der: row.blob("spki")?,
        labels: row.json("labels")?,
        created_at: row.time("created_at")?,
    })
}

#[async_trait]
impl Keys for SqlStore {
    async fn insert_key(&self, key: &KeyRecord, retire: Option<KeyId>) -> Result<()> {
        let _changing = match retire {
            Some(_) => self.changing_key(),
            None => self.changing(),
        };
        let subject = format!("key {}", key.name);
        let mut tx = self.begin().await?;
        if let Some(old) = retire {
            let done = sqlx::query("UPDATE keys SET state = $1 WHERE id = $2 AND state = $3")
                .bind(KeyState::Retired.as_str())
                .bind(old.to_string())
                .bind(KeyState::Active.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|e| fail("retire", &subject, e))?;
            one("retire", &subject, done.rows_affected())?;
        }
        sqlx::query(
            "INSERT INTO keys (id, name, version, purpose, algorithm, escrow, state, spki, labels,
             created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(key.id.to_string())
        .bind(key.name.clone())
        .bind(i64::from(key.version))
        .bind(key.purpose.as_str())
        .bind(key.algorithm.as_str())
        .bind(key.escrow.as_str())
        .bind(key.state.as_str())
        .bind(key.spki_der.clone())
        .bind(json(&key.labels)?)
        .bind(micros(key.created_at))
        .execute(&mut *tx)
        .await
        .map_err(|e| fail("add", &subject, e))?;
        tx.commit().await.map_err(|e| fail("add", &subject, e))
    }

    async fn key(&self, id: KeyId) -> Result<Option<KeyRecord>> {
        let row = sqlx::query("SELECT * FROM keys WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a key", e))?;
        maybe(row, read)
    }

    async fn key_by_name(&self, purpose: KeyPurpose, name: &str) -> Result<Option<KeyRecord>> {
        let mut versions = self.key_versions(purpose, name).await?;
        let in_use = versions.iter().position(|key| key.state == KeyState::Active);
        Ok((!versions.is_empty()).then(|| versions.swap_remove(in_use.unwrap_or(0))))
    }

    async fn key_versions(&self, purpose: KeyPurpose, name: &str) -> Result<Vec<KeyRecord>> {
        let query = "SELECT * FROM keys WHERE purpose = $1 AND name = $2 ORDER BY version DESC";
        let rows = sqlx::query(query)
            .bind(purpose.as_str())
            .bind(name.to_owned())
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "keys", e))?;
        all(&rows, read)
    }

    async fn keys(&self) -> Result<Vec<KeyRecord>> {
        let rows = sqlx::query("SELECT * FROM keys ORDER BY purpose, name, version")
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "keys", e))?;
        all(&rows, read)
    }

    async fn unused_keys(&self, ended_by: OffsetDateTime) -> Result<Vec<KeyRecord>> {
        // `IN` a list and not a question for each key: the database makes the list once.
        let query = "SELECT * FROM keys WHERE purpose = $1 AND state = $2
             AND id NOT IN (SELECT key_id FROM certificate_versions
                            WHERE not_after > $3 AND key_id IS NOT NULL)
             AND id NOT IN (SELECT v.key_id FROM certificate_versions v JOIN certificates c
                            ON c.name = v.certificate AND c.current_version = v.version
                            WHERE v.key_id IS NOT NULL)
             AND id NOT IN (SELECT key_id FROM orders WHERE key_id IS NOT NULL
                            AND state <> 'issued' AND state <> 'failed')
             ORDER BY name, version";
        let rows = sqlx::query(query)
            .bind(KeyPurpose::Certificate.as_str())
            .bind(KeyState::Retired.as_str())
            .bind(micros(ended_by))
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "unused keys", e))?;
        all(&rows, read)
    }

    async fn set_key_state(&self, id: KeyId, state: KeyState) -> Result<()> {
        let _changing = self.changing_key();
        let done = sqlx::query("UPDATE keys SET state = $1 WHERE id = $2")
            .bind(state.as_str())
            .bind(id.to_string())
            .execute(&self.writes)
            .await
            .map_err(|e| fail("change", "a key", e))?;
        one("change", &format!("key {id}"), done.rows_affected())
    }
}
