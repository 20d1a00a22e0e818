//! The audit log in the forms that other programs read: nothing is left out, and the lines are the log's own.

use std::fs;

use serde_json::Value;
use testkit::vault::Vault;

/// A vault in whose log there is what was done, what was denied, and signatures.
fn busy() -> Vault {
    let vault = Vault::initialized();
    vault.ok(&["key", "generate", "shop", "--algorithm", "ec-p256"]);
    fs::write(vault.file("message"), "hello").unwrap();
    let (input, signature) = (vault.path("message"), vault.path("signature"));
    let sign = ["key", "sign", "shop", "--input", &input, "--signature", &signature, "--mechanism"];
    vault.ok(&[&sign[..], &["ecdsa-sha256"]].concat());
    let reader = vault.issue("eve", "auditor");
    assert_eq!(vault.ctl_as(&reader, &["key", "destroy", "shop", "--yes"]).code, 4);
    vault.ok(&["key", "destroy", "shop", "--yes"]);
    vault
}

/// The log's lines, each with what is exported of it in a form.
fn exported(vault: &Vault, form: &str) -> Vec<(String, String)> {
    let text = vault.ok(&["audit", "export", "--format", form]);
    let events: Vec<_> = text.lines().map(str::to_owned).collect();
    let log = fs::read_to_string(vault.file("audit.log")).unwrap();
    assert_eq!(events.len(), log.lines().count());
    log.lines().map(str::to_owned).zip(events).collect()
}

#[test]
fn an_export_of_all_is_the_log_and_is_verified_as_such() {
    let vault = busy();
    let exported = vault.ok(&["audit", "export"]);
    assert_eq!(exported, fs::read_to_string(vault.file("audit.log")).unwrap());
    fs::write(vault.file("exported"), &exported).unwrap();
    let verified = vault.json(&["audit", "verify", &vault.path("exported")]);
    assert_eq!(verified["ok"], true);
    assert_eq!(verified["records"], exported.lines().count());
}

#[test]
fn each_record_is_one_event_of_ocsf_which_has_the_record_in_it() {
    let vault = busy();
    let mut high = Vec::new();
    for (line, event) in exported(&vault, "ocsf") {
        let event: Value = serde_json::from_str(&event).unwrap();
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["raw_data"], line);
        assert_eq!(event["metadata"]["sequence"], record["sequence"]);
        assert_eq!(event["metadata"]["original_time"], record["time"]);
        assert_eq!(event["actor"]["user"]["name"], record["principal"]);
        assert_eq!(event["api"]["operation"], record["action"]);
        assert_eq!(event["unmapped"]["detail"], record["detail"]);
        if event["severity"] == "High" {
            high.push(event);
        }
    }
    // What nobody may overlook is said in the words of the schema.
    assert_eq!(high.len(), 1, "{high:#?}");
    assert_eq!(
        (&high[0]["status"], &high[0]["api"]["operation"]),
        (&"Failure".into(), &"key.destroy".into())
    );
    assert!(
        high[0]["actor"]["user"]["name"].as_str().unwrap().ends_with("/auditor/eve"),
        "{high:#?}"
    );
}

#[test]
fn each_record_is_one_line_of_cef() {
    let vault = busy();
    for (line, event) in exported(&vault, "cef") {
        let record: Value = serde_json::from_str(&line).unwrap();
        let action = record["action"].as_str().unwrap();
        let header: Vec<_> = event.splitn(8, '|').collect();
        assert_eq!((header[..3].join("|").as_str(), header[4]), ("CEF:0|keyvault|vaultd", action));
        let number = format!(" externalId={} ", record["sequence"]);
        assert!(header[7].contains(&number), "{event}");
    }
    let last =
        vault.ok(&["audit", "export", "--format", "cef", "--action", "key.destroy", "--last", "1"]);
    assert!(last.lines().count() == 1 && last.contains(": ok|3|"), "{last}");
}
