//! One consistent read of every table, page by page, on a connection of its own: however long it
//! takes, nobody waits for it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use sqlx::{
    AnyConnection, Column as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _,
    TypeInfo as _, ValueRef as _,
    any::{AnyRow, AnyTypeInfoKind},
};
use vault_backup::Table;

use super::{Dialect, SqlStore, fail};
use crate::error::{Error, Result};
use crate::store::{Columns, Snapshot};

/// Rows of one page.
const PAGE: usize = 128;

/// A table's name and primary key in the database; nothing for what the store does not have.
pub(super) fn names(table: Table) -> Option<(&'static str, &'static [&'static str])> {
    Some(match table {
        Table::Settings => ("settings", &["name"]),
        Table::Keys => ("keys", &["id"]),
        Table::Accounts => ("accounts", &["name"]),
        Table::Agents => ("agents", &["name"]),
        Table::Identities => ("identities", &["serial"]),
        Table::Certificates => ("certificates", &["name"]),
        Table::Versions => ("certificate_versions", &["certificate", "version"]),
        Table::Orders => ("orders", &["id"]),
        Table::Deployments => ("deployments", &["certificate", "agent"]),
        Table::Audit => return None,
    })
}

/// A transaction that only reads; it ends with its connection.
struct SqlSnapshot {
    connection: AnyConnection,
    /// The last row's primary key, by table.
    last: BTreeMap<Table, Vec<Value>>,
}

impl SqlStore {
    pub(super) async fn read_all(&self) -> Result<Box<dyn Snapshot>> {
        let failed = |e| fail("begin", "a snapshot of the store", e);
        let mut connection =
            AnyConnection::connect(self.url.expose_secret()).await.map_err(failed)?;
        let begin = match self.dialect {
            Dialect::Sqlite => "PRAGMA busy_timeout=5000; PRAGMA query_only=ON; BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        connection.execute(begin).await.map_err(failed)?;
        Ok(Box::new(SqlSnapshot { connection, last: BTreeMap::new() }))
    }
}

#[async_trait]
impl Snapshot for SqlSnapshot {
    async fn page(&mut self, table: Table) -> Result<Vec<Columns>> {
        let Some((name, key)) = names(table) else { return Ok(Vec::new()) };
        let columns = key.join(", ");
        let last = self.last.get(&table);
        let after = match (last, key.len()) {
            (None, _) => String::new(),
            (Some(_), 1) => format!("WHERE {columns} > $1"),
            (Some(_), _) => format!("WHERE ({columns}) > ($1, $2)"),
        };
        let sql = format!("SELECT * FROM {name} {after} ORDER BY {columns} LIMIT {PAGE}");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql).into_sql_str());
        for value in last.into_iter().flatten() {
            query = match value {
                Value::Number(number) => query.bind(number.as_i64()),
                value => query.bind(value.as_str().unwrap_or_default().to_owned()),
            };
        }
        let rows = query.fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|e| fail("read", &format!("table {name}"), e))?;
        let page: Result<Vec<Columns>> = rows.iter().map(columns_of).collect();
        let page = page?;
        if let Some(row) = page.last() {
            let key = key.iter().map(|column| row.get(*column).cloned().unwrap_or_default());
            self.last.insert(table, key.collect());
        }
        Ok(page)
    }
}

/// Whatever columns there are: numbers and texts as they are, bytes as base64.
fn columns_of(row: &AnyRow) -> Result<Columns> {
    let mut columns = Map::new();
    for column in row.columns() {
        let (name, at) = (column.name(), column.ordinal());
        let bad = |e: sqlx::Error| Error::internal("read", format!("column {name}"), e);
        let raw = row.try_get_raw(at).map_err(bad)?;
        let (is_null, info) = (raw.is_null(), raw.type_info().into_owned());
        let value = match info.kind() {
            _ if is_null => Value::Null,
            AnyTypeInfoKind::SmallInt | AnyTypeInfoKind::Integer | AnyTypeInfoKind::BigInt => {
                Value::from(row.try_get::<i64, _>(at).map_err(bad)?)
            }
            AnyTypeInfoKind::Text => Value::from(row.try_get::<String, _>(at).map_err(bad)?),
            AnyTypeInfoKind::Blob => {
                Value::from(B64.encode(row.try_get::<Vec<u8>, _>(at).map_err(bad)?))
            }
            _ => {
                let why = format!("a backup knows no {}", info.name());
                return Err(Error::internal("read", format!("column {name}"), why));
            }
        };
        columns.insert(name.to_owned(), value);
    }
    Ok(columns)
}
