//! `BackupService`.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use vault_proto::{
    ids::BackupId,
    v1::{
        self, backup_service_server::BackupService, create_backup_response::Event as Wire,
        read_backup_response::Event as Piece,
    },
};

use super::{Context, convert};
use crate::backup::{Event, State, Summary};
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::store::BackupRecord;

/// Chunks that wait for a reader: what it has not taken is not made.
const AHEAD: usize = 4;
/// Backups that are listed where nobody says how many.
const LISTED: u32 = 100;
/// Backups that are listed at most.
const MOST_LISTED: u32 = 1000;
/// How long a reader may take to take the last word.
const PATIENCE: Duration = Duration::from_secs(60);

/// Backups.
pub(super) struct Backup(pub(super) Arc<Context>);

#[tonic::async_trait]
impl BackupService for Backup {
    type CreateBackupStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::CreateBackupResponse, Status>> + Send>>;

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::BackupCreate, "backup").await?;
        let backups = self.0.rooms()?.backups.clone();
        let recipients = backups.recipients(&request.into_inner().recipients)?;
        let (events, made) = mpsc::channel(AHEAD);
        let (end, ended) = mpsc::channel(1);
        let stopping = self.0.stopping.clone();
        // Carried to its end, as every call is: where its reader hangs up, that is its end.
        self.0.calls.spawn(async move {
            let made = backups.create(&who, recipients, events, stopping).await;
            let last = made.map(|summary| wire(Wire::Summary(summary_of(&summary))));
            let _ = end.send_timeout(last.map_err(Status::from), PATIENCE).await;
        });
        let made = ReceiverStream::new(made).map(|event| Ok(wire(said(event))));
        Ok(Response::new(Box::pin(made.chain(ReceiverStream::new(ended)))))
    }

    async fn run_backup(
        &self,
        request: Request<v1::RunBackupRequest>,
    ) -> Result<Response<v1::Backup>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::BackupCreate, "backup").await?;
        let made = self.0.rooms()?.keeper.make(&who, &self.0.stopping).await?;
        Ok(Response::new(made.into()))
    }

    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::BackupRead, "backup").await?;
        let v1::ListBackupsRequest { limit, before } = request.into_inner();
        let before = match before.as_str() {
            "" => None,
            id => Some(id.parse::<BackupId>().map_err(Error::from)?),
        };
        let limit = if limit == 0 { LISTED } else { limit.min(MOST_LISTED) };
        let backups = self.0.store.backups(before, limit).await?;
        let backups = backups.into_iter().map(v1::Backup::from).collect();
        Ok(Response::new(v1::ListBackupsResponse { backups }))
    }

    type ReadBackupStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::ReadBackupResponse, Status>> + Send>>;

    async fn read_backup(
        &self,
        request: Request<v1::ReadBackupRequest>,
    ) -> Result<Response<Self::ReadBackupStream>, Status> {
        let who = self.0.principal(&request).await?;
        let id: BackupId = request.into_inner().id.parse().map_err(Error::from)?;
        let read = self.0.rooms()?.keeper.read(id);
        let resource = format!("backup/{id}");
        let read = self.0.audited(&who, Action::BackupFetch, &resource, json!({}), read);
        let (backup, contents) = read.await?;
        let piece = |event| v1::ReadBackupResponse { event: Some(event) };
        let first = tokio_stream::once(Ok(piece(Piece::Backup(backup.into()))));
        let rest = contents.map(move |bytes| match bytes {
            Ok(bytes) => Ok(piece(Piece::Data(bytes.into()))),
            Err(error) => Err(Status::from(error)),
        });
        let stopping = self.0.stopping.clone();
        let whole = first.chain(rest).take_until(stopping.cancelled_owned());
        Ok(Response::new(Box::pin(whole)))
    }

    async fn prune_backups(
        &self,
        request: Request<v1::PruneBackupsRequest>,
    ) -> Result<Response<v1::PruneBackupsResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::BackupPrune, "backup").await?;
        let dry_run = request.into_inner().dry_run;
        let removed = self.0.rooms()?.keeper.prune(&who, dry_run, &self.0.stopping).await?;
        let removed = removed.into_iter().map(v1::Backup::from).collect();
        Ok(Response::new(v1::PruneBackupsResponse { removed }))
    }
}

impl From<BackupRecord> for v1::Backup {
    fn from(backup: BackupRecord) -> Self {
        Self {
            id: backup.id.to_string(),
            created_at: Some(convert::timestamp(backup.created_at)),
            size: backup.size,
            sha256: backup.sha256,
            kek_check_value: backup.kek_check_value,
            audit_sequence: backup.audit_sequence,
            audit_head: backup.audit_head,
            counts: Some((&backup.counts).into()),
            location: backup.location,
            state: backup.state.to_string(),
        }
    }
}

/// What `Status` says of backups.
pub(super) async fn status(context: &Context) -> Result<v1::BackupStatus> {
    let State { last, next_at, overdue, schedule, place } = context.rooms()?.keeper.state().await?;
    let age = last.as_ref().map(|last| (context.clock.now() - last.created_at).whole_seconds());
    Ok(v1::BackupStatus {
        last: last.map(v1::Backup::from),
        age_seconds: age.map_or(0, |age| u64::try_from(age).unwrap_or(0)),
        scheduled: next_at.is_some(),
        next_at: next_at.map(convert::timestamp),
        overdue,
        failed_attempts: schedule.failed_attempts,
        last_error: schedule.last_error.unwrap_or_default(),
        last_failed_at: schedule.last_failed_at.map(convert::timestamp),
        destination: place,
    })
}

fn wire(event: Wire) -> v1::CreateBackupResponse {
    v1::CreateBackupResponse { event: Some(event) }
}

fn said(event: Event) -> Wire {
    match event {
        Event::Data(bytes) => Wire::Data(bytes.into()),
        Event::LeftOut(key) => {
            Wire::LeftOut(v1::LeftOutKey { id: key.id, name: key.name, purpose: key.purpose })
        }
    }
}

fn summary_of(summary: &Summary) -> v1::BackupSummary {
    let facts = &summary.manifest.facts;
    v1::BackupSummary {
        vault_id: facts.vault_id.clone(),
        created_at: Some(convert::timestamp(facts.created_at)),
        size: summary.size,
        sha256: summary.sha256.clone(),
        kek_check_value: facts.kek.as_ref().map_or(String::new(), |kek| kek.check_value.clone()),
        audit_sequence: facts.audit.sequence,
        audit_head: facts.audit.head.clone(),
        counts: Some((&summary.manifest.counts).into()),
    }
}
