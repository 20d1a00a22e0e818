//! Orders (RFC 8555 section 7.4), each step from the order's URL alone, so that one goes on after
//! a restart at whatever step it was.

use std::time::Duration;

use instant_acme::{AuthorizationStatus, ChallengeStatus, ChallengeType, NewOrder, Order};
use tokio::time::Instant;
use url::Url;

use super::{
    Account, Challenge,
    account::{parse_url, within},
    jws,
    problem::{self, Problem},
};
use crate::error::{Error, Result};
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

/// What is left to prove.
#[derive(Debug, Clone)]
pub struct OrderProgress {
    /// The order's status.
    pub status: OrderStatus,
    /// One per identifier that is not proven.
    pub challenges: Vec<Challenge>,
}

impl Account {
    /// Places an order; answers its URL.
    ///
    /// # Errors
    /// What the CA says of the identifiers or its limits.
    pub async fn new_order(
        &self,
        identifiers: &[Identifier],
        profile: Option<&str>,
    ) -> Result<Url> {
        let identifiers: Vec<_> = identifiers.iter().map(wire).collect();
        let mut order = NewOrder::new(&identifiers);
        if let Some(profile) = profile {
            order = order.profile(profile);
        }
        let placed = within(&self.ca, self.inner.new_order(&order)).await?;
        parse_url(&self.ca, placed.url())
    }

    /// Where an order stands.
    ///
    /// # Errors
    /// `NotFound` where the CA has forgotten it.
    pub async fn order_status(&self, url: &Url) -> Result<OrderStatus> {
        Ok(self.order(url).await?.state().status.into())
    }

    async fn order(&self, url: &Url) -> Result<Order> {
        within(&self.ca, self.inner.order(url.to_string())).await
    }

    /// The challenges of one kind that prove what is not proven yet.
    ///
    /// # Errors
    /// `Invalid` where the CA does not offer the kind for an identifier.
    pub async fn authorizations(&self, url: &Url, kind: ChallengeKind) -> Result<OrderProgress> {
        let mut order = self.order(url).await?;
        let status = order.state().status.into();
        let mut challenges = Vec::new();
        if status != OrderStatus::Pending {
            return Ok(OrderProgress { status, challenges });
        }
        let key = self.keys.current.public_key();
        let mut authorizations = order.authorizations();
        while let Some(next) = within(&self.ca, flip(authorizations.next())).await? {
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
        Ok(OrderProgress { status, challenges })
    }

    /// Tells the CA that a challenge is answered (RFC 8555 section 7.5.1).
    ///
    /// # Errors
    /// What the CA says.
    pub async fn ready(&self, challenge: &Challenge) -> Result<()> {
        let url = parse_url(&self.ca, &challenge.url)?;
        self.post(&url, b"{}").await.map(drop)
    }

    /// Waits until every identifier is proven.
    ///
    /// # Errors
    /// `Verification` naming the identifier that was not, `Unavailable` at the deadline.
    pub async fn wait_ready(&self, url: &Url, deadline: Duration) -> Result<()> {
        let done = |status| {
            matches!(status, OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid)
        };
        self.poll(url, deadline, done).await.map(drop)
    }

    /// Finalizes with a PKCS#10 request, DER.
    ///
    /// # Errors
    /// What the CA says of the request.
    pub async fn finalize(&self, url: &Url, csr_der: &[u8]) -> Result<()> {
        let mut order = self.order(url).await?;
        match OrderStatus::from(order.state().status) {
            OrderStatus::Processing | OrderStatus::Valid => Ok(()),
            _ => match within(&self.ca, order.finalize_csr(csr_der)).await {
                Err(error) if problem::is_not_ready(&error) => {
                    self.finalize_once_ready(url, csr_der).await
                }
                finalized => finalized,
            },
        }
    }

    /// The order is not as far as the CA has said: it is asked until it is, and told once more.
    async fn finalize_once_ready(&self, url: &Url, csr_der: &[u8]) -> Result<()> {
        self.wait_ready(url, NOT_READY).await?;
        let mut order = self.order(url).await?;
        match OrderStatus::from(order.state().status) {
            OrderStatus::Processing | OrderStatus::Valid => Ok(()),
            _ => within(&self.ca, order.finalize_csr(csr_der)).await,
        }
    }

    /// Waits until the certificate is there; answers its chain, PEM.
    ///
    /// # Errors
    /// `Unavailable` at the deadline, else what the CA says.
    pub async fn certificate(&self, url: &Url, deadline: Duration) -> Result<String> {
        let mut order = self.poll(url, deadline, |status| status == OrderStatus::Valid).await?;
        let chain = within(&self.ca, order.certificate()).await?;
        chain.ok_or_else(|| Error::unavailable("download", &self.ca, "it has no certificate yet"))
    }

    pub(super) async fn poll(
        &self,
        url: &Url,
        deadline: Duration,
        done: impl Fn(OrderStatus) -> bool,
    ) -> Result<Order> {
        let until = Instant::now() + deadline;
        let mut pause = FIRST_PAUSE;
        loop {
            let mut order = self.order(url).await?;
            let status = order.state().status.into();
            if done(status) {
                return Ok(order);
            }
            if status == OrderStatus::Invalid {
                return Err(self.refusal(url, order).await);
            }
            if Instant::now() >= until {
                let why = format!("the order is still {status:?} after {deadline:?}");
                return Err(Error::unavailable("wait", &self.ca, why)
                    .hint("the order stays open and is asked about again"));
            }
            let wait = self.keys.take_retry_after().unwrap_or(pause).min(LONGEST_PAUSE);
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE / 4);
        }
    }

    /// Why an order became invalid: what the CA says of each name that was not proven. It ends with the
    /// first; what is still being validated then has its say, too.
    async fn refusal(&self, url: &Url, mut order: Order) -> Error {
        let of_order = order.state().error.as_ref().map(Problem::from);
        let mut refused = Vec::new();
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(BETWEEN_LOOKS).await;
                let Ok(again) = self.order(url).await else { break };
                order = again;
            }
            let (mut now, mut open) = (Vec::new(), false);
            let mut authorizations = order.authorizations();
            while let Ok(Some(next)) = within(&self.ca, flip(authorizations.next())).await {
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

fn wire(identifier: &Identifier) -> instant_acme::Identifier {
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
