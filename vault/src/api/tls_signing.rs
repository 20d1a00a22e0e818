//! Connections of agents that want signatures for their web servers (`agents.proto` says what is said
//! on them).
//!
//! Many signatures are under way at once, and answers go out as they are ready, as many in a message as
//! there are: a busy connection costs little more for each signature than the signature itself.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, SplitSink, SplitStream},
};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use vault_proto::{
    frames::{Frames, VaultEnd},
    ids::{AgentName, KeyId},
    v1::{self, tls_sign_answer::Outcome},
};

use super::{Context, PeerInfo, Rooms, lanes::Lanes, movable::Movable, server::CONNECTION_AGE};
use crate::error::{Error, ErrorKind, Result};
use crate::keyless::UsableKeys;
use crate::keystore::{Place, ToSign};
use crate::policy::Principal;
use crate::store::Recent;

/// Signatures of one connection that are under way at once; past that the agent waits to be read.
const UNDER_WAY: usize = 1024;
/// Requests that are few: the first waits for the last of them.
const FEW: usize = 4;
/// Answers that go out in one message at most.
const BATCH: usize = 64;
/// How long an agent may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Signatures that have begun.
type UnderWay = FuturesUnordered<BoxFuture<'static, v1::TlsSignAnswer>>;
type Frame = VaultEnd<TlsStream<Movable>>;
type Up = SplitStream<Frame>;

/// Takes such connections. Cheap to clone.
#[derive(Clone)]
pub struct TlsSigning {
    context: Arc<Context>,
    lanes: Arc<Lanes>,
}

impl TlsSigning {
    /// For the vault of this context; on so many threads with a session of their own at most.
    pub fn new(context: Arc<Context>, threads: usize) -> Self {
        let lanes = Lanes::new(threads, context.calls.clone(), context.stopping.clone());
        Self { context, lanes: Arc::new(lanes) }
    }

    /// Serves a connection, whose handshake is done, to its end.
    pub(super) fn accept(&self, stream: TlsStream<Movable>, peer: PeerInfo) {
        let this = self.clone();
        // The drain waits for signatures that have begun, not for agents to hang up.
        self.context.calls.spawn(async move {
            if let Err(error) = this.open(stream, &peer).await {
                tracing::warn!(%error, "a connection for signatures was not opened");
            }
        });
    }

    async fn open(&self, stream: TlsStream<Movable>, peer: &PeerInfo) -> Result<()> {
        let signer = match self.signer(peer).await {
            Ok(signer) => signer,
            Err(error) => {
                let (sink, _) = Frame::new(stream, Frames::default()).split();
                Down::new(sink).end(Err(error)).await;
                return Ok(());
            }
        };
        let (stopping, signing) = (self.context.stopping.clone(), signer.rooms.signing.clone());
        let serve = async move {
            let mut stream = stream;
            if let Err(error) = stream.get_mut().0.settle() {
                return tracing::warn!(%error, "a connection for signatures was lost");
            }
            let (sink, up) = Frame::new(stream, Frames::default()).split();
            signer.serve(up, Down::new(sink), stopping.cancelled_owned()).await;
        };
        self.lanes.carry(&signing, serve)
    }

    /// Who signs on a connection, or a refusal.
    async fn signer(&self, peer: &PeerInfo) -> Result<Arc<Signer>> {
        let (who, agent) = self.context.agent(Some(peer)).await?;
        let rooms = self.context.rooms()?.clone();
        let recent = Recent::default();
        rooms.keyless.usable(&agent, &recent).await?;
        Ok(Arc::new(Signer { rooms, who, agent, recent }))
    }
}

/// What goes to an agent.
struct Down {
    sink: SplitSink<Frame, v1::TlsSignAnswers>,
    /// Until when the agent has time to take what was said; nothing where it has taken all.
    untaken: Option<Instant>,
}

impl Down {
    fn new(sink: SplitSink<Frame, v1::TlsSignAnswers>) -> Self {
        Self { sink, untaken: None }
    }

    /// Says something, which [`Down::taken`] carries there.
    async fn say(&mut self, message: v1::TlsSignAnswers) -> io::Result<()> {
        let until = *self.untaken.get_or_insert_with(|| Instant::now() + PATIENCE);
        timeout_at(until, self.sink.feed(message)).await?
    }

    /// Waits until the agent has taken what was said. It may be dropped and called again.
    async fn taken(&mut self) -> io::Result<()> {
        if let Some(until) = self.untaken {
            timeout_at(until, self.sink.flush()).await??;
            self.untaken = None;
        }
        Ok(())
    }

    /// Says something and waits until the agent has taken it.
    async fn deliver(&mut self, message: v1::TlsSignAnswers) -> io::Result<()> {
        self.say(message).await?;
        self.taken().await
    }

    async fn answer(&mut self, answers: Vec<v1::TlsSignAnswer>) -> io::Result<()> {
        self.say(v1::TlsSignAnswers { answers, ended: None }).await
    }

    /// Says why it ends, and closes.
    async fn end(mut self, ended: Result<()>) {
        let ended = ended.err().map(Into::into);
        let closed = async {
            if ended.is_some() {
                self.say(v1::TlsSignAnswers { answers: Vec::new(), ended }).await?;
            }
            self.taken().await?;
            timeout_at(Instant::now() + PATIENCE, self.sink.close()).await?
        };
        if let Err(error) = closed.await {
            tracing::debug!(%error, "an agent has hung up");
        }
    }
}

