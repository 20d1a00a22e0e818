//! The agent's one stream to the vault, opened again whenever it ends.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};
use vault_proto::v1::{
    self, agent_message::Message, agent_session_service_client::AgentSessionServiceClient,
};

use crate::config::Config;
use crate::connect;
use crate::desired::{Desired, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::{Candidate, Identity};
use crate::install::transaction;

/// How long one call to the vault may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How soon a renewal of the identity that failed is tried again; and how soon the next may come
/// at all, lest an agent whose clock is ahead takes every new identity for half over.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Holds the stream.
pub struct Subscriber {
    /// The nodes' addresses, and where what is held is written down.
    pub config: Arc<Config>,
    /// Who the agent is.
    pub identity: Arc<Identity>,
    /// Where desired state goes.
    pub desired: watch::Sender<Desired>,
    /// Where reports come from.
    pub reports: mpsc::Receiver<Report>,
    /// The channel that is open, for calls beside the stream.
    pub channel: watch::Sender<Option<Channel>>,
}

/// Pauses between attempts: a second, doubling to a minute, with jitter, for ever.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(60))
        .with_jitter()
        .without_max_times()
        .build()
}

impl Subscriber {
    /// Connects, and connects again, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = pauses();
        let mut turn = 0;
        loop {
            let addresses = &self.config.vault.addresses;
            let address = addresses.get(turn % addresses.len().max(1)).cloned();
            turn += 1;
            let address = address.unwrap_or_default();
            let mut said_hello = false;
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.hold(&address, &mut said_hello) => ended,
            };
            self.channel.send_replace(None);
            if said_hello {
                pause = pauses();
            }
            match ended {
                Ok(()) => tracing::info!(address, "the stream ended"),
                Err(error) => {
                    let hint = self.hint(&error);
                    tracing::warn!(address, %error, hint, "no stream");
                    let unknown = error.kind == ErrorKind::Unauthenticated;
                    if unknown && self.identity.fall_back(OffsetDateTime::now_utc()) {
                        tracing::warn!("tried next: this agent's identity before this one");
                    }
                }
            }
            let wait = pause.next().unwrap_or(Duration::from_secs(60));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What to do about an error: a vault that refuses an ended identity may hang up without a word.
    fn hint(&self, error: &Error) -> String {
        let end = self.identity.not_after();
        match end <= OffsetDateTime::now_utc() {
            true => format!(
                "this agent's identity ended {end}: enrol it anew with --replace and a token from \
                 `vaultctl agent token`"
            ),
            false => error.hint.clone(),
        }
    }

    /// One stream, from hello to its end.
    async fn hold(&mut self, address: &str, said_hello: &mut bool) -> Result<()> {
        let mut identity_changed = self.identity.watch();
        identity_changed.mark_unchanged();
        let channel = connect::open(address, connect::enrolled(&self.identity)?).await?;
        let mut client = AgentSessionServiceClient::new(channel.clone());
        let (up, outgoing) = mpsc::channel(64);
        let config = self.config.clone();
        let held = crate::blocking(move || Ok(held(&config))).await?;
        let software_version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = v1::Hello { software_version, held };
        let hello = v1::AgentMessage { message: Some(Message::Hello(hello)) };
        let gone = || Error::unavailable("subscribe", format!("vault {address}"), "it hung up");
        up.send(hello).await.map_err(|_| gone())?;
        let subscribed = client.subscribe(ReceiverStream::new(outgoing));
        let subscribed = tokio::time::timeout(DEADLINE, subscribed).await;
        let mut down = subscribed.map_err(|_| gone())??.into_inner();
        self.channel.send_replace(Some(channel));
        let connection = self.desired.borrow().connection + 1;
        tracing::info!(address, "connected");
        loop {
            tokio::select! {
                message = down.next() => {
                    let Some(message) = message.transpose()? else { return Ok(()) };
                    *said_hello = true;
                    self.desired.send_modify(|desired| {
                        desired.connection = connection;
                        desired.apply(message);
                    });
                }
                Some(report) = self.reports.recv() => {
                    // What was found out for an earlier connection is found out again for this.
                    if report.connection == connection {
                        let message = Some(Message::Report(report.report));
                        up.send(v1::AgentMessage { message }).await.map_err(|_| gone())?;
                    }
                }
                _ = identity_changed.changed() => return Ok(()),
            }
        }
    }
}

/// What is held, as it was proven. Whatever cannot be read is left out: the vault tells then what it
/// wants, as it would without.
fn held(config: &Config) -> Vec<v1::HeldCertificate> {
    let certificates = config.install.iter().map(|install| install.certificate.to_string());
    let one = |name: String| {
        let held = transaction::held(&config.state_dir, &name);
        let held = held.inspect_err(|error| tracing::warn!(certificate = name, %error, "not said"));
        let held = held.ok().flatten()?;
        Some(v1::HeldCertificate {
            name,
            version: held.version,
            fingerprint: held.fingerprint,
            serial: held.serial,
            not_before: timestamp(held.not_before),
            not_after: timestamp(held.not_after),
            key_fingerprint: held.key_fingerprint,
        })
    };
    certificates.filter_map(one).collect()
}

/// A time on the wire.
fn timestamp(at: OffsetDateTime) -> Option<prost_types::Timestamp> {
    let nanos = i32::try_from(at.nanosecond()).unwrap_or_default();
    Some(prost_types::Timestamp { seconds: at.unix_timestamp(), nanos })
}

/// Renews the agent's identity at half its lifetime, with a new key each time, until `stop`.
pub async fn keep_identity(
    identity: Arc<Identity>,
    mut channel: watch::Receiver<Option<Channel>>,
    stop: CancellationToken,
) {
    let mut least = Duration::ZERO;
    let mut changed = identity.watch();
    loop {
        changed.mark_unchanged();
        let wait = identity.renew_in(OffsetDateTime::now_utc()).max(least);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            // The one before this one, perhaps, which is due sooner.
            _ = changed.changed() => continue,
        }
        // Only while there is a vault to ask.
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = channel.wait_for(Option::is_some) => connected.ok().and_then(|c| c.clone()),
        };
        let Some(connected) = connected else { return };
        match renew(&identity, connected).await {
            Ok(()) => {
                least = RENEW_AGAIN.min(identity.lifetime() / 4);
                tracing::info!(not_after = %identity.not_after(), "identity renewed");
            }
            Err(error) => {
                tracing::warn!(%error, "the identity was not renewed");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RENEW_AGAIN.min(wait.max(Duration::from_secs(1)))) => {}
                }
            }
        }
    }
}

async fn renew(identity: &Identity, channel: Channel) -> Result<()> {
    let candidate = Candidate::new()?;
    let csr_der = candidate.csr_der.clone();
    let mut request = Request::new(v1::RenewIdentityRequest { csr_der });
    request.set_timeout(DEADLINE);
    let mut client = AgentSessionServiceClient::new(channel);
    let answer = client.renew_identity(request).await?.into_inner();
    identity.replace(&candidate, &answer)
}
