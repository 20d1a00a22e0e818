//! `RestoreService`.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use vault_backup::Identities;
use vault_proto::v1::{
    self, restore_request::Part, restore_response::Event as Wire,
    restore_service_server::RestoreService,
};
use zeroize::Zeroizing;

use super::{Context, Restorer, convert};
use crate::backup::restore::{Event, Opening, Spooled, Summary};
use crate::error::{Error, Result};
use crate::policy::{Action, Principal};

/// Words that wait for whoever listens.
const AHEAD: usize = 16;
/// How long the sender may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A backup back into a vault.
pub(super) struct Restore(pub(super) Arc<Context>);

/// What a request says first.
struct Begun {
    opening: Opening,
    size: u64,
    sha256: String,
    allow_stale: bool,
}

#[tonic::async_trait]
impl RestoreService for Restore {
    type RestoreStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::RestoreResponse, Status>> + Send>>;

    async fn restore(
        &self,
        request: Request<Streaming<v1::RestoreRequest>>,
    ) -> Result<Response<Self::RestoreStream>, Status> {
        let who = self.0.peer(&request).await?;
        for action in [Action::BackupRestore, Action::KeyUnwrap] {
            self.0.allow(&who, action, "vault").await?;
        }
        let restorer = self.0.restorer.get().cloned().ok_or_else(|| {
            Error::conflict("restore into", "this vault", "it is initialised already")
                .hint("a restore needs a vault with a store and a token of its own")
        })?;
        let (events, told) = mpsc::channel(AHEAD);
        let (end, ended) = mpsc::channel(1);
        let parts = request.into_inner();
        // Carried to its end, whether anybody listens or not.
        self.0.calls.spawn(async move {
            let done = restore(restorer.as_ref(), &who, parts, events).await;
            let restored = done.is_ok();
            let last = done.map(|summary| wire(Wire::Summary(summary)));
            let _ = end.send(last.map_err(Status::from)).await;
            if restored {
                restorer.start_anew();
            }
        });
        let told = ReceiverStream::new(told).map(|event| Ok(wire(said(event))));
        Ok(Response::new(Box::pin(told.chain(ReceiverStream::new(ended)))))
    }
}

async fn restore(
    restorer: &dyn Restorer,
    who: &Principal,
    mut parts: Streaming<v1::RestoreRequest>,
    events: mpsc::Sender<Event>,
) -> Result<v1::RestoreSummary> {
    let begun = match next(&mut parts).await? {
        Some(Part::Begin(begin)) => begun(begin)?,
        _ => return Err(bad("it does not begin with what opens it")),
    };
    let backup = receive(restorer, &begun, &mut parts, &events).await?;
    let Begun { opening, allow_stale, .. } = begun;
    let done = restorer.restore(who, backup, opening, allow_stale, events).await?;
    Ok(summary_of(&done))
}

async fn receive(
    restorer: &dyn Restorer,
    begun: &Begun,
    parts: &mut Streaming<v1::RestoreRequest>,
    events: &mpsc::Sender<Event>,
) -> Result<Spooled> {
    let mut spool = restorer.spool()?;
    while let Some(part) = next(parts).await? {
        let Part::Data(bytes) = part else { return Err(bad("it begins twice")) };
        let done = spool.write(&bytes)?;
        let _ = events.try_send(Event::Progress("received", done, begun.size));
    }
    spool.end(begun.size, &begun.sha256)
}

async fn next(parts: &mut Streaming<v1::RestoreRequest>) -> Result<Option<Part>> {
    let gone = |why: String| {
        Error::unavailable("restore", "the backup", why).hint("nothing was changed; begin again")
    };
    let message = tokio::time::timeout(SILENCE, parts.message()).await;
    let message = message.map_err(|_| gone("its sender does not go on".to_owned()))?;
    match message.map_err(|status| gone(status.message().to_owned()))? {
        None => Ok(None),
        Some(message) => message.part.map(Some).ok_or_else(|| bad("a part of it is empty")),
    }
}

fn bad(why: &str) -> Error {
    Error::invalid("restore", "the request", why)
}

fn begun(begin: v1::RestoreBegin) -> Result<Begun> {
    let v1::RestoreBegin { identities, shares, size, sha256, allow_stale } = begin;
    let given = identities.into_iter().map(text);
    let mut identities = Identities::default();
    for text in given {
        let added = identities.add(&text?);
        added.map_err(|fault| Error::invalid("read", "an identity", fault))?;
    }
    let shares = shares.into_iter().map(text).collect::<Result<_>>()?;
    Ok(Begun { opening: Opening { identities, shares }, size, sha256, allow_stale })
}

/// A secret text, which is overwritten once it is not needed any more.
fn text(bytes: Vec<u8>) -> Result<Zeroizing<String>> {
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        bad("an identity or a share is no text")
    })
}

fn wire(event: Wire) -> v1::RestoreResponse {
    v1::RestoreResponse { event: Some(event) }
}

fn said(event: Event) -> Wire {
    match event {
        Event::Progress(stage, done, total) => {
            Wire::Progress(v1::RestoreProgress { stage: stage.to_owned(), done, total })
        }
        Event::Lost(key) => {
            Wire::Lost(v1::LeftOutKey { id: key.id, name: key.name, purpose: key.purpose })
        }
    }
}

fn summary_of(summary: &Summary) -> v1::RestoreSummary {
    let facts = &summary.manifest.facts;
    v1::RestoreSummary {
        vault_id: facts.vault_id.clone(),
        snapshot_at: Some(convert::timestamp(facts.created_at)),
        backup_sha256: summary.backup_sha256.clone(),
        counts: Some((&summary.manifest.counts).into()),
        keys_restored: summary.keys_restored,
        kek_check_value: facts.kek.as_ref().map_or(String::new(), |kek| kek.check_value.clone()),
        audit_set_aside: summary.set_aside.display().to_string(),
    }
}
