//! ACME accounts' rows.

use async_trait::async_trait;
use sqlx::{Any, any::AnyArguments, query::Query};
use time::OffsetDateTime;
use vault_proto::ids::AccountName;

use super::{
    SqlStore, fail, one,
    row::{Columns, all, json, maybe, micros, opt_micros, opt_text},
};
use crate::error::Result;
use crate::store::{AccountRecord, AccountStatus, Accounts};

fn read(row: &Columns<'_>) -> Result<AccountRecord> {
    Ok(AccountRecord {
        name: row.parsed("name")?,
        directory: row.parsed("directory")?,
        url: row.opt_parsed("url")?,
        status: row.parsed("status")?,
        contacts: row.json("contacts")?,
        next_contacts: row.opt_json("next_contacts")?,
        key_id: row.parsed("key_id")?,
        next_key_id: row.opt_parsed("next_key_id")?,
        eab_kid: row.opt_text("eab_kid")?,
        ca_root_pem: row.opt_text("ca_root_pem")?,
        created_at: row.time("created_at")?,
        last_ok_at: row.opt_time("last_ok_at")?,
        last_error: row.opt_text("last_error")?,
    })
}

/// Binds every column in the order of the table.
fn bind(query: &'static str, account: &AccountRecord) -> Result<Query<'static, Any, AnyArguments>> {
    Ok(sqlx::query(query)
        .bind(account.name.to_string())
        .bind(account.directory.to_string())
        .bind(account.url.as_ref().map(ToString::to_string))
        .bind(account.status.as_str())
        .bind(json(&account.contacts)?)
        .bind(account.next_contacts.as_ref().map(json).transpose()?)
        .bind(account.key_id.to_string())
        .bind(account.next_key_id.map(|id| id.to_string()))
        .bind(opt_text(account.eab_kid.as_deref()))
        .bind(opt_text(account.ca_root_pem.as_deref()))
        .bind(micros(account.created_at))
        .bind(opt_micros(account.last_ok_at))
        .bind(opt_text(account.last_error.as_deref())))
}

#[async_trait]
impl Accounts for SqlStore {
    async fn insert_account(&self, account: &AccountRecord) -> Result<()> {
        let query = "INSERT INTO accounts (name, directory, url, status, contacts, next_contacts,
             key_id, next_key_id, eab_kid, ca_root_pem, created_at, last_ok_at, last_error)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let done = bind(query, account)?.execute(&self.writes).await;
        done.map(drop).map_err(|e| fail("add", &format!("account {}", account.name), e))
    }

    async fn update_account(&self, account: &AccountRecord) -> Result<()> {
        let query = "UPDATE accounts SET directory = $2, url = $3, status = $4, contacts = $5,
             next_contacts = $6, key_id = $7, next_key_id = $8, eab_kid = $9, ca_root_pem = $10,
             created_at = $11, last_ok_at = $12, last_error = $13 WHERE name = $1";
        let subject = format!("account {}", account.name);
        let done = bind(query, account)?.execute(&self.writes).await;
        one("change", &subject, done.map_err(|e| fail("change", &subject, e))?.rows_affected())
    }

    async fn note_account(
        &self,
        name: &AccountName,
        error: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<()> {
        let subject = format!("account {name}");
        let done = sqlx::query(
            "UPDATE accounts SET last_error = $2, last_ok_at = COALESCE($3, last_ok_at)
             WHERE name = $1",
        )
        .bind(name.to_string())
        .bind(opt_text(error))
        .bind(opt_micros(error.is_none().then_some(now)))
        .execute(&self.writes)
        .await;
        one("change", &subject, done.map_err(|e| fail("change", &subject, e))?.rows_affected())
    }

    async fn delete_pending_account(&self, name: &AccountName) -> Result<()> {
        let subject = format!("account {name}");
        let done = sqlx::query("DELETE FROM accounts WHERE name = $1 AND status = $2")
            .bind(name.to_string())
            .bind(AccountStatus::Pending.as_str())
            .execute(&self.writes)
            .await
            .map_err(|e| fail("delete", &subject, e))?;
        one("delete", &subject, done.rows_affected())
    }

    async fn account(&self, name: &AccountName) -> Result<Option<AccountRecord>> {
        let row = sqlx::query("SELECT * FROM accounts WHERE name = $1")
            .bind(name.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(|e| fail("read", "an account", e))?;
        maybe(row, read)
    }

    async fn accounts(&self) -> Result<Vec<AccountRecord>> {
        let rows = sqlx::query("SELECT * FROM accounts ORDER BY name")
            .fetch_all(&self.reads)
            .await
            .map_err(|e| fail("read", "accounts", e))?;
        all(&rows, read)
    }
}
