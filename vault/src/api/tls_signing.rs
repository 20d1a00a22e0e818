//! One agent's stream of signatures for its web servers.
//!
//! Many are under way at once, and answers go out as they are ready, as many in a message as there
//! are: a busy stream costs little more for each signature than the signature itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use vault_proto::{
    ids::{AgentName, KeyId},
    v1::{self, tls_sign_answer::Outcome},
};

use super::Rooms;
use crate::error::{Error, ErrorKind, Result};
use crate::keyless::UsableKeys;
use crate::policy::Principal;
use crate::store::Recent;

/// Signatures of one stream that are under way at once; past that the agent waits to be read.
const UNDER_WAY: usize = 1024;
/// Answers that go out in one message at most.
const BATCH: usize = 64;
/// How long an agent may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) type Answers = mpsc::Sender<Result<v1::TlsSignAnswers, Status>>;

/// Signatures that have begun.
type UnderWay = FuturesUnordered<BoxFuture<'static, v1::TlsSignAnswer>>;

/// One stream.
#[derive(Clone)]
pub(super) struct TlsStream {
    pub(super) rooms: Arc<Rooms>,
    pub(super) who: Principal,
    pub(super) agent: AgentName,
}

impl TlsStream {
    /// Signs until the agent hangs up or may not any more, or the vault stops.
    pub(super) async fn serve(
        self,
        mut requests: Streaming<v1::TlsSignRequests>,
        answers: Answers,
        stopping: CancellationToken,
    ) {
        let mut under_way = FuturesUnordered::new();
        let ended = tokio::select! {
            () = stopping.cancelled() => Ok(()),
            ended = self.run(&mut requests, &answers, &mut under_way) => ended,
        };
        // Carried to its end whoever hangs up, as every call is.
        while let Some(answer) = under_way.next().await {
            let message = v1::TlsSignAnswers { answers: vec![answer] };
            // Nobody may listen any more.
            let _ = answers.send_timeout(Ok(message), PATIENCE).await;
        }
        if let Err(error) = ended {
            let _ = answers.send_timeout(Err(error.into()), PATIENCE).await;
        }
    }

    async fn run(
        &self,
        requests: &mut Streaming<v1::TlsSignRequests>,
        answers: &Answers,
        under_way: &mut UnderWay,
    ) -> Result<()> {
        let keyless = &self.rooms.keyless;
        let mut changes = self.rooms.hub.watch();
        let recent = Recent::default();
        keyless.usable(&self.agent, &recent).await?;
        loop {
            tokio::select! {
                batch = requests.message(), if under_way.len() < UNDER_WAY => {
                    let Ok(Some(batch)) = batch else { return Ok(()) };
                    let usable = keyless.usable(&self.agent, &recent).await?;
                    for request in batch.requests {
                        under_way.push(self.clone().answer(usable.clone(), request).boxed());
                    }
                }
                heard = changes.changed() => {
                    // An agent that is evicted is not waited for until it asks.
                    if heard.is_err() {
                        return Ok(());
                    }
                    match keyless.check_active(&self.agent).await {
                        Err(error) if error.kind == ErrorKind::Unauthenticated => return Err(error),
                        // Where the store is away, the next request says so.
                        Ok(_) | Err(_) => {}
                    }
                }
                Some(first) = under_way.next() => {
                    let mut ready = vec![first];
                    while ready.len() < BATCH
                        && let Some(Some(next)) = under_way.next().now_or_never()
                    {
                        ready.push(next);
                    }
                    let message = v1::TlsSignAnswers { answers: ready };
                    if answers.send_timeout(Ok(message), PATIENCE).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn answer(
        self,
        usable: Arc<UsableKeys>,
        request: v1::TlsSignRequest,
    ) -> v1::TlsSignAnswer {
        let id = request.id;
        let outcome = match self.sign(&usable, request).await {
            Ok(signature) => Outcome::Signature(signature),
            Err(error) => Outcome::Error(error.into()),
        };
        v1::TlsSignAnswer { id, outcome: Some(outcome) }
    }

    async fn sign(&self, usable: &UsableKeys, request: v1::TlsSignRequest) -> Result<Vec<u8>> {
        let malformed = || Error::invalid("sign", "a TLS handshake", "the key's id is malformed");
        let key = KeyId::from_bytes(&request.key_id).ok_or_else(malformed)?;
        let (mechanism, data) = (request.mechanism.parse()?, Bytes::from(request.data));
        let keyless = &self.rooms.keyless;
        let signed = keyless.sign(&self.who, &self.agent, usable, key, mechanism, data).await?;
        Ok(signed.jose().to_vec())
    }
}
