//! Everything that is not a private key: one trait, one transaction per acknowledged change.
//!
//! A call that returns `Ok` is durable. Unique names are the store's to keep: an insert of what
//! exists is a `Conflict`, an update of what does not is a `NotFound`, an unreachable database is
//! `Unavailable`.

mod agent_summary;
mod agent_view;
mod alerts;
mod certificate_view;
mod dns_records;
mod drills;
mod history;
mod maintenance;
mod placements;
mod recent;
mod records;
mod renewal_info;
mod revocations;
mod rollouts;
pub mod sql;

use async_trait::async_trait;
use time::OffsetDateTime;
use url::Url;
use vault_backup::Table;
use vault_proto::ids::{AccountName, AgentName, CertificateName, KeyId, OrderId};

pub use agent_summary::{AgentSummaries, AgentSummary};
pub use agent_view::{AgentView, AgentViews, Concerned, VersionsFor};
pub use alerts::{AlertKind, AlertRecord, Alerts};
pub use certificate_view::{CertificateView, CertificateViews};
pub use dns_records::{DnsRecord, DnsRecords};
pub use drills::{DrillCheck, DrillRecord, Drills};
pub use history::{BackupRecord, BackupState, History, ScheduleRecord};
pub use maintenance::MaintenanceWindow;
pub use placements::{
    InForce, OrderKind, PlacementRecord, PlacementState, Placements, PlannedRecord,
};
pub use recent::Recent;
pub use records::*;
pub use renewal_info::{RenewalInfoRecord, RenewalInfos};
pub use revocations::{RevocationCheck, RevocationStatus, Revocations, Staple};
pub use rollouts::{RolledOut, RolloutRecord, RolloutState, Rollouts};

use crate::error::Result;

/// The vault's state.
#[async_trait]
pub trait Store:
    Keys
    + Accounts
    + Certificates
    + AgentViews
    + AgentSummaries
    + CertificateViews
    + Placements
    + Rollouts
    + Agents
    + Settings
    + History
    + Drills
    + DnsRecords
    + Alerts
    + RenewalInfos
    + Revocations
{
    /// `sqlite` or `postgres`.
    fn backend(&self) -> &'static str;

    /// How often this process has changed who may do what: keys, agents, identities, certificates
    /// and where they go. What was read before the last change may not count any more.
    fn changes(&self) -> u64;

    /// How often this process has changed the state of a key; counted by [`Store::changes`], too.
    fn key_changes(&self) -> u64;

    /// Asks the database; answers the schema's version.
    async fn ping(&self) -> Result<u64>;

    /// Begins a read of everything as it is at its first page, whatever is written meanwhile.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>>;

    /// Begins a write of everything that a backup holds, into a store that no vault is in: what an
    /// interrupted ceremony has left there goes. `Conflict` where a vault is in it.
    async fn restoration(&self) -> Result<Box<dyn Restoration>>;
}

/// A row as the database has it: numbers, texts, and bytes as base64, by column.
pub type Columns = serde_json::Map<String, serde_json::Value>;

/// One consistent read of everything that a backup holds.
#[async_trait]
pub trait Snapshot: Send {
    /// The next rows of a table in the order of its primary key; none at its end.
    async fn page(&mut self, table: Table) -> Result<Vec<Columns>>;
}

/// One transaction that writes everything a backup holds. Dropped before its commit, it has written
/// nothing.
#[async_trait]
pub trait Restoration: Send {
    /// Adds rows as [`Snapshot::page`] gives them. Tables come in their order: nothing refers to what
    /// comes later.
    async fn put(&mut self, table: Table, rows: &[Columns]) -> Result<()>;

    /// From here on all of it is there.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// Keys' rows.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Adds a key. Where `retire` is set, the version it names becomes `Retired` in the same
    /// transaction.
    async fn insert_key(&self, key: &KeyRecord, retire: Option<KeyId>) -> Result<()>;
    /// One key.
    async fn key(&self, id: KeyId) -> Result<Option<KeyRecord>>;
    /// The highest version of a name that is in use (a version that came after it may have been
    /// given up); where none is, the highest in whatever state.
    async fn key_by_name(&self, purpose: KeyPurpose, name: &str) -> Result<Option<KeyRecord>>;
    /// Every version of a name, newest first.
    async fn key_versions(&self, purpose: KeyPurpose, name: &str) -> Result<Vec<KeyRecord>>;
    /// Every key in every state, by purpose, name and version.
    async fn keys(&self) -> Result<Vec<KeyRecord>>;
    /// Retired certificates' keys that nothing is left for: every version with them had ended at
    /// `ended_by`, none of these is a certificate's current one, no open order wants them.
    async fn unused_keys(&self, ended_by: OffsetDateTime) -> Result<Vec<KeyRecord>>;
    /// Moves a key on in its life.
    async fn set_key_state(&self, id: KeyId, state: KeyState) -> Result<()>;
}

