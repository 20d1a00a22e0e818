//! One stream to the vault for all web servers here. Where it breaks, what waits is asked again of
//! the next node, as long as somebody waits for it: a signature does no harm twice.

use std::{collections::HashMap, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use vault_proto::{
    error::{ErrorDetail, ErrorKind},
    v1::{self, agent_session_service_client::AgentSessionServiceClient, tls_sign_answer::Outcome},
};

use crate::connect;
use crate::error::{Error, Result};
use crate::identity::Identity;

/// How long a web server waits for one signature, whatever happens in between. Most give up on a
/// handshake later than this.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Requests that may wait for the stream.
const WAITING: usize = 1024;
/// Requests under way at once: fewer than a vault takes from one stream, so that neither end ever
/// waits to be read by the other.
const UNDER_WAY: usize = 512;
/// Requests in one message at most.
const BATCH: usize = 64;
/// How often those who have stopped waiting are looked for where too many seem to wait.
const LOOK: Duration = Duration::from_millis(200);
/// How long a node may take to open the stream before the next is asked.
const OPEN: Duration = Duration::from_secs(2);

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
    until: Instant,
    answer: oneshot::Sender<Result<Vec<u8>>>,
}

/// Asks for signatures. Cheap to clone.
#[derive(Clone)]
pub struct Client(mpsc::Sender<Job>);

impl Client {
    /// A signature as PKCS#11 has it.
    ///
    /// # Errors
    /// What the vault says, `Unavailable` where none does within [`DEADLINE`].
    pub async fn sign(&self, wanted: Wanted) -> Result<Vec<u8>> {
        let until = Instant::now() + DEADLINE;
        let late = || Error::unavailable("sign", "a TLS handshake", "no vault answers in time");
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send(Job { wanted, until, answer });
        let signed = async {
            sent.await.map_err(|_| late())?;
            answered.await.map_err(|_| late())?
        };
        tokio::time::timeout_at(until, signed).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The stream's end at this side.
pub struct Upstream {
    identity: Arc<Identity>,
    addresses: Vec<String>,
    jobs: mpsc::Receiver<Job>,
    next_id: u64,
    waiting: HashMap<u64, Job>,
}

/// An open stream.
struct Stream {
    up: mpsc::Sender<v1::TlsSignRequests>,
    down: Streaming<v1::TlsSignAnswers>,
}

impl Upstream {
    /// An upstream over the vault's nodes, and who asks it.
    pub fn new(identity: Arc<Identity>, addresses: Vec<String>) -> (Self, Client) {
        let (sender, jobs) = mpsc::channel(WAITING);
        let upstream = Self { identity, addresses, jobs, next_id: 1, waiting: HashMap::new() };
        (upstream, Client(sender))
    }

    /// Keeps a stream open until `stop`, also while nobody asks: a handshake shall not wait for
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
            let pause = match held {
                // It was open: the next node is asked at once.
                Ok(()) => {
                    pauses = self::pauses();
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::debug!(address, %error, "no stream for signatures");
                    // Every node in turn without a pause, then the pause.
                    let round = turn % self.addresses.len().max(1) == 0;
                    if round { pauses.next().unwrap_or(OPEN) } else { Duration::ZERO }
                }
            };
            self.forget_late();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One stream, from its opening to its end.
    async fn hold(&mut self, address: &str) -> Result<()> {
        let opened = tokio::time::timeout(OPEN, open(&self.identity, address)).await;
        let late = |_| Error::unavailable("open", format!("vault {address}"), "no answer");
        let mut stream = opened.map_err(late)??;
        let mut identity_changed = self.identity.watch();
        identity_changed.mark_unchanged();
        tracing::info!(address, "signatures go here");
        self.forget_late();
        let again: Vec<u64> = self.waiting.keys().copied().collect();
        for ids in again.chunks(BATCH) {
            if self.ask(&stream, ids).await.is_err() {
                return Ok(());
            }
        }
        loop {
            tokio::select! {
                answers = stream.down.message() => match answers {
                    Ok(Some(answers)) => self.take(answers),
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        tracing::info!(address, %status, "the stream for signatures broke");
                        return Ok(());
                    }
                },
                () = tokio::time::sleep(LOOK), if self.waiting.len() >= UNDER_WAY => {
                    self.forget_late();
                }
                Some(job) = self.jobs.recv(), if self.waiting.len() < UNDER_WAY => {
                    let mut ids = vec![self.keep(job)];
                    while ids.len() < BATCH && let Ok(job) = self.jobs.try_recv() {
                        ids.push(self.keep(job));
                    }
                    if self.ask(&stream, &ids).await.is_err() {
                        return Ok(());
                    }
                }
                _ = identity_changed.changed() => return Ok(()),
            }
        }
    }

    fn keep(&mut self, job: Job) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.insert(id, job);
        id
    }

    async fn ask(&self, stream: &Stream, ids: &[u64]) -> Result<(), ()> {
        let request = |id: &u64| {
            let wanted = &self.waiting.get(id)?.wanted;
            Some(v1::TlsSignRequest {
                id: *id,
                key_id: wanted.key_id.clone(),
                mechanism: wanted.mechanism.to_owned(),
                data: wanted.data.clone(),
            })
        };
        let requests = ids.iter().filter_map(request).collect();
        stream.up.send(v1::TlsSignRequests { requests }).await.map_err(drop)
    }

    fn take(&mut self, answers: v1::TlsSignAnswers) {
        for answer in answers.answers {
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

async fn open(identity: &Arc<Identity>, address: &str) -> Result<Stream> {
    let channel = connect::open(address, connect::enrolled(identity)?).await?;
    let (up, outgoing) = mpsc::channel(16);
    let mut client = AgentSessionServiceClient::new(channel);
    let down = client.sign_tls(ReceiverStream::new(outgoing)).await?.into_inner();
    Ok(Stream { up, down })
}
