//! Many callers over one stream of signatures, as an agent holds it for its web servers.

use std::collections::HashMap;

use anyhow::{Context as _, Result, anyhow};
use testkit::{
    agent::Agent,
    grpc::{self, Certificate},
    vault::Vault,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use vault_proto::v1::{
    TlsSignAnswers, TlsSignRequest, TlsSignRequests,
    agent_session_service_client::AgentSessionServiceClient, tls_sign_answer::Outcome,
};

/// Requests in one message at most.
const BATCH: usize = 64;

/// A stream. Cheap to clone.
#[derive(Clone)]
pub struct Stream(mpsc::Sender<Job>);

struct Job {
    request: TlsSignRequest,
    answer: oneshot::Sender<Result<Vec<u8>>>,
}

impl Stream {
    /// Opens one as this agent.
    ///
    /// # Errors
    /// Where the vault refuses.
    pub async fn open(vault: &Vault, agent: &Agent) -> Result<Self> {
        let (certificate, root) = Certificate::of_agent(agent);
        let channel = grpc::network(vault.address, &root, Some(&certificate)).await?;
        let (jobs, waiting) = mpsc::channel(1024);
        let (up, outgoing) = mpsc::channel(16);
        let mut client = AgentSessionServiceClient::new(channel);
        let down = client.sign_tls(ReceiverStream::new(outgoing)).await?.into_inner();
        tokio::spawn(carry(waiting, up, down));
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
        self.0.send(Job { request, answer }).await.map_err(|_| anyhow!("the stream has ended"))?;
        answered.await.context("the stream has ended")?
    }
}

/// Takes what waits into one message, and gives each answer to who waits for it.
async fn carry(
    mut jobs: mpsc::Receiver<Job>,
    up: mpsc::Sender<TlsSignRequests>,
    mut down: Streaming<TlsSignAnswers>,
) {
    let mut waiting: HashMap<u64, oneshot::Sender<Result<Vec<u8>>>> = HashMap::new();
    let mut id = 0;
    loop {
        tokio::select! {
            answers = down.message() => {
                let Ok(Some(answers)) = answers else { return };
                for answer in answers.answers {
                    let Some(caller) = waiting.remove(&answer.id) else { continue };
                    let _ = caller.send(match answer.outcome {
                        Some(Outcome::Signature(signature)) => Ok(signature),
                        other => Err(anyhow!("{other:?}")),
                    });
                }
            }
            Some(first) = jobs.recv() => {
                let mut requests = Vec::new();
                let mut next = Some(first);
                while let Some(Job { mut request, answer }) = next {
                    id += 1;
                    request.id = id;
                    waiting.insert(id, answer);
                    requests.push(request);
                    next = if requests.len() < BATCH { jobs.try_recv().ok() } else { None };
                }
                if up.send(TlsSignRequests { requests }).await.is_err() {
                    return;
                }
            }
        }
    }
}
