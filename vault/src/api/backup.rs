//! `BackupService`.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use vault_backup::Counts;
use vault_proto::v1::{
    self, backup_service_server::BackupService, create_backup_response::Event as Wire,
};

use super::{Context, convert};
use crate::backup::{Event, Summary};
use crate::error::Result;
use crate::policy::Action;

/// Chunks that wait for a reader: what it has not taken is not made.
const AHEAD: usize = 4;
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
        counts: Some(counts(&summary.manifest.counts)),
    }
}

fn counts(counts: &Counts) -> v1::BackupCounts {
    v1::BackupCounts {
        keys_wrapped: counts.keys_wrapped,
        keys_not_escrowed: counts.keys_not_escrowed,
        keys_gone: counts.keys_gone,
        settings: counts.settings,
        accounts: counts.accounts,
        agents: counts.agents,
        identities: counts.identities,
        certificates: counts.certificates,
        versions: counts.versions,
        orders: counts.orders,
        deployments: counts.deployments,
        audit_records: counts.audit_records,
    }
}
