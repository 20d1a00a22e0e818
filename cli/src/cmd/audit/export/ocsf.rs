//! Open Cybersecurity Schema Framework 1.3: a record is an event of the class API Activity.

use serde_json::{Value, json};

use super::{Course, PRODUCT, Record, VENDOR, VERSION};
use crate::output;

/// Of the schema.
const SCHEMA: &str = "1.3.0";
const CATEGORY: (u32, &str) = (6, "Application Activity");
const CLASS: (u32, &str) = (6003, "API Activity");

/// The activity's number and caption. What is neither made, read, changed nor ended, such as to sign, has its
/// action as its caption.
fn activity(action: &str) -> (u32, &str) {
    match action.rsplit('.').next().unwrap_or_default() {
        "generate" | "issue" | "create" | "enroll" | "init" => (1, "Create"),
        "read" | "status" | "fetch" => (2, "Read"),
        "manage" | "rotate" | "restore" => (3, "Update"),
        "destroy" | "prune" => (4, "Delete"),
        _ => (99, action),
    }
}

/// Numbers and captions of severity and status.
fn judged(course: Course) -> [(u32, &'static str); 2] {
    let informational = (1, "Informational");
    let failure = (2, "Failure");
    match course {
        Course::Intended => [informational, (99, "Intended")],
        Course::Done => [informational, (1, "Success")],
        Course::Failed => [(3, "Medium"), failure],
        Course::Denied => [(4, "High"), failure],
        Course::Unknown => [(4, "High"), (0, "Unknown")],
    }
}

/// Where a call came from. The log has its caller's name, and no address.
fn endpoint(principal: &str) -> &str {
    match principal.split_once(':') {
        Some(("vault", _)) => PRODUCT,
        Some(("local", _)) => "admin socket",
        _ => principal,
    }
}

/// A record as one line.
pub(super) fn line(record: &Record) -> String {
    let wire = &record.wire;
    let (activity_id, activity) = activity(&wire.action);
    let [(severity_id, severity), (status_id, status)] = judged(record.course);
    let (kind, name) = wire.resource.split_once('/').unwrap_or((&wire.resource, &wire.resource));
    let mut event = json!({
        "category_uid": CATEGORY.0,
        "category_name": CATEGORY.1,
        "class_uid": CLASS.0,
        "class_name": CLASS.1,
        "activity_id": activity_id,
        "activity_name": activity,
        "type_uid": CLASS.0 * 100 + activity_id,
        "type_name": format!("{}: {activity}", CLASS.1),
        "time": record.milliseconds(),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "message": record.title(),
        "actor": { "user": { "uid": wire.principal, "name": wire.principal } },
        "api": { "operation": wire.action, "service": { "name": PRODUCT } },
        "src_endpoint": { "name": endpoint(&wire.principal) },
        "resources": [{ "type": kind, "uid": name }],
        "metadata": {
            "version": SCHEMA,
            "product": { "vendor_name": VENDOR, "name": PRODUCT, "version": VERSION },
            "log_name": "audit",
            "event_code": wire.action,
            "sequence": wire.sequence,
            "original_time": output::time(wire.time),
        },
        "unmapped": { "phase": wire.phase, "outcome": wire.outcome, "detail": record.detail },
        "raw_data": wire.line,
    });
    if !wire.operation_id.is_empty() {
        event["metadata"]["correlation_uid"] = json!(wire.operation_id);
    }
    let why = ["error", "denied"].iter().find_map(|field| record.detail.get(field));
    if let Some(Value::String(why)) = why {
        event["status_detail"] = json!(why);
    }
    event.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;

    fn event(phase: &str, outcome: &str, detail: &Value) -> Value {
        serde_json::from_str(&line(&record(phase, outcome, detail))).expect("JSON")
    }

    #[test]
    fn a_record_has_what_its_class_requires() {
        let event = event("result", "ok", &json!({ "name": "k" }));
        // As the schema has it for API Activity.
        for field in [
            "activity_id",
            "actor",
            "api",
            "category_uid",
            "class_uid",
            "metadata",
            "severity_id",
            "src_endpoint",
            "time",
            "type_uid",
        ] {
            assert!(!event[field].is_null(), "{field}: {event}");
        }
        assert_eq!(event["type_uid"], 600_304);
        assert_eq!(event["time"], 1_700_000_000_123_i64);
        assert_eq!(event["resources"], json!([{ "type": "key", "uid": "0190" }]));
        assert_eq!(event["metadata"]["correlation_uid"], "op-1");
        assert_eq!(event["unmapped"]["detail"]["name"], "k");
        assert_eq!(event["raw_data"], "{\"sequence\":7}");
    }

    #[test]
    fn how_it_went_is_severity_and_status() {
        for (phase, outcome, detail, severity, status, why) in [
            ("intent", "", json!({}), 1, 99, json!(null)),
            ("result", "ok", json!({}), 1, 1, json!(null)),
            ("result", "failed", json!({ "error": "no" }), 3, 2, json!("no")),
            ("result", "unknown", json!({}), 4, 0, json!(null)),
            ("event", "", json!({}), 1, 1, json!(null)),
            ("event", "", json!({ "denied": "no role" }), 4, 2, json!("no role")),
            ("result", "denied", json!({}), 4, 2, json!(null)),
        ] {
            let event = event(phase, outcome, &detail);
            let said = (&event["severity_id"], &event["status_id"], &event["status_detail"]);
            assert_eq!(said, (&json!(severity), &json!(status), &why), "{phase} {outcome}");
        }
    }

    #[test]
    fn what_only_this_vault_does_keeps_its_name() {
        assert_eq!(activity("key.sign.tls"), (99, "key.sign.tls"));
        assert_eq!(activity("backup.prune"), (4, "Delete"));
        assert_eq!(endpoint("vault:renewal"), "vaultd");
        assert_eq!(endpoint("local:0"), "admin socket");
        assert_eq!(endpoint("spiffe://a/agent/w"), "spiffe://a/agent/w");
    }
}
