//! What `vaultctl status` says of drills.

use std::time::Duration;

use serde::Serialize;
use vault_proto::v1;

use crate::output;

/// A drill on record.
#[derive(Serialize)]
pub(super) struct LastDrill {
    id: String,
    at: Option<String>,
    age_seconds: u64,
    ok: bool,
    rto_seconds: f64,
    rpo_seconds: f64,
}

/// The backup that the last drill with everything proven was of.
#[derive(Serialize)]
pub(super) struct ProvenBackup {
    drill_id: String,
    sha256: String,
    created_at: Option<String>,
    age_seconds: u64,
}

/// The last drill, off the wire.
pub(super) fn last(drill: v1::DrillSummary) -> LastDrill {
    let seconds = |milliseconds| Duration::from_millis(milliseconds).as_secs_f64();
    LastDrill {
        id: drill.id,
        at: output::time(drill.at),
        age_seconds: drill.age_seconds,
        ok: drill.ok,
        rto_seconds: seconds(drill.rto_milliseconds),
        rpo_seconds: seconds(drill.rpo_milliseconds),
    }
}

/// The last proven backup, off the wire.
pub(super) fn proven(drill: v1::DrillSummary) -> ProvenBackup {
    ProvenBackup {
        drill_id: drill.id,
        sha256: drill.backup_sha256,
        created_at: output::time(drill.backup_created_at),
        age_seconds: drill.backup_age_seconds,
    }
}