/// ACME accounts' rows.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Adds an account.
    async fn insert_account(&self, account: &AccountRecord) -> Result<()>;
    /// Replaces an account's row.
    async fn update_account(&self, account: &AccountRecord) -> Result<()>;
    /// Remembers how the CA did last and changes nothing else: whoever says so may have begun
    /// before the account was rolled over or ended. `error` is `None` where it did well.
    async fn note_account(
        &self,
        name: &AccountName,
        error: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<()>;
    /// Forgets an account that the CA never confirmed.
    async fn delete_pending_account(&self, name: &AccountName) -> Result<()>;
    /// One account.
    async fn account(&self, name: &AccountName) -> Result<Option<AccountRecord>>;
    /// All accounts by name.
    async fn accounts(&self) -> Result<Vec<AccountRecord>>;
}

/// Certificates, their versions, orders, challenges and deployments.
#[async_trait]
pub trait Certificates: Send + Sync {
    /// Declares a certificate and where it goes, in one transaction.
    async fn insert_certificate(
        &self,
        certificate: &CertificateRecord,
        deploy_to: &[AgentName],
    ) -> Result<()>;
    /// Replaces a certificate's settings where they are still `from`, and changes nothing else: an
    /// issuance may be under way. `false` where somebody else has changed them meanwhile.
    async fn change_settings(
        &self,
        name: &CertificateName,
        from: &CertificateSettings,
        to: &CertificateSettings,
    ) -> Result<bool>;
    /// Makes a certificate due at `at` where it would be later, and changes nothing else: an
    /// issuance may be under way. Without `force` only one whose last attempt failed or that has
    /// no good version; `false` where it is none of these. With it, maintenance windows do not hold it
    /// back until it is issued. What its CA has said before does not hold back the next attempt.
    async fn make_due(
        &self,
        name: &CertificateName,
        at: OffsetDateTime,
        force: bool,
    ) -> Result<bool>;
    /// Records a failed attempt whose order stays open, and changes nothing else.
    async fn fail_attempt(
        &self,
        name: &CertificateName,
        error: &str,
        failed_attempts: u32,
        renew_at: OffsetDateTime,
    ) -> Result<()>;
    /// Notes whose turn among its accounts it is, and changes nothing else.
    async fn set_turn(&self, name: &CertificateName, turn: Turn) -> Result<()>;
    /// Forgets a certificate with its versions and orders; `Conflict` while it is deployed.
    async fn delete_certificate(&self, name: &CertificateName) -> Result<()>;
    /// One certificate.
    async fn certificate(&self, name: &CertificateName) -> Result<Option<CertificateRecord>>;
    /// All certificates by name.
    async fn certificates(&self) -> Result<Vec<CertificateRecord>>;

    /// Ends an order as `Issued`, adds its version, makes it the certificate's current one with
    /// status `Issued`, no failures and `renew_at`, has agents that refused an earlier version be
    /// waited for again, begins its rollout, and removes the order's challenges: all in one transaction.
    async fn record_issuance(
        &self,
        order: OrderId,
        version: &VersionRecord,
        renew_at: OffsetDateTime,
    ) -> Result<()>;
    /// One version. None has the number 0, which a certificate has before its first: it is not asked for.
    async fn version(&self, name: &CertificateName, version: u64) -> Result<Option<VersionRecord>>;
    /// All versions, newest first.
    async fn versions(&self, name: &CertificateName) -> Result<Vec<VersionRecord>>;
    /// The versions that were revoked for this RFC 5280 reason.
    async fn versions_revoked(
        &self,
        name: &CertificateName,
        reason: &str,
    ) -> Result<Vec<VersionRecord>>;
    /// Marks a version as revoked for an RFC 5280 reason and the certificate, where that is its
    /// current version, as `Revoked` and due at `renew_at` where that is set, in one transaction.
    async fn revoke_version(
        &self,
        name: &CertificateName,
        version: u64,
        reason: &str,
        renew_at: Option<OffsetDateTime>,
    ) -> Result<()>;

