//! Who shows a certificate's challenges: its agents, or the DNS.

use std::sync::Arc;

use crate::acme::ChallengePresenter;
use crate::error::{Error, Result};
use crate::push::Hub;
use crate::store::ChallengeKind;

/// The presenters there are, by kind of challenge. Cheap to clone.
#[derive(Clone)]
pub struct Presenters {
    agents: Arc<Hub>,
    dns: Option<Arc<dyn ChallengePresenter>>,
}

impl Presenters {
    /// Agents alone.
    pub fn new(agents: Arc<Hub>) -> Self {
        Self { agents, dns: None }
    }

    /// And the DNS.
    #[must_use]
    pub fn with_dns(mut self, dns: Arc<dyn ChallengePresenter>) -> Self {
        self.dns = Some(dns);
        self
    }

    /// Who shows challenges of a kind.
    ///
    /// # Errors
    /// `Invalid` where nobody is set up for it.
    pub fn of(&self, kind: ChallengeKind) -> Result<&dyn ChallengePresenter> {
        match (kind, &self.dns) {
            (ChallengeKind::Http01 | ChallengeKind::TlsAlpn01, _) => Ok(self.agents.as_ref()),
            (ChallengeKind::Dns01, Some(dns)) => Ok(dns.as_ref()),
            (ChallengeKind::Dns01, None) => {
                Err(Error::invalid("present", format!("a {kind} challenge"), "no DNS is set up")
                    .hint("add [[acme.dns]] to vault.toml: docs/acme.md"))
            }
        }
    }
}
