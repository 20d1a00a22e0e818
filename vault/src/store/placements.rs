//! What was asked of CAs, as far as it counts against what they allow. It outlives the orders and
//! certificates that it was for: their CA does not forget them either.

use async_trait::async_trait;
use time::OffsetDateTime;
use url::Url;
use vault_proto::ids::{AccountName, AgentName, CertificateName, OrderId};

use super::{CertificateRecord, Identifier, MaintenanceWindow, OrderState};
use crate::error::Result;
use crate::named::named_enum;

named_enum!(
    /// What an order is to its CA, which decides what it counts for.
    OrderKind, "kind of order" {
        /// For names that this CA has not certified together for us.
        First = "first",
        /// For exactly the names of an earlier certificate of this CA's.
        Renewal = "renewal",
        /// It says which certificate it replaces (RFC 9773 section 5).
        Replacement = "replacement",
    }
);

named_enum!(
    /// What became of something that was asked of a CA.
    PlacementState, "placement state" {
        /// The CA may have the order; nothing has come of it yet.
        Open = "open",
        /// A certificate.
        Issued = "issued",
        /// The order failed, and counts as an order.
        Failed = "failed",
        /// The CA did not take it: it counts for nothing.
        Void = "void",
        /// The CA wants no more of this for some time (`rateLimited`, RFC 8555 section 6.6).
        Limited = "limited",
    }
);

/// Something that was asked of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementRecord {
    /// Its own id: one order may be asked for again after a crash.
    pub id: OrderId,
    /// For which order.
    pub order: OrderId,
    /// Of which certificate.
    pub certificate: CertificateName,
    /// With which account.
    pub account: AccountName,
    /// At which CA.
    pub directory: Url,
    /// For which names; where the CA has limited an account and no names in it, none.
    pub identifiers: Vec<Identifier>,
    /// What the order is to the CA.
    pub kind: OrderKind,
    /// What became of it.
    pub state: PlacementState,
    /// Whose validation failed.
    pub refused: Vec<Identifier>,
    /// Until when the CA wants no more.
    pub closed_until: Option<OffsetDateTime>,
    /// When it was asked.
    pub placed_at: OffsetDateTime,
    /// When it last changed.
    pub changed_at: OffsetDateTime,
}

/// A certificate with what decides when it is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRecord {
    /// The certificate.
    pub certificate: CertificateRecord,
    /// Start and end of the version in force, and the directory of the account that ordered it.
    pub in_force: Option<InForce>,
    /// Whether an operator wants it now, whatever its maintenance windows say.
    pub requested: bool,
    /// Whether an operator has asked for it since its last attempt.
    pub asked_anew: bool,
    /// How far its open order has come, and whether the CA has it.
    pub order: Option<(OrderState, bool)>,
}

/// A version in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Its start.
    pub not_before: OffsetDateTime,
    /// Its end.
    pub not_after: OffsetDateTime,
    /// The directory of its CA.
    pub directory: Url,
    /// When its CA wants it replaced (RFC 9773): from then to then.
    pub window: Option<(OffsetDateTime, OffsetDateTime)>,
    /// The CA does not take that an order replaces it.
    pub replaces_refused: bool,
}

/// What decides when certificates are ordered.
#[async_trait]
pub trait Placements: Send + Sync {
    /// Notes what is about to be asked of a CA. What was asked for the same order before and not heard of
    /// has failed: no certificate will come of it.
    async fn begin_placement(&self, placement: &PlacementRecord) -> Result<()>;
    /// Notes what was asked of a CA besides, or what it has said it allows.
    async fn insert_placement(&self, placement: &PlacementRecord) -> Result<()>;
    /// Notes what became of what was asked for an order and is open.
    async fn end_placements(
        &self,
        order: OrderId,
        state: PlacementState,
        refused: &[Identifier],
        now: OffsetDateTime,
    ) -> Result<()>;
    /// Notes that a CA did not take what it was asked for.
    async fn void_placement(&self, id: OrderId, now: OffsetDateTime) -> Result<()>;
    /// What has changed since then, oldest first.
    async fn placements_since(&self, changed_at: OffsetDateTime) -> Result<Vec<PlacementRecord>>;
    /// Forgets what has not changed since then.
    async fn forget_placements(&self, before: OffsetDateTime) -> Result<u64>;
    /// Certificates that are due by then, all of them without a time; soonest first.
    async fn planned(&self, due_by: Option<OffsetDateTime>) -> Result<Vec<PlannedRecord>>;
    /// The maintenance windows of the agents that certificates go to, agent by agent.
    async fn windows_of_agents(&self) -> Result<Vec<(CertificateName, Vec<MaintenanceWindow>)>>;
    /// Sets an agent's maintenance windows; `NotFound` where there is none.
    async fn set_agent_windows(
        &self,
        agent: &AgentName,
        windows: &[MaintenanceWindow],
    ) -> Result<()>;
}
