//! Orders (RFC 8555 section 7.4): placed anew, or found by their URL alone, so that one goes on after
//! a restart at whatever step it was.

use std::time::Duration;

use instant_acme::{AuthorizationStatus, ChallengeStatus, ChallengeType, NewOrder};
use tokio::time::Instant;
use url::Url;

use super::{
    Account, Challenge,
    account::{parse_url, within},
    jws,
    problem::{self, Problem},
};
use crate::error::{CaState, Error, Result};
use crate::store::{ChallengeKind, Identifier};

/// Between two looks at an order, where the CA does not say.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause, whatever the CA says: its deadline is ours to keep.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long an order that the CA has called ready may still be none.
const NOT_READY: Duration = Duration::from_secs(30);

/// How often an order that failed is looked at, to name every name that did.
const LOOKS: u32 = 4;
/// Between two of these looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(700);

/// An order's status (RFC 8555 section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// Control of some identifier is not proven yet.
    Pending,
    /// It can be finalized.
    Ready,
    /// The CA is issuing.
    Processing,
    /// The certificate is there.
    Valid,
    /// It failed for good.
    Invalid,
}

impl From<instant_acme::OrderStatus> for OrderStatus {
    fn from(status: instant_acme::OrderStatus) -> Self {
        match status {
            instant_acme::OrderStatus::Pending => Self::Pending,
            instant_acme::OrderStatus::Ready => Self::Ready,
            instant_acme::OrderStatus::Processing => Self::Processing,
            instant_acme::OrderStatus::Valid => Self::Valid,
            instant_acme::OrderStatus::Invalid => Self::Invalid,
        }
    }
}

/// An order as the CA showed it last.
pub struct Order<'a> {
    account: &'a Account,
    inner: instant_acme::Order,
    url: Url,
}

impl Account {
    /// Places an order.
    ///
    /// # Errors
    /// What the CA says of the identifiers or its limits.
    pub async fn new_order(
        &self,
        identifiers: &[Identifier],
        profile: Option<&str>,
    ) -> Result<Order<'_>> {
        let identifiers: Vec<_> = identifiers.iter().map(wire).collect();
        let mut order = NewOrder::new(&identifiers);
        if let Some(profile) = profile {
            order = order.profile(profile);
        }
        self.placed(within(&self.ca, self.inner.new_order(&order)).await?)
    }

    /// An order that was placed just now.
    pub(super) fn placed(&self, inner: instant_acme::Order) -> Result<Order<'_>> {
        let url = parse_url(&self.ca, inner.url())?;
        Ok(Order { account: self, inner, url })
    }

    /// Finds an order that was placed before.
    ///
    /// # Errors
    /// `NotFound` where the CA has forgotten it.
    pub async fn order(&self, url: &Url) -> Result<Order<'_>> {
        let inner = within(&self.ca, self.inner.order(url.to_string())).await?;
        Ok(Order { account: self, inner, url: url.clone() })
    }

    /// Tells the CA that a challenge is answered (RFC 8555 section 7.5.1); whether it has found the
    /// answer good already, which most CAs see to later.
    ///
    /// # Errors
    /// What the CA says.
    pub async fn answered(&self, challenge: &Challenge) -> Result<bool> {
        let url = parse_url(&self.ca, &challenge.url)?;
        let told: instant_acme::Challenge = self.read(&self.post(&url, b"{}").await?)?;
        Ok(told.status == ChallengeStatus::Valid)
    }
}

