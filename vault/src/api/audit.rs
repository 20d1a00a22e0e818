//! `AuditService`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use vault_proto::v1::{self, audit_service_server::AuditService};

use super::{Context, convert};
use crate::audit::{Filter, Stored};
use crate::error::{Error, Result};
use crate::policy::Action;

/// The audit log.
pub(super) struct Audit(pub(super) Arc<Context>);

fn wire(Stored { record, line }: Stored) -> v1::AuditRecord {
    v1::AuditRecord {
        sequence: record.sequence,
        time: Some(convert::timestamp(record.time)),
        phase: record.phase.to_string(),
        principal: record.principal,
        action: record.action,
        resource: record.resource,
        outcome: record.outcome.map(|outcome| outcome.to_string()).unwrap_or_default(),
        operation_id: record.operation.unwrap_or_default(),
        detail_json: record.detail.to_string(),
        line,
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    type QueryAuditStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::AuditRecord, Status>> + Send>>;

    async fn query_audit(
        &self,
        request: Request<v1::QueryAuditRequest>,
    ) -> Result<Response<Self::QueryAuditStream>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::AuditRead, "audit").await?;
        let request = request.into_inner();
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let filter = Filter {
            since: request.since.map(convert::time_of).transpose()?,
            key: given(request.key),
            principal: given(request.principal),
            action: given(request.action),
            last: (request.last > 0).then(|| usize::try_from(request.last).unwrap_or(usize::MAX)),
        };
        let records = ReceiverStream::new(self.0.audit.query(filter, request.follow));
        let records = records.map(|stored| Ok(wire(stored?)));
        if !request.follow {
            return Ok(Response::new(Box::pin(records)));
        }
        let stopping = self.0.stopping.clone();
        let end = futures_util::stream::once(async {
            let why = "the vault is stopping";
            Err(Error::unavailable("follow", "the audit log", why).into())
        });
        let records = records.take_until(stopping.cancelled_owned()).chain(end);
        Ok(Response::new(Box::pin(records)))
    }

    async fn verify_audit(
        &self,
        request: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::AuditRead, "audit").await?;
        let report = self.0.audit.verify().await?;
        Ok(Response::new(v1::VerifyAuditResponse {
            ok: report.problem.is_none(),
            records: report.records,
            head: report.head,
            problem: report.problem.unwrap_or_default(),
        }))
    }
}
