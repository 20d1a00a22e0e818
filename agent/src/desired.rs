//! What the vault wants here: whole after each connect, then by difference. Everything that acts
//! on it watches it, so that nothing is a command and nothing is missed.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{mpsc, watch};
use vault_proto::v1;

/// Certificates that shall be here, by name.
pub type Certificates = BTreeMap<String, Arc<v1::WantedCertificate>>;
/// Challenges that shall be shown, by token.
pub type Challenges = BTreeMap<String, Arc<v1::WantedChallenge>>;

/// Everything that shall be here.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Counts connections; what was reported on one is reported again on the next.
    pub connection: u64,
    /// Whether the vault has said anything yet.
    pub known: bool,
    /// Certificates.
    pub certificates: Arc<Certificates>,
    /// Challenges.
    pub challenges: Arc<Challenges>,
}

impl Desired {
    /// Takes a message in.
    pub fn apply(&mut self, message: v1::VaultMessage) {
        if message.full {
            (self.certificates, self.challenges) = Default::default();
        }
        let certificates = Arc::make_mut(&mut self.certificates);
        let challenges = Arc::make_mut(&mut self.challenges);
        for name in &message.removed_certificates {
            certificates.remove(name);
        }
        for token in &message.removed_challenges {
            challenges.remove(token);
        }
        for wanted in message.certificates {
            certificates.insert(wanted.name.clone(), Arc::new(wanted));
        }
        for wanted in message.challenges {
            challenges.insert(wanted.token.clone(), Arc::new(wanted));
        }
        self.known = true;
    }
}

/// A report and the connection that it is for.
#[derive(Debug, Clone)]
pub struct Report {
    /// As in [`Desired::connection`].
    pub connection: u64,
    /// What became of a resource.
    pub report: v1::ResourceReport,
}

/// Both directions between the stream and those who act.
#[derive(Clone)]
pub struct Exchange {
    /// What is wanted.
    pub desired: watch::Receiver<Desired>,
    /// What became of it.
    pub reports: mpsc::Sender<Report>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(full: bool, names: &[(&str, u64)], removed: &[&str]) -> v1::VaultMessage {
        let wanted = |(name, version): &(&str, u64)| v1::WantedCertificate {
            name: (*name).to_owned(),
            version: *version,
            ..Default::default()
        };
        v1::VaultMessage {
            full,
            certificates: names.iter().map(wanted).collect(),
            removed_certificates: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_whole_state_replaces_and_a_difference_adds_and_removes() {
        let mut desired = Desired::default();
        desired.apply(message(true, &[("a", 1), ("b", 1)], &[]));
        desired.apply(message(false, &[("b", 2), ("c", 1)], &["a"]));
        let versions: Vec<_> =
            desired.certificates.values().map(|c| (c.name.as_str(), c.version)).collect();
        assert_eq!(versions, [("b", 2), ("c", 1)]);
        desired.apply(message(true, &[("d", 1)], &[]));
        assert_eq!(desired.certificates.len(), 1);
    }
}
