//! `DrillService`.

use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use vault_proto::{
    ids::DrillId,
    v1::{self, drill_service_server::DrillService},
};

use super::{Context, convert};
use crate::backup::drills::Content;
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::store::{DrillCheck, DrillRecord};

/// How many are listed where nobody says.
const LISTED: u32 = 100;
/// How many are listed at most.
const MOST_LISTED: u32 = 1000;

/// Drills.
pub(super) struct Drills(pub(super) Arc<Context>);

/// What `Status` says of a drill.
pub(super) fn summary(drill: DrillRecord, now: OffsetDateTime) -> v1::DrillSummary {
    let age = |at: OffsetDateTime| u64::try_from((now - at).whole_seconds()).unwrap_or(0);
    v1::DrillSummary {
        age_seconds: age(drill.recorded_at),
        backup_age_seconds: drill.backup_created_at.map(age).unwrap_or_default(),
        id: drill.id.to_string(),
        at: Some(convert::timestamp(drill.recorded_at)),
        ok: drill.ok,
        rto_milliseconds: drill.rto_milliseconds,
        rpo_milliseconds: drill.rpo_milliseconds,
        backup_sha256: drill.backup_sha256,
        backup_created_at: drill.backup_created_at.map(convert::timestamp),
    }
}

fn shown(drill: DrillRecord) -> v1::Drill {
    let check = |check: DrillCheck| v1::DrillCheck {
        name: check.name,
        status: check.status,
        detail: check.detail,
    };
    v1::Drill {
        id: drill.id.to_string(),
        started_at: Some(convert::timestamp(drill.started_at)),
        recorded_at: Some(convert::timestamp(drill.recorded_at)),
        backup_sha256: drill.backup_sha256,
        backup_created_at: drill.backup_created_at.map(convert::timestamp),
        ok: drill.ok,
        checks: drill.checks.into_iter().map(check).collect(),
        keys_proven: drill.keys_proven,
        rto_milliseconds: drill.rto_milliseconds,
        rpo_milliseconds: drill.rpo_milliseconds,
        report_json_sha256: drill.report_json_sha256,
        report_html_sha256: drill.report_html_sha256,
        recorded_by: drill.recorded_by,
        statement: drill.statement,
    }
}

fn read(drill: v1::Drill) -> Result<DrillRecord> {
    let missing = |what: &str| Error::invalid("record", "a drill", format!("it has no {what}"));
    let started_at = drill.started_at.ok_or_else(|| missing("start"))?;
    let check = |check: v1::DrillCheck| DrillCheck {
        name: check.name,
        status: check.status,
        detail: check.detail,
    };
    Ok(DrillRecord {
        id: drill.id.parse().map_err(Error::from)?,
        started_at: convert::time_of(started_at)?,
        // The vault's own word.
        recorded_at: convert::time_of(started_at)?,
        recorded_by: String::new(),
        backup_sha256: drill.backup_sha256,
        backup_created_at: drill.backup_created_at.map(convert::time_of).transpose()?,
        ok: drill.ok,
        checks: drill.checks.into_iter().map(check).collect(),
        keys_proven: drill.keys_proven,
        rto_milliseconds: drill.rto_milliseconds,
        rpo_milliseconds: drill.rpo_milliseconds,
        report_json_sha256: drill.report_json_sha256,
        report_html_sha256: drill.report_html_sha256,
        statement: String::new(),
    })
}

#[tonic::async_trait]
impl DrillService for Drills {
    async fn record_drill(
        &self,
        request: Request<v1::RecordDrillRequest>,
    ) -> Result<Response<v1::RecordDrillResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let drill = read(request.drill.unwrap_or_default())?;
        let failed = drill.checks.iter().filter(|check| check.status == "failed");
        // An unknown text is as long as whoever sends it likes: the log has its beginning.
        let brief = |text: &str| text.chars().take(64).collect::<String>();
        let failed: Vec<_> = failed.take(16).map(|check| brief(&check.name)).collect();
        let detail = json!({ "backup": brief(&drill.backup_sha256), "ok": drill.ok,
            "failed": failed, "keys_proven": drill.keys_proven,
            "rto_milliseconds": drill.rto_milliseconds,
            "rpo_milliseconds": drill.rpo_milliseconds });
        let resource = format!("drill/{}", drill.id);
        let content = Content {
            counts: (&request.counts.unwrap_or_default()).into(),
            audit_sequence: request.audit_sequence,
            audit_head: request.audit_head,
        };
        let record = async { self.0.rooms()?.drills.record(&who, drill, &content).await };
        let statement =
            self.0.audited(&who, Action::DrillRecord, &resource, detail, record).await?;
        Ok(Response::new(v1::RecordDrillResponse { statement }))
    }

    async fn list_drills(
        &self,
        request: Request<v1::ListDrillsRequest>,
    ) -> Result<Response<v1::ListDrillsResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::DrillRead, "drill").await?;
        let limit = match request.into_inner().limit {
            0 => LISTED,
            limit => limit.min(MOST_LISTED),
        };
        let drills = self.0.store.drills(limit).await?.into_iter();
        let brief = |drill: DrillRecord| shown(DrillRecord { statement: String::new(), ..drill });
        Ok(Response::new(v1::ListDrillsResponse { drills: drills.map(brief).collect() }))
    }

    async fn get_drill(
        &self,
        request: Request<v1::GetDrillRequest>,
    ) -> Result<Response<v1::Drill>, Status> {
        let who = self.0.principal(&request).await?;
        let id: DrillId = request.into_inner().id.parse().map_err(Error::from)?;
        self.0.allow(&who, Action::DrillRead, &format!("drill/{id}")).await?;
        let drill = self.0.store.drill(id).await?.ok_or_else(|| {
            Error::not_found("show", format!("drill {id}"), "this vault has recorded no such drill")
                .hint("`vaultctl drill list` shows those there are")
        })?;
        Ok(Response::new(shown(drill)))
    }
}
