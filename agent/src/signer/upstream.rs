//! One connection to the vault for all web servers here. Where it breaks, what waits is asked again of
//! the next node, as long as somebody waits for it: a signature does no harm twice.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use vault_proto::{
    error::{ErrorDetail, ErrorKind},
    frames::AgentEnd,
    v1::{self, tls_sign_answer::Outcome},
};

use crate::connect;
use crate::error::{Error, Result};
use crate::identity::Identity;

/// Requests that may wait for the connection.
const WAITING: usize = 1024;
/// Requests under way at once: fewer than a vault takes from one connection, so that neither end ever
/// waits to be read by the other.
const UNDER_WAY: usize = 512;
/// Requests in one message at most.
const BATCH: usize = 64;
/// How often those who have stopped waiting are looked for where too many seem to wait.
const LOOK: Duration = Duration::from_millis(200);
/// How long a node may take to open the connection before the next is asked.
const OPEN: Duration = Duration::from_secs(2);
/// How long a node that has the connection may say nothing while somebody waits, before another one is
/// asked: it may be cut off, which nobody says. Less than the time that a handshake has.
const SILENT: Duration = Duration::from_millis(1500);
/// The longest pause between two rounds over the nodes while somebody waits: a vault that was
/// restarted is found while there is time.
const HURRY: Duration = Duration::from_millis(200);

/// What a web server wants signed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The key's id, 16 bytes.
    pub key_id: Vec<u8>,
    /// The mechanism by its name.
    pub mechanism: &'static str,
    /// The message or its digest.
    pub data: Vec<u8>,
}

struct Job {
    wanted: Wanted,
    since: Instant,
    until: Instant,
    answer: oneshot::Sender<Result<Vec<u8>>>,
}

/// This agent ends before there is an answer.
#[derive(Debug, Clone, Copy)]
pub struct Stopping;

/// Asks for signatures. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    jobs: mpsc::Sender<Job>,
    deadline: Duration,
}

impl Client {
    /// A signature as PKCS#11 has it, or why there is none: what the vault says, `Unavailable`
    /// where none answers within the deadline.
    ///
    /// # Errors
    /// Where the agent stops: whoever asks does well to ask the next one.
    pub async fn sign(&self, wanted: Wanted) -> Result<Result<Vec<u8>>, Stopping> {
        let since = Instant::now();
        let until = since + self.deadline;
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.send(Job { wanted, since, until, answer });
        let signed = async {
            sent.await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout_at(until, signed).await {
            Ok(Some(signed)) => Ok(signed),
            // Not forgotten for being late, but with everything else.
            Ok(None) if Instant::now() < until => Err(Stopping),
            Ok(None) | Err(_) => {
                let why = "no vault answers in time";
                Ok(Err(Error::unavailable("sign", "a TLS handshake", why)))
            }
        }
    }
}

/// The connection's end at this side.
pub struct Upstream {
    identity: Arc<Identity>,
    addresses: Vec<String>,
    jobs: mpsc::Receiver<Job>,
    next_id: u64,
    waiting: HashMap<u64, Job>,
}

type Connection = AgentEnd<TlsStream<TcpStream>>;

impl Upstream {
    /// An upstream over the vault's nodes, and who asks it and waits until `deadline` is over.
    pub fn new(
        identity: Arc<Identity>,
        addresses: Vec<String>,
        deadline: Duration,
    ) -> (Self, Client) {
        let (sender, jobs) = mpsc::channel(WAITING);
        let upstream = Self { identity, addresses, jobs, next_id: 1, waiting: HashMap::new() };
        (upstream, Client { jobs: sender, deadline })
    }

