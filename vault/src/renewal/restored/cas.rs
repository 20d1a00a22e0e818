//! What CAs can say of the time between a backup and the restore from it: whether they know the
//! account's key, which certificates they want replaced, what they have issued.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use url::Url;
use vault_proto::ids::{CertificateName, KeyId, OrderId};

use super::{Aftermath, numbers::Numbers};
use crate::acme::{Account, RenewalInfoClient};
use crate::error::{ErrorKind, Result};
use crate::renewal::issue::RENEWAL;
use crate::store::{
    AccountRecord, CertificateRecord, Custody, KeyPurpose, KeyState, OrderRecord, OrderState,
    VersionRecord,
};
use crate::x509::chain::{Chain, Expected};

/// How many orders of others are told of one by one.
const TOLD: usize = 10;

/// What came of asking one account's CA.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    /// Whether it was asked, or never will be; else it is asked again.
    pub asked: bool,
    /// The account's URL then: one that was registered anew has another.
    pub url: Option<Url>,
    /// Certificates that are ordered anew for what it said.
    pub due: BTreeSet<CertificateName>,
    /// Certificates whose last version was fetched from it.
    pub taken: BTreeSet<CertificateName>,
    /// What a person should know.
    pub findings: Vec<String>,
}

/// A CA that is asked.
struct Ca<'a> {
    account: &'a Account,
    /// Where it says when to renew (RFC 9773), if it does.
    infos: Option<&'a RenewalInfoClient>,
}

/// A chain that the CA has issued and the vault does not know.
struct Found {
    url: Url,
    chain: Chain,
}

