//! What `vaultctl status` says of backups.

use serde::Serialize;
use vault_proto::v1;

use crate::output;

/// The newest backup that is whole.
#[derive(Serialize)]
pub(super) struct LastBackup {
    id: String,
    at: Option<String>,
    age_seconds: u64,
    size: u64,
    sha256: String,
    /// Empty where it was handed to whoever asked for it.
    location: String,
    /// No newer one should be there already.
    ok: bool,
}

/// Backups that the vault makes by itself.
#[derive(Serialize)]
pub(super) struct Schedule {
    scheduled: bool,
    destination: String,
    next_at: Option<String>,
    overdue: bool,
    failed_attempts: u32,
    last_error: String,
    last_failed_at: Option<String>,
}

/// Both, off the wire.
pub(super) fn shown(status: v1::BackupStatus) -> (Option<LastBackup>, Schedule) {
    let v1::BackupStatus { last, age_seconds, overdue, .. } = status;
    let last = last.map(|last| LastBackup {
        id: last.id,
        at: output::time(last.created_at),
        age_seconds,
        size: last.size,
        sha256: last.sha256,
        location: last.location,
        ok: !overdue,
    });
    let schedule = Schedule {
        scheduled: status.scheduled,
        destination: status.destination,
        next_at: output::time(status.next_at),
        overdue,
        failed_attempts: status.failed_attempts,
        last_error: status.last_error,
        last_failed_at: output::time(status.last_failed_at),
    };
    (last, schedule)
}
