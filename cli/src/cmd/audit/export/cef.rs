//! Common Event Format, version 0 (ArcSight's implementation standard, revision 25).

use super::{Course, PRODUCT, Record, VENDOR, VERSION};

/// From 0, nothing to see, to 10.
fn severity(course: Course) -> u8 {
    match course {
        Course::Intended | Course::Done => 3,
        Course::Failed => 6,
        Course::Unknown => 7,
        Course::Denied => 8,
    }
}

/// A field of the header: what would end it is escaped, and a line break is none.
fn header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// A value of the extension: what would end it or begin the next is escaped.
fn value(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('=', "\\=");
    text.replace('\r', "\\r").replace('\n', "\\n")
}

/// A record as one line.
pub(super) fn line(record: &Record) -> String {
    let wire = &record.wire;
    let head = [VENDOR, PRODUCT, VERSION, &wire.action, &record.title()].map(header).join("|");
    let (time, number) = (record.milliseconds().to_string(), wire.sequence.to_string());
    let fields = [
        ("rt", time.as_str()),
        ("externalId", &number),
        ("cat", &wire.phase),
        ("suser", &wire.principal),
        ("act", &wire.action),
        ("outcome", &wire.outcome),
        ("cs1Label", "resource"),
        ("cs1", &wire.resource),
        ("cs2Label", "operation"),
        ("cs2", &wire.operation_id),
        ("cs3Label", "detail"),
        ("cs3", &wire.detail_json),
    ];
    let fields = fields.into_iter().filter(|(_, text)| !text.is_empty());
    let fields: Vec<_> = fields.map(|(key, text)| format!("{key}={}", value(text))).collect();
    format!("CEF:0|{head}|{}|{}", severity(record.course), fields.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record;
    use super::*;

    #[test]
    fn a_record_is_one_line_of_header_and_fields() {
        let expected = format!(
            "CEF:0|keyvault|vaultd|{VERSION}|key.destroy|key.destroy on key/0190: ok|3|\
             rt=1700000000123 externalId=7 cat=result suser=spiffe://example.org/operator/ada \
             act=key.destroy outcome=ok cs1Label=resource cs1=key/0190 cs2Label=operation cs2=op-1 \
             cs3Label=detail cs3={{}}"
        );
        assert_eq!(line(&record("result", "ok", &json!({}))), expected);
        let intent = line(&record("intent", "", &json!({})));
        assert!(intent.contains(": intent|3|") && !intent.contains("outcome"), "{intent}");
    }

    #[test]
    fn what_would_end_a_field_is_escaped() {
        let mut record = record("event", "", &json!({ "denied": "a=b\nc\\d" }));
        record.wire.action = "key|sign\nx".to_owned();
        let line = line(&record);
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains("|key\\|sign x|") && line.contains("|8|"), "{line}");
        assert!(line.contains(r"act=key|sign\nx"), "{line}");
        // JSON has escaped it once.
        assert!(line.ends_with(r#"cs3={"denied":"a\=b\\nc\\\\d"}"#), "{line}");
    }
}
