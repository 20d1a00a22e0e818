//! `KeyService.SignStream`: many signatures in one call.
//!
//! For an RSA signature the HTTP/2 and gRPC of a call of its own cost a twentieth of it on both sides
//! together, for one on a curve as much as the signature. Here each is a message on a stream that is
//! open, and what is ready at once goes out together.

use std::{pin::pin, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use vault_proto::v1::{self, sign_stream_response::Outcome};

use super::{PeerInfo, keys::Keys};
use crate::error::{Error, Result};

/// Signatures of one call that are under way at once; past that the caller waits to be read.
const UNDER_WAY: usize = 256;
/// How long a caller may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What goes to the caller.
pub(super) type Answers = ReceiverStream<Result<v1::SignStreamResponse, Status>>;

/// Signs what comes, for the peer, until the caller has asked for everything or the vault stops.
pub(super) fn begin(
    keys: Keys,
    peer: Option<PeerInfo>,
    up: Streaming<v1::SignStreamRequest>,
) -> Answers {
    let (down, answers) = mpsc::channel(UNDER_WAY);
    let calls = keys.context().calls.clone();
    // What has begun is carried to its end, whoever hangs up.
    calls.spawn(serve(keys, peer, up, down));
    ReceiverStream::new(answers)
}

async fn serve(
    keys: Keys,
    peer: Option<PeerInfo>,
    mut up: Streaming<v1::SignStreamRequest>,
    down: mpsc::Sender<Result<v1::SignStreamResponse, Status>>,
) {
    let stopping = keys.context().stopping.clone();
    let mut stopped = pin!(stopping.cancelled());
    let mut under_way = FuturesUnordered::new();
    let ended = loop {
        tokio::select! {
            biased;
            Some(answer) = under_way.next() => {
                if down.send_timeout(Ok(answer), PATIENCE).await.is_err() {
                    break Ok(());
                }
            }
            () = &mut stopped => {
                break Err(Error::unavailable("sign", "a stream of messages", "the vault is stopping")
                    .hint("ask another node, or this one in a moment, for what has no answer")
                    .into());
            }
            next = up.message(), if under_way.len() < UNDER_WAY => match next {
                Ok(Some(request)) => under_way.push(answer(&keys, peer.as_ref(), request)),
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            },
        }
    };
    while let Some(answer) = under_way.next().await {
        // Nobody may listen any more.
        let _ = down.send_timeout(Ok(answer), PATIENCE).await;
    }
    if let Err(status) = ended {
        let _ = down.send_timeout(Err(status), PATIENCE).await;
    }
}

/// Signs once. Who asks is asked for each, so that a revocation counts at once.
async fn answer(
    keys: &Keys,
    peer: Option<&PeerInfo>,
    request: v1::SignStreamRequest,
) -> v1::SignStreamResponse {
    let v1::SignStreamRequest { id, request } = request;
    let signed = async {
        let who = keys.context().known(peer).await?;
        keys.signed(&who, request.unwrap_or_default()).await
    };
    let outcome = match signed.await {
        Ok(signed) => Outcome::Signed(signed),
        Err(error) => Outcome::Error(error.into()),
    };
    v1::SignStreamResponse { id, outcome: Some(outcome) }
}
