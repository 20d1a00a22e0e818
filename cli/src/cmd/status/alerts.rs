//! What `vaultctl status` says of alerts.

use serde::Serialize;
use vault_proto::v1;

use crate::output;

/// An alert that is open.
#[derive(Serialize)]
pub(super) struct Alert {
    kind: String,
    subject: String,
    detail: String,
    since: Option<String>,
}

/// One, off the wire.
pub(super) fn shown(alert: v1::Alert) -> Alert {
    Alert {
        kind: alert.kind,
        subject: alert.subject,
        detail: alert.detail,
        since: output::time(alert.since),
    }
}
