//! What is in the DNS.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{
    SqlStore, fail,
    row::{Columns, all, micros},
};
use crate::error::Result;
use crate::store::{DnsRecord, DnsRecords};

fn read(row: &Columns<'_>) -> Result<DnsRecord> {
    Ok(DnsRecord {
        token: row.text("token")?,
        name: row.text("name")?,
        zone: row.text("zone")?,
        value: row.text("value")?,
        created_at: row.time("created_at")?,
        stuck_at: row.opt_time("stuck_at")?,
    })
}

#[async_trait]
impl DnsRecords for SqlStore {
    async fn put_dns_record(&self, record: &DnsRecord) -> Result<()> {
        sqlx::query(
            "INSERT INTO dns_records (token, name, zone, value, created_at)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (token, name, value) DO NOTHING",
        )
        .bind(record.token.clone())
        .bind(record.name.clone())
        .bind(record.zone.clone())
        .bind(record.value.clone())
        .bind(micros(record.created_at))
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("add", &format!("record {}", record.name), e))
    }

    async fn note_stuck_dns_record(&self, record: &DnsRecord, now: OffsetDateTime) -> Result<()> {
        sqlx::query(
            "UPDATE dns_records SET stuck_at = $4
             WHERE token = $1 AND name = $2 AND value = $3 AND stuck_at IS NULL",
        )
        .bind(record.token.clone())
        .bind(record.name.clone())
        .bind(record.value.clone())
        .bind(micros(now))
        .execute(&self.writes)
        .await
        .map(drop)
        .map_err(|e| fail("note", &format!("record {}", record.name), e))
    }

    async fn remove_dns_record(&self, record: &DnsRecord) -> Result<()> {
        sqlx::query("DELETE FROM dns_records WHERE token = $1 AND name = $2 AND value = $3")
            .bind(record.token.clone())
            .bind(record.name.clone())
            .bind(record.value.clone())
            .execute(&self.writes)
            .await
            .map(drop)
            .map_err(|e| fail("remove", &format!("record {}", record.name), e))
    }

    async fn unused_dns_records(&self) -> Result<Vec<DnsRecord>> {
        let rows = sqlx::query(
            "SELECT token, name, zone, value, created_at, stuck_at FROM dns_records
             WHERE token NOT IN (SELECT token FROM challenges) ORDER BY created_at, token",
        )
        .fetch_all(&self.reads)
        .await
        .map_err(|e| fail("read", "DNS records", e))?;
        all(&rows, read)
    }
}
