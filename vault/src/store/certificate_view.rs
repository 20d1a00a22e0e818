//! All that is shown of certificates, read at once: whoever lists a fleet asks for each of them.

use async_trait::async_trait;
use time::OffsetDateTime;
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    CertificateRecord, DeploymentRecord, OrderState, RenewalInfoRecord, RevocationCheck, RolledOut,
    VersionRecord,
};
use crate::error::Result;

/// A certificate and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateView {
    /// The certificate.
    pub certificate: CertificateRecord,
    /// The state of its open order.
    pub order: Option<OrderState>,
    /// The version in force.
    pub version: Option<VersionRecord>,
    /// What its CA says of when that is to be renewed.
    pub renewal_info: Option<RenewalInfoRecord>,
    /// The last check of that version.
    pub check: Option<RevocationCheck>,
    /// Until when that version's staple holds.
    pub staple_next_update: Option<OffsetDateTime>,
    /// The rollout of that version.
    pub rolled_out: Option<RolledOut>,
    /// Where it goes, by agent.
    pub deployments: Vec<DeploymentRecord>,
    /// The agent that the operator wants asked first.
    pub canary: Option<AgentName>,
}

/// What operators get to see.
#[async_trait]
pub trait CertificateViews: Send + Sync {
    /// One certificate.
    async fn certificate_view(&self, name: &CertificateName) -> Result<Option<CertificateView>>;
    /// The certificates behind this one, by name, or from the first on; so many at most. As many questions to
    /// the database as for one.
    async fn certificate_views(
        &self,
        after: Option<&CertificateName>,
        limit: u32,
    ) -> Result<Vec<CertificateView>>;
}
