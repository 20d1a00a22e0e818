//! One certificate's order, from its decision to its stored chain. Each step is durable before the
//! next begins, so an order goes on where a crash left it; `ARCHITECTURE.md` has the cycle.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::json;
use vault_proto::ids::{CertificateName, OrderId};

use crate::accounts::Accounts;
use crate::acme::{self, OrderStatus};
use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::fault::crash_point;
use crate::policy::{Action, Principal};
use crate::push::Hub;
use crate::signing::{NewKey, Signing};
use crate::store::{
    CertificateRecord, ChallengeRecord, Custody, KeyPurpose, KeyRecord, KeyState, OrderRecord,
    OrderState, Store, VersionRecord,
};
use crate::x509::{chain, csr};

use super::planner::{self, Policy};
use super::presenters::Presenters;
use super::restored::Numbers;

/// How long the CA may take over validation, and again over issuance. Public CAs take seconds;
/// past this the attempt is retried later with the same order.
const CA_DEADLINE: Duration = Duration::from_secs(120);

/// Who signs CSRs and JWS in the course of an order, and ends keys after it.
pub(super) const RENEWAL: Principal = Principal::Vault("renewal");

/// Orders certificates. Cheap to clone.
#[derive(Clone)]
pub struct Issuer {
    pub(super) store: Arc<dyn Store>,
    pub(super) signing: Signing,
    pub(super) hub: Arc<Hub>,
    pub(super) presenters: Presenters,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) policy: Policy,
    pub(super) accounts: Accounts,
    pub(super) alerts: Alerts,
    /// One agent after the other is heard.
    pub(super) hearing: Arc<tokio::sync::Mutex<()>>,
}

/// What an [`Issuer`] works with.
pub struct Parts {
    /// Everything that is not a private key.
    pub store: Arc<dyn Store>,
    /// Signs CSRs and makes keys.
    pub signing: Signing,
    /// Brings agents what changed.
    pub hub: Arc<Hub>,
    /// Who presents which challenge.
    pub presenters: Presenters,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When certificates are renewed.
    pub policy: Policy,
    /// ACME accounts.
    pub accounts: Accounts,
    /// What somebody has to know of.
    pub alerts: Alerts,
}

/// What became of one step of work on a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A new version is stored and on its way to its agents.
    Issued,
    /// The agent's CSR is awaited; [`Issuer::accept_csr`] goes on.
    AwaitingCsr,
}

