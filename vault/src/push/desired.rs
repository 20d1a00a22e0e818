//! What an agent shall hold, computed from the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use vault_proto::{
    ids::{AgentName, CertificateName, OrderId},
    v1,
};

use super::{Changes, Foreign, staple};
use crate::clock::Clock;
use crate::error::Result;
use crate::store::{AgentView, CertificateRecord, ChallengeKind, OrderState, Store, VersionsFor};
use crate::wire;
use crate::x509::chain::Chain;

/// Everything one agent shall hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DesiredState {
    certificates: BTreeMap<String, v1::WantedCertificate>,
    challenges: BTreeMap<String, v1::WantedChallenge>,
    /// Which challenges are a certificate's, by its name.
    tokens: BTreeMap<String, Vec<String>>,
}

/// What one agent's desired state is computed from.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What is stored.
    pub store: &'a dyn Store,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Whose state it is.
    pub agent: &'a AgentName,
    /// What the agent holds and this vault does not know: it stays in place until something newer is
    /// issued, where it is of use.
    pub foreign: &'a [Foreign],
}

impl DesiredState {
    /// All of it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn whole(view: View<'_>) -> Result<Self> {
        let mut state = Self::default();
        for deployment in view.store.deployments_on(view.agent).await? {
            state.read(view, &deployment.certificate).await?;
        }
        Ok(state)
    }

    /// Brings it up to date by looking at what has changed alone. Answers the message that brings an
    /// agent along; `None` where it is there. After an error it is as it was.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn follow(
        &mut self,
        view: View<'_>,
        changes: &Changes,
        sequence: u64,
    ) -> Result<Option<v1::VaultMessage>> {
        let names = match changes {
            Changes::All => {
                let before = mem::replace(self, Self::whole(view).await?);
                return Ok(self.message(Some(&before), sequence));
            }
            Changes::Of(names) => names,
        };
        let mut now = Self::default();
        for name in names {
            now.read(view, name).await?;
        }
        let before = self.take(names.iter().map(CertificateName::as_str));
        let message = now.message(Some(&before), sequence);
        // Not by `append`, which makes the whole map anew.
        self.certificates.extend(now.certificates);
        self.challenges.extend(now.challenges);
        self.tokens.extend(now.tokens);
        Ok(message)
    }

    /// Adds what the agent shall have of one certificate; nothing where it does not go to it.
    async fn read(&mut self, view: View<'_>, name: &CertificateName) -> Result<()> {
        let known = view.store.agent_view(name, view.agent).await?;
        let Some(known) = known else { return Ok(()) };
        // There are challenges from when an order can be placed to when it is finalized.
        if let Some((order, OrderState::Ready)) = known.order {
            self.read_challenges(view, &known.certificate, order).await?;
        }
        let wanted = wanted(view, known).await?;
        self.certificates.insert(wanted.name.clone(), wanted);
        Ok(())
    }

    async fn read_challenges(
        &mut self,
        view: View<'_>,
        certificate: &CertificateRecord,
        order: OrderId,
    ) -> Result<()> {
        let mut tokens = Vec::new();
        for challenge in view.store.challenges_of(order).await? {
            // What the DNS shows is of no use to a web server.
            if challenge.kind == ChallengeKind::Dns01 {
                continue;
            }
            tokens.push(challenge.token.clone());
            let wanted = v1::WantedChallenge {
                token: challenge.token.clone(),
                key_authorization: challenge.key_authorization,
                identifier: challenge.identifier.to_string(),
                kind: challenge.kind.to_string(),
            };
            self.challenges.insert(challenge.token, wanted);
        }
        if !tokens.is_empty() {
            self.tokens.insert(certificate.name.to_string(), tokens);
        }
        Ok(())
    }

    /// Takes out all that it has of these certificates.
    fn take<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Self {
        let mut taken = Self::default();
        for name in names {
            taken.certificates.extend(self.certificates.remove_entry(name));
            let Some((name, tokens)) = self.tokens.remove_entry(name) else { continue };
            for token in &tokens {
                taken.challenges.extend(self.challenges.remove_entry(token));
            }
            taken.tokens.insert(name, tokens);
        }
        taken
    }

    /// The message that brings an agent from `sent` to this state; `None` where it is there.
    /// Without `sent` the whole state.
    pub fn message(&self, sent: Option<&Self>, sequence: u64) -> Option<v1::VaultMessage> {
        let Some(sent) = sent else {
            return Some(v1::VaultMessage {
                sequence,
                full: true,
                certificates: self.certificates.values().cloned().collect(),
                challenges: self.challenges.values().cloned().collect(),
                ..Default::default()
            });
        };
        let message = v1::VaultMessage {
            sequence,
            full: false,
            certificates: changed(&self.certificates, &sent.certificates),
            challenges: changed(&self.challenges, &sent.challenges),
            removed_certificates: removed(&self.certificates, &sent.certificates),
            removed_challenges: removed(&self.challenges, &sent.challenges),
        };
        let nothing = message.certificates.is_empty()
            && message.challenges.is_empty()
            && message.removed_certificates.is_empty()
            && message.removed_challenges.is_empty();
        (!nothing).then_some(message)
    }
}

