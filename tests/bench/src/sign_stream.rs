//! Many callers in one program, over one call of `SignStream`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use vault_proto::v1::{
    SignRequest, SignStreamRequest, key_service_client::KeyServiceClient,
    sign_stream_response::Outcome,
};

/// Who waits for which answer.
type Waiting = HashMap<u64, oneshot::Sender<Result<Vec<u8>>>>;

/// A stream that is open. Cheap to clone.
#[derive(Clone)]
pub struct SignStream {
    up: mpsc::Sender<SignStreamRequest>,
    waiting: Arc<Mutex<Waiting>>,
    next: Arc<AtomicU64>,
}

impl SignStream {
    /// Opens one.
    ///
    /// # Errors
    /// Where the vault refuses.
    pub async fn open(channel: Channel) -> Result<Self> {
        let (up, requests) = mpsc::channel(256);
        let requests = ReceiverStream::new(requests);
        let answers = KeyServiceClient::new(channel).sign_stream(requests).await?;
        let mut answers = answers.into_inner();
        let waiting = Arc::<Mutex<Waiting>>::default();
        let asked = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(answer)) = answers.message().await {
                let caller = lock(&asked).remove(&answer.id);
                let Some(caller) = caller else { continue };
                let _ = caller.send(match answer.outcome {
                    Some(Outcome::Signed(signed)) => Ok(signed.signature),
                    other => Err(anyhow!("{other:?}")),
                });
            }
            lock(&asked).clear();
        });
        Ok(Self { up, waiting, next: Arc::default() })
    }

    /// One signature.
    ///
    /// # Errors
    /// What the vault says.
    pub async fn sign(&self, request: SignRequest) -> Result<Vec<u8>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        let request = SignStreamRequest { id, request: Some(request) };
        self.up.send(request).await.map_err(|_| anyhow!("the stream has ended"))?;
        answered.await.context("the stream has ended")?
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
