//! Many callers over one connection for signatures, as an agent holds it for its web servers.

use std::collections::{HashMap, VecDeque};

use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use testkit::{
    agent::Agent,
    grpc::{self, Certificate},
    vault::Vault,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_rustls::client::TlsStream;
use vault_proto::{
    frames::AgentEnd,
    v1::{TlsSignRequest, TlsSignRequests, tls_sign_answer::Outcome},
};

/// Requests in one message at most.
const BATCH: usize = 64;

/// A connection. Cheap to clone.
#[derive(Clone)]
pub struct AgentConnection(mpsc::Sender<Job>);

struct Job {
    request: TlsSignRequest,
    answer: oneshot::Sender<Result<Vec<u8>>>,
}

impl AgentConnection {
    /// Opens one as this agent.
    ///
    /// # Errors
    /// Where the vault refuses.
    pub async fn open(vault: &Vault, agent: &Agent) -> Result<Self> {
        let (certificate, root) = Certificate::of_agent(agent);
        let opened = grpc::for_signatures(vault.address, &root, Some(&certificate));
        let mut connection = opened.await?;
        let first = connection.next().await.context("the vault has hung up")??;
        ensure!(first.ended.is_none(), "{first:?}");
        let (jobs, waiting) = mpsc::channel(1024);
        tokio::spawn(carry(waiting, connection));
        Ok(Self(jobs))
    }

    /// One signature.
    ///
    /// # Errors
    /// What the vault says.
    pub async fn sign(&self, key_id: &[u8], mechanism: &str, data: &[u8]) -> Result<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        let request = TlsSignRequest {
            id: 0,
            key_id: key_id.to_vec(),
            mechanism: mechanism.to_owned(),
            data: data.to_vec(),
        };
        self.0
            .send(Job { request, answer })
            .await
            .map_err(|_| anyhow!("the connection has ended"))?;
        answered.await.context("the connection has ended")?
    }
}

/// Takes what waits into one message, and gives each answer to who waits for it.
async fn carry(mut jobs: mpsc::Receiver<Job>, connection: AgentEnd<TlsStream<TcpStream>>) {
    let (mut up, mut down) = connection.split();
    let mut waiting: HashMap<u64, oneshot::Sender<Result<Vec<u8>>>> = HashMap::new();
    let (mut id, mut unasked, mut on_the_way) = (0, VecDeque::new(), false);
    loop {
        if !on_the_way && !unasked.is_empty() {
            let requests = unasked.drain(..unasked.len().min(BATCH)).collect();
            if up.feed(TlsSignRequests { requests }).await.is_err() {
                return;
            }
            on_the_way = true;
        }
        tokio::select! {
            answers = down.next() => {
                let Some(Ok(answers)) = answers else { return };
                for answer in answers.answers {
                    let Some(caller) = waiting.remove(&answer.id) else { continue };
                    let _ = caller.send(match answer.outcome {
                        Some(Outcome::Signature(signature)) => Ok(signature),
                        other => Err(anyhow!("{other:?}")),
                    });
                }
            }
            sent = up.flush(), if on_the_way => match sent {
                Ok(()) => on_the_way = false,
                Err(_) => return,
            },
            Some(first) = jobs.recv() => {
                let mut next = Some(first);
                while let Some(Job { mut request, answer }) = next {
                    id += 1;
                    request.id = id;
                    waiting.insert(id, answer);
                    unasked.push_back(request);
                    next = if unasked.len() < BATCH { jobs.try_recv().ok() } else { None };
                }
            }
        }
    }
}