impl<'a> Order<'a> {
    /// Whose it is.
    pub(super) fn account(&self) -> &'a Account {
        self.account
    }

    /// Where it is, for ever.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Asks the CA where it stands.
    ///
    /// # Errors
    /// What the CA says.
    async fn look(&mut self) -> Result<()> {
        within(&self.account.ca, self.inner.refresh()).await.map(drop)
    }

    /// Where it stood when it was looked at last.
    pub fn status(&mut self) -> OrderStatus {
        self.inner.state().status.into()
    }

    /// The challenges of one kind that prove what is not proven yet: one for each such identifier.
    ///
    /// # Errors
    /// `Invalid` where the CA does not offer the kind for an identifier.
    pub async fn challenges(&mut self, kind: ChallengeKind) -> Result<Vec<Challenge>> {
        let mut challenges = Vec::new();
        if self.status() != OrderStatus::Pending {
            return Ok(challenges);
        }
        let key = self.account.keys.current.public_key();
        let mut authorizations = self.inner.authorizations();
        while let Some(next) = within(&self.account.ca, flip(authorizations.next())).await? {
            if next.status != AuthorizationStatus::Pending {
                continue;
            }
            let identifier = ours(next.identifier().identifier, next.wildcard)?;
            let offered = next.challenges.iter().find(|c| c.r#type == wire_kind(kind));
            let Some(challenge) = offered else {
                let why = format!("the CA does not offer {kind} for {identifier}");
                return Err(Error::invalid("authorize", identifier.to_string(), why)
                    .hint("choose another --challenge; wildcards take dns-01 only"));
            };
            challenges.push(Challenge {
                token: challenge.token.clone(),
                url: challenge.url.clone(),
                key_authorization: jws::key_authorization(&challenge.token, key)?,
                identifier,
            });
        }
        Ok(challenges)
    }

    /// Waits until every identifier is proven.
    ///
    /// # Errors
    /// `Verification` naming the identifier that was not, `Unavailable` at the deadline.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let done = |status| {
            matches!(status, OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid)
        };
        self.wait(deadline, done).await
    }

    /// Finalizes with a PKCS#10 request, DER. Where the answer to it is lost, the order shows whether
    /// the CA has heard it.
    ///
    /// # Errors
    /// What the CA says of the request.
    pub async fn finalize(&mut self, csr_der: &[u8]) -> Result<()> {
        if self.is_finalized() {
            return Ok(());
        }
        match self.tell_to_finalize(csr_der).await {
            // The order is not as far as the CA has said: it is asked until it is, and told once more.
            Err(error) if error.ca == Some(CaState::NotReady) => {
                self.look().await?;
                self.wait_ready(NOT_READY).await?;
                match self.is_finalized() {
                    true => Ok(()),
                    false => self.tell_to_finalize(csr_der).await,
                }
            }
            Err(_) if self.look().await.is_ok() && self.is_finalized() => Ok(()),
            told => told,
        }
    }

    async fn tell_to_finalize(&mut self, csr_der: &[u8]) -> Result<()> {
        within(&self.account.ca, self.inner.finalize_csr(csr_der)).await
    }

    fn is_finalized(&mut self) -> bool {
        matches!(self.status(), OrderStatus::Processing | OrderStatus::Valid)
    }

    /// Waits until the certificate is there; answers its chain, PEM.
    ///
    /// # Errors
    /// `Unavailable` at the deadline, else what the CA says.
    pub async fn certificate(&mut self, deadline: Duration) -> Result<String> {
        self.wait(deadline, |status| status == OrderStatus::Valid).await?;
        let ca = &self.account.ca;
        let chain = within(ca, self.inner.certificate()).await?;
        chain.ok_or_else(|| Error::unavailable("download", ca, "a valid order has no certificate"))
    }

    /// Waits until the certificate is there; answers where it is.
    pub(super) async fn certificate_url(&mut self, deadline: Duration) -> Result<Url> {
        self.wait(deadline, |status| status == OrderStatus::Valid).await?;
        let ca = &self.account.ca;
        let none = || Error::unavailable("download", ca, "a valid order has no certificate");
        parse_url(ca, self.inner.state().certificate.as_ref().ok_or_else(none)?)
    }

    /// Looks at the order until it stands where it shall.
    async fn wait(&mut self, deadline: Duration, done: impl Fn(OrderStatus) -> bool) -> Result<()> {
        let until = Instant::now() + deadline;
        let mut pause = FIRST_PAUSE;
        loop {
            let status = self.status();
            if done(status) {
                return Ok(());
            }
            if status == OrderStatus::Invalid {
                return Err(self.refusal().await);
            }
            if Instant::now() >= until {
                let why = format!("the order is still {status:?} after {deadline:?}");
                return Err(Error::unavailable("wait", &self.account.ca, why)
                    .hint("the order stays open and is asked about again"));
            }
            let wait = self.account.keys.take_retry_after().unwrap_or(pause).min(LONGEST_PAUSE);
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE / 4);
            self.look().await?;
        }
    }

    /// Why an order became invalid: what the CA says of each name that was not proven. It ends with the
    /// first; what is still being validated then has its say, too.
    async fn refusal(&mut self) -> Error {
        let of_order = self.inner.state().error.as_ref().map(Problem::from);
        let mut refused = Vec::new();
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(BETWEEN_LOOKS).await;
                if self.look().await.is_err() {
                    break;
                }
            }
            let (mut now, mut open) = (Vec::new(), false);
            let mut authorizations = self.inner.authorizations();
            while let Ok(Some(next)) = within(&self.account.ca, flip(authorizations.next())).await {
                open |= next.status == AuthorizationStatus::Pending;
                let failed = next.challenges.iter().find(|c| c.status == ChallengeStatus::Invalid);
                if let Some(problem) = failed.and_then(|challenge| challenge.error.as_ref()) {
                    now.push((next.identifier().to_string(), Problem::from(problem)));
                }
            }
            if now.len() >= refused.len() {
                refused = now;
            }
            if !open {
                break;
            }
        }
        problem::unproven(refused, of_order)
    }
}

async fn flip<T>(
    next: impl Future<Output = Option<Result<T, instant_acme::Error>>>,
) -> Result<Option<T>, instant_acme::Error> {
    next.await.transpose()
}

pub(super) fn wire(identifier: &Identifier) -> instant_acme::Identifier {
    match identifier {
        Identifier::Dns(name) => instant_acme::Identifier::Dns(name.clone()),
        Identifier::Ip(address) => instant_acme::Identifier::Ip(*address),
    }
}

pub(super) fn ours(identifier: &instant_acme::Identifier, wildcard: bool) -> Result<Identifier> {
    match identifier {
        instant_acme::Identifier::Dns(name) if wildcard => Identifier::dns(&format!("*.{name}")),
        instant_acme::Identifier::Dns(name) => Identifier::dns(name),
        instant_acme::Identifier::Ip(address) => Ok(Identifier::Ip(*address)),
        other => Err(Error::unavailable("read", format!("{other:?}"), "it is of no known kind")),
    }
}

fn wire_kind(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}
