//! Rows of a backup put into a store that has none, all of them in one transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use serde_json::Value;
use sqlx::SqlSafeStr as _;
use vault_backup::Table;

use super::{Changing, Dialect, SqlStore, Transaction, fail, snapshot::names};
use crate::error::{Error, Result};
use crate::store::{Columns, Restoration};

/// What a ceremony that was interrupted may have left: it goes.
const LEFT: &[&str] = &["identities", "keys", "settings"];
/// Where any of these is, the store is a vault's.
const IN_USE: &[&str] = &["accounts", "agents", "certificates"];

/// Whether a column holds bytes, by its name.
type Kinds = BTreeMap<String, bool>;

/// One transaction that writes; dropped before its commit, it has written nothing.
struct SqlRestoration {
    tx: Transaction,
    kinds: BTreeMap<Table, Kinds>,
    /// Who may do what changes with the commit.
    _changing: Changing,
}

impl SqlStore {
    pub(super) async fn restore_all(&self) -> Result<Box<dyn Restoration>> {
        let failed = |e| fail("begin", "a restore of the store", e);
        let (kinds, changing) = (self.kinds().await?, self.changing_key());
        let mut tx = self.begin().await?;
        for table in IN_USE {
            let count = format!("SELECT COUNT(*) FROM {table}");
            let count = sqlx::AssertSqlSafe(count).into_sql_str();
            let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut *tx).await.map_err(failed)?;
            in_use(table, rows)?;
        }
        let vault = "SELECT COUNT(*) FROM settings WHERE name = 'vault'";
        let vaults: i64 = sqlx::query_scalar(vault).fetch_one(&mut *tx).await.map_err(failed)?;
        in_use("settings", vaults)?;
        for table in LEFT {
            let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {table}")).into_sql_str();
            sqlx::query(delete).execute(&mut *tx).await.map_err(failed)?;
        }
        Ok(Box::new(SqlRestoration { tx, kinds, _changing: changing }))
    }

    /// Every column of every table that a backup has rows of.
    async fn kinds(&self) -> Result<BTreeMap<Table, Kinds>> {
        let query = match self.dialect {
            Dialect::Sqlite => {
                "SELECT name, CASE WHEN type = 'BLOB' THEN 1 ELSE 0 END FROM pragma_table_info($1)"
            }
            Dialect::Postgres => {
                "SELECT CAST(column_name AS TEXT),
                        CAST(CASE WHEN data_type = 'bytea' THEN 1 ELSE 0 END AS BIGINT)
                 FROM information_schema.columns
                 WHERE table_name = $1 AND table_schema = current_schema()"
            }
        };
        let mut kinds = BTreeMap::new();
        for table in Table::ALL {
            let Some((name, _)) = names(*table) else { continue };
            let columns: Vec<(String, i64)> = sqlx::query_as(query)
                .bind(name)
                .fetch_all(&self.reads)
                .await
                .map_err(|e| fail("ask", &format!("table {name}"), e))?;
            kinds.insert(*table, columns.into_iter().map(|(name, b)| (name, b == 1)).collect());
        }
        Ok(kinds)
    }
}

fn in_use(table: &str, rows: i64) -> Result<()> {
    if rows == 0 {
        return Ok(());
    }
    let why = format!("its {table} have rows: a vault is in it");
    Err(Error::conflict("restore", "the store", why)
        .hint("restore into a new store: another url in [store] of vault.toml"))
}

#[async_trait]
impl Restoration for SqlRestoration {
    async fn put(&mut self, table: Table, rows: &[Columns]) -> Result<()> {
        let (Some((name, _)), Some(kinds)) = (names(table), self.kinds.get(&table)) else {
            return Err(Error::internal(
                "restore",
                format!("rows of {table}"),
                "no table has them",
            ));
        };
        for row in rows {
            let (mut columns, mut places, mut values) = (Vec::new(), Vec::new(), Vec::new());
            // What is null needs no value: no column has another default.
            for (column, value) in row.iter().filter(|(_, value)| !value.is_null()) {
                let Some(bytes) = kinds.get(column) else {
                    let why = "this program's schema does not have it";
                    return Err(Error::invalid("restore", format!("column {name}.{column}"), why));
                };
                columns.push(column.as_str());
                values.push((value, *bytes));
                places.push(format!("${}", values.len()));
            }
            let (columns, places) = (columns.join(", "), places.join(", "));
            // The names are the schema's own.
            let sql = format!("INSERT INTO {name} ({columns}) VALUES ({places})");
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql).into_sql_str());
            for (value, bytes) in values {
                query = match value {
                    Value::Number(number) => query.bind(number.as_i64()),
                    Value::String(text) if bytes => {
                        let decoded = B64.decode(text);
                        query.bind(decoded.map_err(|e| {
                            Error::invalid("restore", format!("bytes of table {name}"), e)
                        })?)
                    }
                    value => query.bind(value.as_str().map(str::to_owned)),
                };
            }
            let put = query.execute(&mut *self.tx).await;
            put.map_err(|e| fail("restore", &format!("a row of table {name}"), e))?;
        }
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.tx.commit().await.map_err(|e| fail("restore", "the store", e))
    }
}
