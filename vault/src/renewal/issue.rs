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

use super::agenda::Planning;
use super::planner::{self, Policy};
use super::presenters::Presenters;
use super::relinquish;
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
    pub(super) planning: Arc<Planning>,
    /// What orders that are over have left at their CA is given up a few at a time.
    pub(super) relinquishing: Arc<tokio::sync::Semaphore>,
    /// One agent after the other is heard.
    pub(super) hearing: Arc<tokio::sync::Mutex<()>>,
    /// CAs are asked when to renew, and told what is replaced (RFC 9773).
    pub(super) ari: bool,
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
    /// What CAs allow.
    pub planning: Planning,
}

/// What became of one step of work on a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A new version is stored and on its way to its agents.
    Issued,
    /// The agent's CSR is awaited; [`Issuer::accept_csr`] goes on.
    AwaitingCsr,
}

/// There is no certificate of this name.
pub(super) fn missing(name: &CertificateName) -> Error {
    Error::not_found("find", format!("certificate {name}"), "the vault has no such one")
}

impl Issuer {
    /// An issuer over these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, signing, hub, presenters, clock, policy, accounts, alerts, planning } =
            parts;
        Self {
            store,
            signing,
            hub,
            presenters,
            clock,
            policy,
            accounts,
            alerts,
            planning: Arc::new(planning),
            relinquishing: relinquish::slots(),
            hearing: Arc::default(),
            ari: false,
        }
    }

    /// Brings a due certificate as far as it will go now: begins an order or goes on with the
    /// open one.
    ///
    /// # Errors
    /// What stopped it; the caller records it and decides when to try again.
    pub(super) async fn advance(&self, certificate: &CertificateRecord) -> Result<Progress> {
        let order = match self.store.open_order(&certificate.name).await? {
            Some(order) => match self.key_is_of_no_use(&order).await? {
                Some(why) => {
                    let (now, due) = (self.clock.now(), certificate.renew_at);
                    let attempts = certificate.failed_attempts;
                    self.store.fail_order(order.id, why, attempts, due, now).await?;
                    self.begin(certificate).await?
                }
                None => order,
            },
            None => self.begin(certificate).await?,
        };
        match order.state {
            OrderState::AwaitingCsr => Ok(Progress::AwaitingCsr),
            _ => self.drive(certificate, order).await.map(|()| Progress::Issued),
        }
    }

    /// Why what comes of an order may be used by nobody; `None` where it may.
    async fn key_is_of_no_use(&self, order: &OrderRecord) -> Result<Option<&'static str>> {
        let Some(id) = order.key_id else { return Ok(None) };
        if self.store.key(id).await?.is_some_and(|key| key.state == KeyState::Lost) {
            return Ok(Some("its key is lost"));
        }
        let compromised = self.is_compromised(&order.certificate, id).await?;
        Ok(compromised.then_some("its key is compromised"))
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
        match order.state {
            OrderState::AwaitingCsr => self.hub.changed(&certificate.name).await,
            // No agent gets to see it.
            _ => self.hub.bump(&certificate.name),
        }
        Ok(order)
    }

    /// The certificate's HSM key: the one it has, a new version of it where each renewal wants
    /// one or somebody else may have it, else one that a crash left without its certificate knowing,
    /// else its first.
    async fn certificate_key(&self, certificate: &CertificateRecord) -> Result<KeyRecord> {
        let name = certificate.name.as_str();
        let found = self.store.key_by_name(KeyPurpose::Certificate, name).await?;
        if let Some(key) = found.filter(|key| key.state == KeyState::Active) {
            let ended = self.is_compromised(&certificate.name, key.id).await?;
            // The certificate's own row says which key its current version has.
            let certified = certificate.key_id == Some(key.id);
            return match ended || certificate.rotate_key && certified {
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
        let csr = csr::parse(csr_der)?;
        csr.matches(&certificate.identifiers, certificate.algorithm, certificate.must_staple)?;
        self.refuse_compromised(name, &csr.spki_der).await?;
        order.csr_der = Some(csr_der.to_vec());
        order.state = OrderState::Ready;
        order.updated_at = self.clock.now();
        self.store.update_order(&order).await?;
        crash_point!("issue.csr");
        // The agent knows that it has handed it in, and hears of what comes next.
        self.hub.bump(name);
        Ok(())
    }

    async fn drive(&self, certificate: &CertificateRecord, mut order: OrderRecord) -> Result<()> {
        let (opened, account) = self.accounts.open(&RENEWAL, &order.account).await?;
        let mut placed = match &order.url {
            Some(url) => account.order(url).await?,
            None => {
                let placed = self.place(certificate, &order, &opened, &account).await?;
                crash_point!("issue.ca-order");
                order.url = Some(placed.url().clone());
                self.store.update_order(&order).await?;
                crash_point!("issue.url");
                placed
            }
        };
        if order.state == OrderState::Ready {
            let shown = self.authorize(certificate, &order, &account, &mut placed).await?;
            let csr = order.csr_der.clone().ok_or_else(|| {
                Error::internal("finalize", format!("order {}", order.id), "it has no CSR")
            })?;
            // Before the CA is told, so that a crash leads to asking it, not to finalizing twice.
            self.store.finalize_order(order.id, self.clock.now()).await?;
            crash_point!("issue.finalizing");
            self.presenters.of(certificate.challenge)?.withdraw(&certificate.name, &shown).await;
            placed.finalize(&csr).await?;
            crash_point!("issue.finalized");
        } else if placed.status() == OrderStatus::Ready
            && let Some(csr) = &order.csr_der
        {
            // The crash came before the CA was told.
            placed.finalize(csr).await?;
        }
        let pem = match preference(certificate) {
            Some(wanted) => placed.preferred_certificate(CA_DEADLINE, wanted).await?,
            None => placed.certificate(CA_DEADLINE).await?,
        };
        crash_point!("issue.certificate");
        self.keep(certificate, &order, &pem).await?;
        self.accounts.note_answer(&opened).await
    }

    /// Proves control of every identifier that the CA still wants proven. Answers the tokens that are shown
    /// for it until they are withdrawn.
    async fn authorize(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
        account: &acme::Account,
        placed: &mut acme::Order<'_>,
    ) -> Result<Vec<String>> {
        let presenter = self.presenters.of(certificate.challenge)?;
        let challenges = placed.challenges(certificate.challenge).await?;
        let records: Vec<_> = challenges
            .iter()
            .map(|challenge| ChallengeRecord {
                token: challenge.token.clone(),
                order_id: order.id,
                kind: certificate.challenge,
                identifier: challenge.identifier.clone(),
                key_authorization: challenge.key_authorization.clone(),
            })
            .collect();
        let mut proven = true;
        if !records.is_empty() {
            self.store.put_challenges(&records).await?;
            crash_point!("issue.challenges");
            presenter.present(&certificate.name, &challenges).await?;
            for challenge in &challenges {
                proven &= account.answered(challenge).await?;
            }
        }
        let tokens: Vec<_> = records.into_iter().map(|record| record.token).collect();
        if proven && !tokens.is_empty() {
            // The CA has said of every name that it is proven: its order is ready (RFC 8555 section 7.1.6).
            return Ok(tokens);
        }
        if let Err(refusal) = placed.wait_ready(CA_DEADLINE).await {
            self.store.remove_challenges(order.id).await?;
            presenter.withdraw(&certificate.name, &tokens).await;
            return Err(refusal);
        }
        Ok(tokens)
    }

    /// Checks the chain before it is stored, stores it, pushes it.
    async fn keep(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
        pem: &str,
    ) -> Result<()> {
        let now = self.clock.now();
        // What cannot be read may be read the next time: the order has its certificate.
        let unread = |error| Error { kind: ErrorKind::Unavailable, ..error };
        let chain = chain::Chain::parse(pem).map_err(unread)?;
        chain.validate(&chain::Expected {
            identifiers: certificate.identifiers.iter().cloned().collect::<BTreeSet<_>>(),
            spki_der: Some(self.certified_key(order).await?),
            now,
        })?;
        self.refuse_compromised(&certificate.name, &chain.spki_der()?).await?;
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
        self.end_alerts(certificate, &order.account).await;
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
        self.store.certificate(name).await?.ok_or_else(|| missing(name))
    }

    /// Records a failed attempt: what is served stays; the next try comes with backoff. An order
    /// that the CA has given up is given up here, too; one that could not be asked about stays
    /// open and goes on.
    pub(super) async fn record_failure(&self, name: &CertificateName, error: &Error) -> Result<()> {
        let certificate = self.certificate(name).await?;
        let now = self.clock.now();
        let attempts = certificate.failed_attempts.saturating_add(1);
        let version = self.store.version(name, certificate.current_version).await?;
        let not_after = version.map(|version| version.not_after);
        let seed = planner::seed(name.as_str(), u64::from(attempts));
        let counted = planner::counted(attempts, acme::is_away(error));
        let at = planner::retry_at(now, counted, not_after, error.retry_after, seed);
        tracing::warn!(certificate = %name, attempts, retry_at = %at, %error, "order failed");
        let resumable = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted);
        let text = told(error);
        let order = self.store.open_order(name).await?;
        if acme::is_away(error) {
            let by = order.as_ref().map_or(certificate.account_in_turn(), |order| &order.account);
            self.accounts.note(by, Some(error)).await?;
        }
        self.note_what_counts(&certificate, order.as_ref(), error).await?;
        let passed = self.pass_turn(&certificate, error).await?;
        match order {
            Some(order) if !resumable || passed => {
                self.store.fail_order(order.id, &text, attempts, at, now).await?;
                self.relinquish(&order);
            }
            _ => self.store.fail_attempt(name, &text, attempts, at).await?,
        }
        self.hub.changed(name).await;
        Ok(())
    }
}

/// A failure as it is remembered: with what to do where nothing but that helps.
fn told(error: &Error) -> String {
    let ours = matches!(error.kind, ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Denied);
    match ours && !error.hint.is_empty() {
        true => format!("{error}; {}", error.hint),
        false => error.to_string(),
    }
}

/// How often an alternate chain that the CA cannot give is waited for.
const TRIES_FOR_ALTERNATE: u32 = 3;

/// The chain that a certificate prefers; a CA that cannot give it for long stops no renewal.
fn preference(certificate: &CertificateRecord) -> Option<acme::Preference<'_>> {
    let patient = certificate.failed_attempts < TRIES_FOR_ALTERNATE;
    let issuer = certificate.preferred_chain.as_deref()?;
    Some(acme::Preference { issuer, patient })
}
