//! Small facts.

use async_trait::async_trait;

use super::{SqlStore, fail};
use crate::error::Result;
use crate::store::Settings;

#[async_trait]
impl Settings for SqlStore {
    async fn setting(&self, name: &str) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(name.to_owned())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "a setting", e))
    }

    async fn put_settings(&self, settings: &[(&str, &str)]) -> Result<()> {
        let mut tx = self.begin().await?;
        for (name, value) in settings {
            sqlx::query(
                "INSERT INTO settings (name, value) VALUES ($1, $2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )
            .bind((*name).to_owned())
            .bind((*value).to_owned())
            .execute(&mut *tx)
            .await
            .map_err(|e| fail("write", "a setting", e))?;
        }
        tx.commit().await.map_err(|e| fail("write", "settings", e))
    }
}