    /// Keeps a connection open until `stop`, also while nobody asks: a handshake shall not wait for
    /// another one.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut turn = 0;
        let mut pauses = pauses();
        loop {
            let address = self.addresses.get(turn % self.addresses.len().max(1)).cloned();
            let address = address.unwrap_or_default();
            turn += 1;
            let held = tokio::select! {
                () = stop.cancelled() => return,
                held = self.hold(&address) => held,
            };
            if let Err(error) = &held {
                tracing::debug!(address, %error, "no connection for signatures");
            }
            // Every node in turn without a pause, then the pause.
            let round = turn % self.addresses.len().max(1) == 0;
            let pause = match held {
                // It was of use: the next node is asked at once.
                Ok(true) => {
                    pauses = self::pauses();
                    Duration::ZERO
                }
                _ if round => pauses.next().unwrap_or(OPEN),
                _ => Duration::ZERO,
            };
            self.forget_late();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.rest(pause) => {}
            }
        }
    }

    /// A pause; a short one where somebody waits.
    async fn rest(&mut self, pause: Duration) {
        let mut end = Instant::now() + pause;
        loop {
            if !self.waiting.is_empty() {
                end = end.min(Instant::now() + HURRY);
            }
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                Some(job) = self.jobs.recv(), if self.waiting.len() < UNDER_WAY => {
                    self.keep(job);
                }
            }
        }
    }

    /// One connection, from its opening to its end; whether anything was answered on it.
    async fn hold(&mut self, address: &str) -> Result<bool> {
        let mut identity_changed = self.identity.watch();
        identity_changed.mark_unchanged();
        let opened = tokio::time::timeout(OPEN, open(&self.identity, address)).await;
        let late = |_| Error::unavailable("open", format!("vault {address}"), "no answer");
        let (mut up, mut down) = opened.map_err(late)??.split();
        tracing::info!(address, "signatures go here");
        self.forget_late();
        let mut unasked: VecDeque<u64> = self.waiting.keys().copied().collect();
        let (mut of_use, mut heard, mut on_the_way) = (false, Instant::now(), false);
        loop {
            if !on_the_way && let Some(requests) = self.requests(&mut unasked) {
                if up.feed(requests).await.is_err() {
                    return Ok(of_use);
                }
                on_the_way = true;
            }
            tokio::select! {
                answers = down.next() => match answers {
                    Some(Ok(v1::TlsSignAnswers { answers, ended: None })) => {
                        of_use = true;
                        heard = Instant::now();
                        self.take(answers);
                    }
                    Some(Ok(v1::TlsSignAnswers { ended: Some(why), .. })) => {
                        let why = Error::from(why);
                        tracing::info!(address, %why, "the vault has ended it for signatures");
                        return Ok(of_use);
                    }
                    Some(Err(error)) => {
                        tracing::info!(address, %error, "the connection for signatures broke");
                        return Ok(of_use);
                    }
                    None => return Ok(of_use),
                },
                sent = up.flush(), if on_the_way => match sent {
                    Ok(()) => on_the_way = false,
                    Err(_) => return Ok(of_use),
                },
                () = tokio::time::sleep_until(heard + SILENT), if self.may_be_silent() => {
                    heard = self.asked_since();
                    if heard.elapsed() >= SILENT {
                        tracing::info!(address, "no answer on the connection for signatures");
                        return Ok(of_use);
                    }
                }
                () = tokio::time::sleep(LOOK), if self.waiting.len() >= UNDER_WAY => {
                    self.forget_late();
                }
                Some(job) = self.jobs.recv(), if self.waiting.len() < UNDER_WAY => {
                    unasked.push_back(self.keep(job));
                    while unasked.len() < BATCH && let Ok(job) = self.jobs.try_recv() {
                        unasked.push_back(self.keep(job));
                    }
                }
                _ = identity_changed.changed() => return Ok(of_use),
            }
        }
    }

    /// Whether a node's silence matters: somebody waits, and there is another node.
    fn may_be_silent(&self) -> bool {
        self.addresses.len() > 1 && !self.waiting.is_empty()
    }

    /// When the first of those was asked that still wait.
    fn asked_since(&mut self) -> Instant {
        self.forget_late();
        self.waiting.values().map(|job| job.since).min().unwrap_or_else(Instant::now)
    }

    fn keep(&mut self, job: Job) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.insert(id, job);
        id
    }

    /// The next message to the vault; nothing where nobody waits to be asked for.
    fn requests(&self, unasked: &mut VecDeque<u64>) -> Option<v1::TlsSignRequests> {
        let request = |id: u64| {
            let wanted = &self.waiting.get(&id)?.wanted;
            Some(v1::TlsSignRequest {
                id,
                key_id: wanted.key_id.clone(),
                mechanism: wanted.mechanism.to_owned(),
                data: wanted.data.clone(),
            })
        };
        let next = unasked.drain(..unasked.len().min(BATCH));
        let requests: Vec<_> = next.filter_map(request).collect();
        (!requests.is_empty()).then_some(v1::TlsSignRequests { requests })
    }

    fn take(&mut self, answers: Vec<v1::TlsSignAnswer>) {
        for answer in answers {
            let Some(job) = self.waiting.remove(&answer.id) else { continue };
            let signed = match answer.outcome {
                Some(Outcome::Signature(signature)) => Ok(signature),
                Some(Outcome::Error(detail)) => Err(Error::from(detail)),
                None => Err(Error::from(ErrorDetail {
                    kind: ErrorKind::Internal.into(),
                    why: "the vault's answer is empty".to_owned(),
                    ..ErrorDetail::default()
                })),
            };
            // Nobody may wait any more.
            let _ = job.answer.send(signed);
        }
    }

    fn forget_late(&mut self) {
        let now = Instant::now();
        self.waiting.retain(|_, job| job.until > now && !job.answer.is_closed());
    }
}

/// Pauses after a round in which no node has answered.
fn pauses() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Opens a connection; the vault has said that it signs on it.
async fn open(identity: &Arc<Identity>, address: &str) -> Result<Connection> {
    let mut connection = connect::open_for_signatures(address, identity).await?;
    let refused = |why: String| Error::unavailable("open", format!("vault {address}"), why);
    match connection.next().await {
        Some(Ok(v1::TlsSignAnswers { ended: None, .. })) => Ok(connection),
        Some(Ok(v1::TlsSignAnswers { ended: Some(why), .. })) => Err(Error::from(why)),
        Some(Err(error)) => Err(refused(error.to_string())),
        None => Err(refused("it has hung up".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> (mpsc::Receiver<Job>, impl Future<Output = Result<Result<Vec<u8>>, Stopping>>) {
        let (sender, jobs) = mpsc::channel(1);
        let client = Client { jobs: sender, deadline: Duration::from_secs(5) };
        let wanted = Wanted { key_id: vec![7; 16], mechanism: "ed25519", data: vec![] };
        (jobs, async move { client.sign(wanted).await })
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_agent_that_stops_is_not_refused() {
        for under_way in [false, true] {
            let (mut jobs, signing) = asked();
            let signing = tokio::spawn(signing);
            let job = if under_way { jobs.recv().await } else { None };
            drop((jobs, job));
            assert!(signing.await.unwrap().is_err(), "under way: {under_way}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_answered_in_time_is_told_so() {
        let (_jobs, signing) = asked();
        let signed = signing.await.ok().unwrap();
        assert_eq!(signed.unwrap_err().kind, ErrorKind::Unavailable);
    }
}