fn changed<T: Clone + PartialEq>(
    now: &BTreeMap<String, T>,
    before: &BTreeMap<String, T>,
) -> Vec<T> {
    now.iter().filter(|(name, x)| before.get(*name) != Some(x)).map(|(_, x)| x.clone()).collect()
}

fn removed<T>(now: &BTreeMap<String, T>, before: &BTreeMap<String, T>) -> Vec<String> {
    before.keys().filter(|name| !now.contains_key(*name)).cloned().collect()
}

async fn wanted(view: View<'_>, known: AgentView) -> Result<v1::WantedCertificate> {
    let View { store, clock, foreign, .. } = view;
    let (certificate, now) = (&known.certificate, clock.now());
    let held = foreign.iter().find(|held| held.certificate == certificate.name);
    let VersionsFor { wanted, in_use } = match known.wanted_version {
        // There is none yet.
        0 => VersionsFor::default(),
        wanted => store.versions_for(&certificate.name, wanted, now).await?,
    };
    let mut version = match wanted {
        Some(wanted) => staple::ready(store, &known, wanted, clock).await?,
        None => None,
    };
    if let Some(held) = held
        && held.is_newer_than(version.as_ref().map(|(version, _)| version), now)
        && held.is_of_use(store, certificate, &in_use, now).await?
    {
        version = None;
    }
    let (mut tls_keys, mut seen) = (Vec::new(), BTreeSet::new());
    for version in in_use {
        let Some(key) = version.key_id.filter(|key| seen.insert(*key)) else { continue };
        let leaf_der = Chain::parse(&version.chain_pem)?.leaf_der().to_vec();
        tls_keys.push(v1::TlsKey { key_id: key.as_bytes().to_vec(), leaf_der });
    }
    let (version, its_staple) = version.unzip();
    staple::its_key_first(&mut tls_keys, version.as_ref());
    Ok(v1::WantedCertificate {
        ocsp_response: staple::response(version.as_ref(), its_staple.flatten(), clock),
        tls_keys,
        name: certificate.name.to_string(),
        custody: v1::Custody::from(certificate.custody).into(),
        version: version.as_ref().map_or(0, |version| version.version),
        chain_pem: version.map(|version| version.chain_pem).unwrap_or_default(),
        csr_wanted: known
            .order
            .filter(|(_, state)| *state == OrderState::AwaitingCsr)
            .map(|(order, _)| csr_wanted(certificate, order)),
    })
}

fn csr_wanted(certificate: &CertificateRecord, order: OrderId) -> v1::CsrWanted {
    let (domains, ips) = wire::identifiers(&certificate.identifiers);
    v1::CsrWanted {
        order_id: order.to_string(),
        algorithm: v1::KeyAlgorithm::from(certificate.algorithm).into(),
        domains,
        ips,
        must_staple: certificate.must_staple,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(certificates: &[(&str, u64)], tokens: &[&str]) -> DesiredState {
        let mut state = DesiredState::default();
        for (name, version) in certificates {
            let wanted = v1::WantedCertificate {
                name: (*name).into(),
                version: *version,
                ..Default::default()
            };
            state.certificates.insert((*name).into(), wanted);
        }
        for token in tokens {
            let wanted = v1::WantedChallenge { token: (*token).into(), ..Default::default() };
            state.challenges.insert((*token).into(), wanted);
        }
        state
    }

    #[test]
    fn a_new_session_gets_everything_even_when_that_is_nothing() {
        let message = state(&[], &[]).message(None, 1).unwrap();
        assert!(message.full);
        assert_eq!(message.sequence, 1);
    }

    #[test]
    fn what_did_not_change_is_not_sent() {
        let before = state(&[("a", 1), ("b", 1)], &["t"]);
        assert!(before.message(Some(&before), 2).is_none());
        let message = state(&[("a", 2), ("b", 1)], &["t"]).message(Some(&before), 2).unwrap();
        assert!(!message.full);
        assert_eq!(message.certificates.len(), 1);
        assert_eq!(message.certificates[0].version, 2);
        assert!(message.challenges.is_empty());
    }

    #[test]
    fn what_is_gone_is_named() {
        let before = state(&[("a", 1), ("b", 1)], &["t"]);
        let message = state(&[("b", 1)], &[]).message(Some(&before), 2).unwrap();
        assert_eq!(message.removed_certificates, ["a"]);
        assert_eq!(message.removed_challenges, ["t"]);
    }
}