    /// Adds an order; `Conflict` where the certificate has an open one.
    async fn insert_order(&self, order: &OrderRecord) -> Result<()>;
    /// Replaces an order's row.
    async fn update_order(&self, order: &OrderRecord) -> Result<()>;
    /// Puts an order to `Finalizing` and removes its challenges, in one transaction.
    async fn finalize_order(&self, order: OrderId, now: OffsetDateTime) -> Result<()>;
    /// Ends an order as `Failed` with `error`, removes its challenges, and puts `failed_attempts`,
    /// `last_error` and `renew_at` of its certificate, in one transaction.
    async fn fail_order(
        &self,
        order: OrderId,
        error: &str,
        failed_attempts: u32,
        renew_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<()>;
    /// One order.
    async fn order(&self, id: OrderId) -> Result<Option<OrderRecord>>;
    /// The order that a CA knows by this URL.
    async fn order_by_url(&self, url: &Url) -> Result<Option<OrderRecord>>;
    /// A certificate's open order.
    async fn open_order(&self, name: &CertificateName) -> Result<Option<OrderRecord>>;
    /// The orders of an account that its CA knows, newest first, no more than `limit`.
    async fn orders_with(&self, account: &AccountName, limit: u32) -> Result<Vec<OrderRecord>>;
    /// All open orders, oldest first.
    async fn open_orders(&self) -> Result<Vec<OrderRecord>>;

    /// Adds challenges; one with a known token replaces it.
    async fn put_challenges(&self, challenges: &[ChallengeRecord]) -> Result<()>;
    /// Removes an order's challenges.
    async fn remove_challenges(&self, order: OrderId) -> Result<()>;
    /// An order's challenges, by token.
    async fn challenges_of(&self, order: OrderId) -> Result<Vec<ChallengeRecord>>;

    /// Adds a deployment, or does nothing where it exists.
    async fn insert_deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
        now: OffsetDateTime,
    ) -> Result<()>;
    /// Replaces a deployment's row.
    async fn update_deployment(&self, deployment: &DeploymentRecord) -> Result<()>;
    /// Ends a deployment; `NotFound` where there is none.
    async fn remove_deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
    ) -> Result<()>;
    /// One deployment.
    async fn deployment(
        &self,
        certificate: &CertificateName,
        agent: &AgentName,
    ) -> Result<Option<DeploymentRecord>>;
    /// Where a certificate goes, by agent.
    async fn deployments_of(&self, certificate: &CertificateName) -> Result<Vec<DeploymentRecord>>;
    /// What goes to an agent, by certificate.
    async fn deployments_on(&self, agent: &AgentName) -> Result<Vec<DeploymentRecord>>;
}

/// Agents, join tokens and identities.
#[async_trait]
pub trait Agents: Send + Sync {
    /// Adds an agent or replaces its row.
    async fn put_agent(&self, agent: &AgentRecord) -> Result<()>;
    /// Notes that an active agent was heard of and changes nothing else; `false` where it is not
    /// active: it may have been evicted since it called.
    async fn note_agent(&self, name: &AgentName, seen: &AgentSeen) -> Result<bool>;
    /// One agent.
    async fn agent(&self, name: &AgentName) -> Result<Option<AgentRecord>>;
    /// All agents by name.
    async fn agents(&self) -> Result<Vec<AgentRecord>>;
    /// Evicts: status `Evicted`, every identity revoked, every unused token removed, in one
    /// transaction. Deployments stay on record. `spiffe_id` is the agent's.
    async fn evict_agent(
        &self,
        name: &AgentName,
        spiffe_id: &str,
        now: OffsetDateTime,
    ) -> Result<()>;

    /// Keeps the SHA-256 of a join token (32 bytes).
    async fn insert_join_token(
        &self,
        hash: &[u8],
        agent: &AgentName,
        expires_at: OffsetDateTime,
    ) -> Result<()>;
    /// Uses a join token up, for ever: of two calls with one token exactly one gets the name.
    /// `Denied` where it is unknown, used or expired, without saying which.
    async fn redeem_join_token(&self, hash: &[u8], now: OffsetDateTime) -> Result<AgentName>;

    /// Registers a certificate of the internal CA, before it is handed out.
    async fn insert_identity(&self, identity: &IdentityRecord) -> Result<()>;
    /// One registered certificate.
    async fn identity(&self, serial: &str) -> Result<Option<IdentityRecord>>;
}

/// Small facts about the vault itself.
#[async_trait]
pub trait Settings: Send + Sync {
    /// One fact.
    async fn setting(&self, name: &str) -> Result<Option<String>>;
    /// Puts all of them in one transaction.
    async fn put_settings(&self, settings: &[(&str, &str)]) -> Result<()>;
}