impl Issuer {
    /// An issuer over these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, signing, hub, presenters, clock, policy, accounts, alerts } = parts;
        Self {
            store,
            signing,
            hub,
            presenters,
            clock,
            policy,
            accounts,
            alerts,
            hearing: Arc::default(),
        }
    }

    /// Brings a due certificate as far as it will go now: begins an order or goes on with the
    /// open one.
    ///
    /// # Errors
    /// What stopped it; the caller records it and decides when to try again.
    pub(super) async fn advance(&self, certificate: &CertificateRecord) -> Result<Progress> {
        let order = match self.store.open_order(&certificate.name).await? {
            Some(order) if self.has_lost_its_key(certificate, &order).await? => {
                let (why, now) = ("its key is lost or compromised", self.clock.now());
                let attempts = certificate.failed_attempts;
                self.store.fail_order(order.id, why, attempts, certificate.renew_at, now).await?;
                self.begin(certificate).await?
            }
            Some(order) => order,
            None => self.begin(certificate).await?,
        };
        match order.state {
            OrderState::AwaitingCsr => Ok(Progress::AwaitingCsr),
            _ => self.drive(certificate, order).await.map(|()| Progress::Issued),
        }
    }

    /// Whether what comes of an order could be used by nobody, or by too many.
    async fn has_lost_its_key(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
    ) -> Result<bool> {
        let Some(id) = order.key_id else { return Ok(false) };
        let lost = self.store.key(id).await?.is_some_and(|key| key.state == KeyState::Lost);
        Ok(lost || self.is_compromised(certificate, id).await?)
    }

    /// Decides on a new order and makes it durable.
    async fn begin(&self, certificate: &CertificateRecord) -> Result<OrderRecord> {
        let now = self.clock.now();
        let numbers = Numbers::read(self.store.as_ref(), &certificate.name).await?;
        let mut order = OrderRecord {
            id: OrderId::random(),
            certificate: certificate.name.clone(),
            version: numbers.free(certificate.current_version + 1),
            account: certificate.account_in_turn().clone(),
            state: OrderState::AwaitingCsr,
            url: None,
            csr_der: None,
            key_id: None,
            error: None,
            created_at: now,
            updated_at: now,
        };
        if certificate.custody == Custody::Vault {
            let key = self.certificate_key(certificate).await?;
            crash_point!("issue.key");
            let context = json!({ "order": order.id.to_string() });
            let signer = self.signing.bind(RENEWAL, key.clone(), Action::SignCsr, context);
            let csr =
                csr::build(&signer, &certificate.identifiers, certificate.must_staple).await?;
            order.csr_der = Some(csr);
            order.key_id = Some(key.id);
            order.state = OrderState::Ready;
        }
        self.store.insert_order(&order).await?;
        crash_point!("issue.order");
        self.hub.changed(&certificate.name).await;
        Ok(order)
    }

    /// The certificate's HSM key: the one it has, a new version of it where each renewal wants
    /// one or somebody else may have it, else one that a crash left without its certificate knowing,
    /// else its first.
    async fn certificate_key(&self, certificate: &CertificateRecord) -> Result<KeyRecord> {
        let name = certificate.name.as_str();
        let found = self.store.key_by_name(KeyPurpose::Certificate, name).await?;
        if let Some(key) = found.filter(|key| key.state == KeyState::Active) {
            let version =
                self.store.version(&certificate.name, certificate.current_version).await?;
            let certified = version.is_some_and(|version| version.key_id == Some(key.id));
            let compromised = self.is_compromised(certificate, key.id).await?;
            return match (certificate.rotate_key && certified) || compromised {
                true => self.signing.rotate(&RENEWAL, KeyPurpose::Certificate, name).await,
                false => Ok(key),
            };
        }
        let new = NewKey {
            name: name.to_owned(),
            purpose: KeyPurpose::Certificate,
            algorithm: certificate.algorithm,
            escrow: None,
            labels: std::collections::BTreeMap::new(),
        };
        self.signing.generate(&RENEWAL, new).await
    }

    /// Takes the agent's CSR for an order that waits for it.
    ///
    /// # Errors
    /// `Conflict` where the order does not wait for one, `Invalid` or `Verification` where the
    /// CSR is weak or asks for anything else than the certificate: then nothing changes.
    pub async fn accept_csr(
        &self,
        name: &CertificateName,
        id: OrderId,
        csr_der: &[u8],
    ) -> Result<()> {
        let subject = || format!("order {id} of certificate {name}");
        let gone = |why: &str| Error::conflict("accept a CSR", subject(), why);
        let order = self.store.order(id).await?.filter(|order| order.certificate == *name);
        let mut order = order.ok_or_else(|| gone("the vault has no such order"))?;
        if order.state != OrderState::AwaitingCsr {
            // The answer to the same CSR may have been lost on its way.
            if order.csr_der.as_deref() == Some(csr_der) {
                return Ok(());
            }
            return Err(gone("it does not wait for a CSR"));
        }
        let certificate = self.certificate(name).await?;
        csr::parse(csr_der)?.matches(
            &certificate.identifiers,
            certificate.algorithm,
            certificate.must_staple,
        )?;
        order.csr_der = Some(csr_der.to_vec());
        order.state = OrderState::Ready;
        order.updated_at = self.clock.now();
        self.store.update_order(&order).await?;
        crash_point!("issue.csr");
        self.hub.changed(name).await;
        Ok(())
    }

    async fn drive(&self, certificate: &CertificateRecord, mut order: OrderRecord) -> Result<()> {
        let (_, account) = self.accounts.open(&RENEWAL, &order.account).await?;
        let url = match &order.url {
            Some(url) => url.clone(),
            None => {
                let url = account
                    .new_order(&certificate.identifiers, certificate.profile.as_deref())
                    .await?;
                crash_point!("issue.ca-order");
                order.url = Some(url.clone());
                self.store.update_order(&order).await?;
                crash_point!("issue.url");
                url
            }
        };
        if order.state == OrderState::Ready {
            self.authorize(certificate, &order, &account, &url).await?;
            let csr = order.csr_der.clone().ok_or_else(|| {
                Error::internal("finalize", format!("order {}", order.id), "it has no CSR")
            })?;
            // Before the CA is told, so that a crash leads to asking it, not to finalizing twice.
            order.state = OrderState::Finalizing;
            order.updated_at = self.clock.now();
            self.store.update_order(&order).await?;
            crash_point!("issue.finalizing");
            account.finalize(&url, &csr).await?;
            crash_point!("issue.finalized");
        } else if account.order_status(&url).await? == OrderStatus::Ready
            && let Some(csr) = &order.csr_der
        {
            // The crash came before the CA was told.
            account.finalize(&url, csr).await?;
        }
        let pem = account.certificate(&url, CA_DEADLINE).await?;
        crash_point!("issue.certificate");
        self.keep(certificate, &order, &pem).await?;
        self.accounts.note(&order.account, None).await
    }

    /// Proves control of every identifier that the CA still wants proven.
    async fn authorize(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
        account: &acme::Account,
        url: &url::Url,
    ) -> Result<()> {
        let presenter = self.presenters.of(certificate.challenge)?;
        let progress = account.authorizations(url, certificate.challenge).await?;
        let records: Vec<_> = progress
            .challenges
            .iter()
            .map(|challenge| ChallengeRecord {
                token: challenge.token.clone(),
                order_id: order.id,
                identifier: challenge.identifier.clone(),
                key_authorization: challenge.key_authorization.clone(),
            })
            .collect();
        if !records.is_empty() {
            self.store.put_challenges(&records).await?;
            crash_point!("issue.challenges");
            presenter.present(&certificate.name, &progress.challenges).await?;
            for challenge in &progress.challenges {
                account.ready(url, challenge).await?;
            }
        }
        let ready = account.wait_ready(url, CA_DEADLINE).await;
        self.store.remove_challenges(order.id).await?;
        let tokens: Vec<_> = records.into_iter().map(|record| record.token).collect();
        presenter.withdraw(&certificate.name, &tokens).await;
        ready
    }

    /// Checks the chain before it is stored, stores it, pushes it.
    async fn keep(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
        pem: &str,
    ) -> Result<()> {
        let now = self.clock.now();
        let chain = chain::Chain::parse(pem)?;
        chain.validate(&chain::Expected {
            identifiers: certificate.identifiers.iter().cloned().collect::<BTreeSet<_>>(),
            spki_der: Some(self.certified_key(order).await?),
            now,
        })?;
        // An agent may have come meanwhile that holds something by the number that was meant.
        let numbers = Numbers::read(self.store.as_ref(), &certificate.name).await?;
        let current = certificate.current_version;
        let number = numbers.next(current, order.version, &chain.fingerprint());
        let version = VersionRecord {
            certificate: certificate.name.clone(),
            version: number,
            account: order.account.clone(),
            chain_pem: chain.pem()?,
            serial: chain.serial(),
            not_before: chain.not_before(),
            not_after: chain.not_after(),
            fingerprint: chain.fingerprint(),
            key_id: order.key_id,
            issued_at: now,
            revoked: None,
        };
        let renew_at = planner::renew_at(
            &self.policy,
            version.not_before,
            version.not_after,
            planner::seed(certificate.name.as_str(), number),
        );
        self.store.record_issuance(order.id, &version, renew_at).await?;
        crash_point!("issue.stored");
        self.end_fallback(certificate, &order.account).await;
        tracing::info!(certificate = %certificate.name, version = number,
            serial = version.serial, not_after = %version.not_after, "issued");
        self.hub.changed(&certificate.name).await;
        Ok(())
    }

    /// The key that an order's certificate must have: what the CSR says, and where another life of this
    /// vault has made the CSR, the key itself.
    async fn certified_key(&self, order: &OrderRecord) -> Result<Vec<u8>> {
        if let Some(csr_der) = &order.csr_der {
            return Ok(csr::parse(csr_der)?.spki_der);
        }
        let key = match order.key_id {
            Some(id) => self.store.key(id).await?,
            None => None,
        };
        let none = || Error::internal("check", format!("order {}", order.id), "it has no key");
        key.map(|key| key.spki_der).ok_or_else(none)
    }

    pub(super) async fn certificate(&self, name: &CertificateName) -> Result<CertificateRecord> {
        let missing =
            || Error::not_found("find", format!("certificate {name}"), "the vault has no such one");
        self.store.certificate(name).await?.ok_or_else(missing)
    }

    /// Records a failed attempt: what is served stays; the next try comes with backoff. An order
    /// that the CA has given up is given up here, too; one that could not be asked about stays
    /// open and goes on.
    pub(super) async fn record_failure(&self, name: &CertificateName, error: &Error) -> Result<()> {
        let certificate = self.certificate(name).await?;
        let now = self.clock.now();
        let attempts = certificate.failed_attempts.saturating_add(1);
        let not_after = match certificate.current_version {
            0 => None,
            version => self.store.version(name, version).await?.map(|v| v.not_after),
        };
        let seed = planner::seed(name.as_str(), u64::from(attempts));
        let at = planner::retry_at(now, attempts, not_after, error.retry_after, seed);
        tracing::warn!(certificate = %name, attempts, retry_at = %at, %error, "order failed");
        let resumable = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted);
        let text = error.to_string();
        let passed = self.pass_turn(&certificate, error).await?;
        match self.store.open_order(name).await? {
            Some(order) if !resumable || passed => {
                self.store.fail_order(order.id, &text, attempts, at, now).await?;
            }
            _ => self.store.fail_attempt(name, &text, attempts, at).await?,
        }
        self.hub.changed(name).await;
        Ok(())
    }
}
