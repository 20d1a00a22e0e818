//! What the vault wants here: whole after each connect, then by difference. Everything that acts
//! on it watches it, so that nothing is a command and nothing is missed.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use tokio::sync::{mpsc, watch};
use vault_proto::v1;

/// Challenges that shall be shown, by token.
pub type Challenges = RedBlackTreeMapSync<String, Arc<v1::WantedChallenge>>;

/// A name, and the certificate of that name that shall be here; `None` where none shall any more.
type Change = (String, Option<Arc<v1::WantedCertificate>>);

/// Certificates that shall be here. Cheap to clone; who has looked before finds what has changed since
/// without a look at all the others.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// The last change of each name, by revision: what is not wanted any more stays as that.
    changes: RedBlackTreeMapSync<u64, Change>,
    /// The revision of each name's last change.
    latest: RedBlackTreeMapSync<String, u64>,
}

impl Certificates {
    /// Counts changes: what a look at all of this will have seen.
    pub fn revision(&self) -> u64 {
        self.changes.last().map_or(0, |(revision, _)| *revision)
    }

    /// What has changed after a revision, oldest first; `None` for what is not wanted any more. After 0,
    /// everything.
    pub fn since(
        &self,
        revision: u64,
    ) -> impl Iterator<Item = (&str, Option<&Arc<v1::WantedCertificate>>)> {
        let changes = self.changes.range(revision.saturating_add(1)..);
        changes.map(|(_, (name, wanted))| (name.as_str(), wanted.as_ref()))
    }

    fn set(&mut self, name: String, wanted: Option<Arc<v1::WantedCertificate>>) {
        let revision = self.revision() + 1;
        if let Some(before) = self.latest.get(&name) {
            self.changes.remove_mut(before);
        }
        self.latest.insert_mut(name.clone(), revision);
        self.changes.insert_mut(revision, (name, wanted));
    }

    fn remove_all(&mut self) {
        let all = self.since(0).filter(|(_, wanted)| wanted.is_some());
        for name in all.map(|(name, _)| name.to_owned()).collect::<Vec<_>>() {
            self.set(name, None);
        }
    }
}

/// Everything that shall be here. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Counts connections; what was reported on one is reported again on the next.
    pub connection: u64,
    /// Whether the vault has said anything yet.
    pub known: bool,
    /// Certificates.
    pub certificates: Certificates,
    /// Challenges.
    pub challenges: Challenges,
}

impl Desired {
    /// Takes a message in. After a whole state everything counts as changed.
    pub fn apply(&mut self, message: v1::VaultMessage) {
        if message.full {
            self.certificates.remove_all();
            self.challenges = Challenges::default();
        }
        for name in message.removed_certificates {
            self.certificates.set(name, None);
        }
        for token in &message.removed_challenges {
            self.challenges.remove_mut(token);
        }
        for wanted in message.certificates {
            self.certificates.set(wanted.name.clone(), Some(Arc::new(wanted)));
        }
        for wanted in message.challenges {
            self.challenges.insert_mut(wanted.token.clone(), Arc::new(wanted));
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

    fn seen(desired: &Desired, since: u64) -> Vec<(&str, Option<u64>)> {
        let changed = desired.certificates.since(since);
        changed.map(|(name, wanted)| (name, wanted.map(|wanted| wanted.version))).collect()
    }

    #[test]
    fn a_whole_state_replaces_and_a_difference_adds_and_removes() {
        let mut desired = Desired::default();
        desired.apply(message(true, &[("a", 1), ("b", 1)], &[]));
        assert_eq!(seen(&desired, 0), [("a", Some(1)), ("b", Some(1))]);
        let early = desired.certificates.revision();
        desired.apply(message(false, &[("b", 2), ("c", 1)], &["a"]));
        let now = [("a", None), ("b", Some(2)), ("c", Some(1))];
        assert_eq!(seen(&desired, early), now);
        assert_eq!(seen(&desired, 0), now, "each once, as it is now");
        let late = desired.certificates.revision();
        assert!(seen(&desired, late).is_empty());
        // Who connects anew has everything said anew.
        desired.apply(message(true, &[("c", 1)], &[]));
        assert_eq!(seen(&desired, late), [("b", None), ("c", Some(1))]);
    }
}