/// Signs for one agent.
struct Signer {
    rooms: Arc<Rooms>,
    who: Principal,
    agent: AgentName,
    /// What it may use, as it was read last.
    recent: Recent<Arc<UsableKeys>>,
}

impl Signer {
    /// Signs until the agent hangs up or may not any more, the connection is old, or the vault stops.
    async fn serve(
        self: Arc<Self>,
        mut up: Up,
        mut down: Down,
        stopping: impl Future<Output = ()>,
    ) {
        let mut under_way = FuturesUnordered::new();
        let ended = tokio::select! {
            () = stopping => Ok(()),
            () = tokio::time::sleep(CONNECTION_AGE) => Ok(()),
            ended = self.run(&mut up, &mut down, &mut under_way) => ended,
        };
        // Carried to its end whoever hangs up, as every call is.
        while let Some(answers) = ready(&mut under_way).await {
            // Nobody may listen any more.
            let _ = down.deliver(v1::TlsSignAnswers { answers, ended: None }).await;
        }
        down.end(ended).await;
    }

    async fn run(
        self: &Arc<Self>,
        up: &mut Up,
        down: &mut Down,
        under_way: &mut UnderWay,
    ) -> Result<()> {
        let mut closings = self.rooms.hub.closings();
        if down.answer(Vec::new()).await.is_err() {
            return Ok(());
        }
        loop {
            tokio::select! {
                // What is signed here goes out before the next is read.
                biased;
                heard = closings.changed() => {
                    // An agent that is evicted is not waited for until it asks.
                    if heard.is_err() {
                        return Ok(());
                    }
                    match self.rooms.keyless.check_active(&self.agent).await {
                        Err(error) if error.kind == ErrorKind::Unauthenticated => return Err(error),
                        // Where the store is away, the next request says so.
                        Ok(()) | Err(_) => {}
                    }
                }
                taken = down.taken(), if down.untaken.is_some() => if taken.is_err() {
                    return Ok(());
                },
                Some(answers) = ready(under_way), if down.untaken.is_none() => {
                    if down.answer(answers).await.is_err() {
                        return Ok(());
                    }
                }
                next = up.next(), if under_way.len() < UNDER_WAY => match self.asked(next)? {
                    Some(first) => self.begin(first, up, under_way).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// A message that was read; nothing at the connection's end.
    fn asked(
        &self,
        next: Option<io::Result<v1::TlsSignRequests>>,
    ) -> Result<Option<v1::TlsSignRequests>> {
        match next.transpose() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let subject = format!("what agent {} asks", self.agent);
                Err(Error::invalid("read", subject, error))
            }
            next => Ok(next.ok().flatten()),
        }
    }

    /// Begins with a message and with what else has come already.
    async fn begin(
        self: &Arc<Self>,
        first: v1::TlsSignRequests,
        up: &mut Up,
        under_way: &mut UnderWay,
    ) -> Result<()> {
        let usable = self.rooms.keyless.usable(&self.agent, &self.recent).await?;
        let mut requests = first.requests;
        // The connection's end shows again when it is read the next time.
        while requests.len() < UNDER_WAY
            && let Some(next) = up.next().now_or_never()
            && let Some(more) = self.asked(next)?
        {
            requests.extend(more.requests);
        }
        // A few are signed for here, one after the other, and answered together: to wake a thread for one
        // costs more than half of it. Many are better signed side by side.
        let few = requests.len() <= FEW && under_way.is_empty();
        let place = if few { Place::Here } else { Place::Queue };
        for request in requests {
            under_way.push(self.clone().answer(usable.clone(), request, place));
        }
        Ok(())
    }

    /// Signs once.
    fn answer(
        self: Arc<Self>,
        usable: Arc<UsableKeys>,
        request: v1::TlsSignRequest,
        place: Place,
    ) -> BoxFuture<'static, v1::TlsSignAnswer> {
        let id = request.id;
        let asked = to_sign(request, place);
        Box::pin(async move {
            let signed = match asked {
                Ok((key, what)) => {
                    let Self { rooms, who, agent, .. } = &*self;
                    rooms.keyless.sign(who, agent, &usable, key, what).await
                }
                Err(error) => Err(error),
            };
            let outcome = match signed {
                Ok(signature) => Outcome::Signature(signature.into_jose()),
                Err(error) => Outcome::Error(error.into()),
            };
            v1::TlsSignAnswer { id, outcome: Some(outcome) }
        })
    }
}

/// What a request asks for, and of which key.
fn to_sign(request: v1::TlsSignRequest, place: Place) -> Result<(KeyId, ToSign)> {
    let malformed = || Error::invalid("sign", "a TLS handshake", "the key's id is malformed");
    let key = KeyId::from_bytes(&request.key_id).ok_or_else(malformed)?;
    let (mechanism, message) = (request.mechanism.parse()?, Bytes::from(request.data));
    Ok((key, ToSign { mechanism, message, place }))
}

/// The answers that are ready, once there is one; nothing where nothing is under way.
async fn ready(under_way: &mut UnderWay) -> Option<Vec<v1::TlsSignAnswer>> {
    let mut ready = vec![under_way.next().await?];
    while ready.len() < BATCH
        && let Some(Some(next)) = under_way.next().now_or_never()
    {
        ready.push(next);
    }
    Some(ready)
}
