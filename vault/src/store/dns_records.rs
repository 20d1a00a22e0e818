//! What the vault has written into the DNS. A row is there before its record is, and goes after it,
//! so that a crash leaves no record that nobody knows of.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::error::Result;

/// A TXT record that is, or may be, in the DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecord {
    /// The challenge's token.
    pub token: String,
    /// The record's name with its last dot, where aliases have led to.
    pub name: String,
    /// The zone that it is in, likewise.
    pub zone: String,
    /// The record's text.
    pub value: String,
    /// When it was first written.
    pub created_at: OffsetDateTime,
    /// When it could not be taken out for the first time.
    pub stuck_at: Option<OffsetDateTime>,
}

/// DNS records' rows.
#[async_trait]
pub trait DnsRecords: Send + Sync {
    /// Adds a record; one with a known token, name and value stays as it is.
    async fn put_dns_record(&self, record: &DnsRecord) -> Result<()>;
    /// Notes that a record could not be taken out; one that is stuck already keeps its time.
    async fn note_stuck_dns_record(&self, record: &DnsRecord, now: OffsetDateTime) -> Result<()>;
    /// Forgets a record that is gone.
    async fn remove_dns_record(&self, record: &DnsRecord) -> Result<()>;
    /// Records whose challenge nobody has to prove any more, oldest first.
    async fn unused_dns_records(&self) -> Result<Vec<DnsRecord>>;
}