impl Aftermath {
    /// Asks one account's CA everything that it can be asked.
    pub(super) async fn ask(&self, account: &AccountRecord) -> Said {
        let mut said = Said { url: account.url.clone(), ..Said::default() };
        let name = &account.name;
        match self.asked(account, &mut said).await {
            Ok(()) => said.asked = true,
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted) => {
                said.findings.push(format!(
                    "account {name}: its CA could not be asked what happened since the backup, and \
                     is asked again: {error}"
                ));
            }
            Err(error) => {
                said.asked = true;
                said.findings.push(format!("account {name}: {error} ({})", error.hint));
            }
        }
        for finding in &said.findings {
            tracing::warn!(finding, "after the restore");
        }
        said
    }

    async fn asked(&self, account: &AccountRecord, said: &mut Said) -> Result<()> {
        let accounts = &self.issuer.accounts;
        let name = &account.name;
        let (account, opened) = accounts.open(&RENEWAL, name).await?;
        if !accounts.is_known(&RENEWAL, &account).await? {
            said.findings.push(format!(
                "account {name}: its CA does not know it by the key that this vault has: it was \
                 rolled over or deactivated since the backup; `vaultctl account register {name}` \
                 with the same directory registers it anew"
            ));
            return Ok(());
        }
        let certificates = self.issuer.store.certificates().await?;
        let certificates: Vec<_> =
            certificates.into_iter().filter(|certificate| certificate.account == *name).collect();
        let infos = opened.renewal_infos().await?;
        let ca = Ca { account: &opened, infos: infos.as_ref() };
        self.ask_windows(&ca, &certificates, said).await?;
        self.ask_orders(&ca, &certificates, said).await?;
        if !said.due.is_empty() || !said.taken.is_empty() {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Asks which certificates the CA wants replaced now: what is revoked is among them.
    async fn ask_windows(
        &self,
        ca: &Ca<'_>,
        certificates: &[CertificateRecord],
        said: &mut Said,
    ) -> Result<()> {
        let mut silent = Vec::new();
        for certificate in certificates {
            let Some(version) = self.current(certificate).await? else { continue };
            match self.is_due(ca, &Chain::parse(&version.chain_pem)?).await? {
                Some(true) => self.make_due(certificate, said).await?,
                Some(false) => {}
                None => silent.push(certificate.name.as_str()),
            }
        }
        if !silent.is_empty() {
            let ca = ca.account.ca();
            said.findings.push(format!(
                "{ca} does not say by ACME (RFC 9773) whether certificates were revoked since the \
                 backup: look there for {}, and `vaultctl cert renew NAME --force` what was",
                listed(&silent)
            ));
        }
        Ok(())
    }

    /// Whether the CA wants a certificate replaced now; `None` where it does not say.
    async fn is_due(&self, ca: &Ca<'_>, chain: &Chain) -> Result<Option<bool>> {
        let Some(infos) = ca.infos else { return Ok(None) };
        match infos.ask(chain.leaf_der()).await {
            Ok(info) => Ok(info.map(|info| info.start <= self.issuer.clock.now())),
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted) => {
                Err(error)
            }
            // Of what it does not know it cannot say that it still holds.
            Err(_) => Ok(None),
        }
    }

    /// Looks through the CA's list of the account's orders for what this vault does not know.
    async fn ask_orders(
        &self,
        asked: &Ca<'_>,
        certificates: &[CertificateRecord],
        said: &mut Said,
    ) -> Result<()> {
        let (account, ca) = (asked.account, asked.account.ca());
        let Some(listed) = account.orders().await? else {
            said.findings.push(format!(
                "{ca} offers no list of orders (RFC 8555 section 7.1.2.1): what was issued since \
                 the backup is not known from it"
            ));
            return Ok(());
        };
        if !listed.whole {
            said.findings.push(format!("{ca} lists more orders than are looked at"));
        }
        let (mut newest, mut others) = (BTreeMap::<CertificateName, Found>::new(), Vec::new());
        for url in listed.orders {
            if self.issuer.store.order_by_url(&url).await?.is_some() {
                continue;
            }
            let Some(pem) = account.chain_of(&url).await? else { continue };
            let Ok(chain) = Chain::parse(&pem) else { continue };
            let Some(certificate) = self.of(certificates, &chain).await? else {
                if chain.not_after() > self.issuer.clock.now() {
                    others.push(chain.serial());
                }
                continue;
            };
            let later = newest
                .get(&certificate.name)
                .is_none_or(|found| found.chain.not_before() < chain.not_before());
            if later {
                newest.insert(certificate.name.clone(), Found { url, chain });
            }
        }
        if !others.is_empty() {
            let others: Vec<_> = others.iter().map(String::as_str).collect();
            said.findings.push(format!(
                "{ca} has issued certificates with this account that belong to none of this vault's \
                 (serial {}): declared since the backup, they have to be declared again",
                self::listed(&others)
            ));
        }
        for certificate in certificates {
            if let Some(found) = newest.remove(&certificate.name) {
                self.consider(asked, certificate, found, said).await?;
            }
        }
        Ok(())
    }

    /// The certificate that a chain is of: of several with the same names the one whose key it has.
    async fn of<'a>(
        &self,
        certificates: &'a [CertificateRecord],
        chain: &Chain,
    ) -> Result<Option<&'a CertificateRecord>> {
        let mut named = None;
        for certificate in certificates.iter().filter(|one| self.names(one, chain)) {
            if self.key_of(certificate, chain).await?.is_some() {
                return Ok(Some(certificate));
            }
            named = named.or(Some(certificate));
        }
        Ok(named)
    }

    /// Whether a chain is for just this certificate's names, and holds.
    fn names(&self, certificate: &CertificateRecord, chain: &Chain) -> bool {
        let identifiers = certificate.identifiers.iter().cloned().collect();
        let expected = Expected { identifiers, spki_der: None, now: self.issuer.clock.now() };
        chain.validate(&expected).is_ok()
    }

    /// Takes what the CA has issued since the backup as the next version, where it can be used.
    async fn consider(
        &self,
        ca: &Ca<'_>,
        certificate: &CertificateRecord,
        found: Found,
        said: &mut Said,
    ) -> Result<()> {
        let name = &certificate.name;
        let versions = self.issuer.store.versions(name).await?;
        let fingerprint = found.chain.fingerprint();
        let known = versions.iter().any(|version| version.fingerprint == fingerprint);
        let current = self.current(certificate).await?;
        let older = current.is_some_and(|current| found.chain.not_before() < current.not_before);
        if known || older {
            return Ok(());
        }
        let serial = found.chain.serial();
        if certificate.custody == Custody::Agent {
            said.findings.push(format!(
                "certificate {name} was issued since the backup (serial {serial}); its key is its \
                 agent's, which says when it connects what it holds"
            ));
            return Ok(());
        }
        let Some(key) = self.key_of(certificate, &found.chain).await? else {
            said.findings.push(format!(
                "certificate {name} was issued since the backup (serial {serial}) with a key that \
                 is lost: it is ordered anew"
            ));
            return self.make_due(certificate, said).await;
        };
        if self.is_due(ca, &found.chain).await? == Some(true) {
            return self.make_due(certificate, said).await;
        }
        self.take(certificate, found, key, said).await
    }

    /// The certificate's key in the HSM that a chain is for.
    async fn key_of(
        &self,
        certificate: &CertificateRecord,
        chain: &Chain,
    ) -> Result<Option<KeyId>> {
        let spki = chain.spki_der()?;
        let name = certificate.name.as_str();
        let keys = self.issuer.store.key_versions(KeyPurpose::Certificate, name).await?;
        let alive = |state| matches!(state, KeyState::Active | KeyState::Retired);
        let key = keys.into_iter().find(|key| alive(key.state) && key.spki_der == spki);
        Ok(key.map(|key| key.id))
    }

    /// Goes on with the CA's order as with one of the vault's own that a crash has interrupted.
    async fn take(
        &self,
        certificate: &CertificateRecord,
        found: Found,
        key: KeyId,
        said: &mut Said,
    ) -> Result<()> {
        let store = self.issuer.store.as_ref();
        let numbers = Numbers::read(store, &certificate.name).await?;
        let (current, now) = (certificate.current_version, self.issuer.clock.now());
        let order = OrderRecord {
            id: OrderId::random(),
            certificate: certificate.name.clone(),
            version: numbers.next(current, current + 1, &found.chain.fingerprint()),
            account: certificate.account.clone(),
            state: OrderState::Finalizing,
            url: Some(found.url),
            csr_der: None,
            key_id: Some(key),
            error: None,
            created_at: now,
            updated_at: now,
        };
        match store.insert_order(&order).await {
            Ok(()) => {}
            // One that is under way brings something newer still.
            Err(error) if error.kind == ErrorKind::Conflict => return Ok(()),
            Err(error) => return Err(error),
        }
        store.make_due(&certificate.name, now, true).await?;
        said.taken.insert(certificate.name.clone());
        Ok(())
    }

    async fn make_due(&self, certificate: &CertificateRecord, said: &mut Said) -> Result<()> {
        let now = self.issuer.clock.now();
        self.issuer.store.make_due(&certificate.name, now, true).await?;
        said.due.insert(certificate.name.clone());
        Ok(())
    }

    pub(super) async fn current(
        &self,
        certificate: &CertificateRecord,
    ) -> Result<Option<VersionRecord>> {
        self.issuer.store.version(&certificate.name, certificate.current_version).await
    }
}

/// The first of many, and how many more.
pub(super) fn listed(all: &[&str]) -> String {
    let told = all.iter().take(TOLD).copied().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(TOLD) {
        Some(more) if more > 0 => format!("{told} and {more} more"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_listed_by_the_first_and_their_number() {
        assert_eq!(listed(&["a", "b"]), "a, b");
        assert_eq!(listed(&["x"; 12]), format!("{} and 2 more", ["x"; 10].join(", ")));
        assert_eq!(listed(&["x"; 10]), ["x"; 10].join(", "));
    }
}
