//! Drills on record: who may say so, what the vault takes for true, what it shows.

use serde_json::{Value, json};
use testkit::{grpc, programs::run, vault::Vault};
use tonic::Code;
use vault_proto::v1::{self, drill_service_client::DrillServiceClient};

use super::scene::{Scene, check};

/// Records of one action.
fn of(vault: &Vault, action: &str) -> Vec<Value> {
    vault.audit().into_iter().filter(|record| record["action"] == action).collect()
}

#[test]
fn a_drill_is_recorded_signed_and_shown() {
    let scene = Scene::new();
    let (vault, file) = (scene.vault(), scene.backup("b.age"));
    assert!(vault.json(&["status"])["last_drill"].is_null());
    let said = scene.drill(&file, "report").json();
    let id = said["id"].as_str().unwrap();
    let listed = vault.json(&["drill", "list"]);
    let shown = vault.json(&["drill", "show", id]);
    assert_eq!(listed, json!([shown]));
    assert_eq!((&shown["id"], &shown["ok"]), (&said["id"], &true.into()));
    assert_eq!(shown["backup_sha256"], said["backup_sha256"]);
    assert_eq!(shown["checks"].as_array().unwrap().len(), 9);
    let [intent, result] = of(vault, "drill.record").try_into().unwrap();
    assert_eq!(intent["detail"]["backup"], said["backup_sha256"]);
    assert_eq!((&intent["detail"]["ok"], &result["outcome"]), (&true.into(), &"ok".into()));
    let [signed, _] = of(vault, "key.sign.drill").try_into().unwrap();
    assert_eq!(
        (&signed["principal"], &signed["detail"]["context"]["drill"]),
        (&"vault:drill".into(), &said["id"])
    );
    let status = vault.json(&["status"]);
    assert_eq!(
        (&status["last_drill"]["id"], &status["last_drill"]["ok"]),
        (&said["id"], &true.into())
    );
    assert_eq!(status["last_proven_backup"]["sha256"], said["backup_sha256"]);
    assert!(status["last_drill"]["age_seconds"].is_number(), "{status}");
    vault
        .ctl(&["drill", "show", &said["backup_sha256"].as_str().unwrap()[..36]])
        .refused(2, "drill id");
    vault
        .ctl(&["drill", "show", "01977777-7777-7777-7777-777777777777"])
        .refused(3, "no such drill");
}

#[test]
fn a_drill_that_proves_less_stands_beside_the_last_proven_one() {
    let scene = Scene::new();
    let proven = scene.drill(&scene.backup("b.age"), "first").json();
    let later = scene.backup("c.age");
    let mut words = scene.words(&later, "second");
    words.truncate(words.len() - 4);
    let ended = run(scene.command(&words));
    ended.refused(7, "kek");
    let status = scene.vault().json(&["status"]);
    assert_eq!(status["last_drill"]["ok"], false);
    assert_eq!(status["last_drill"]["id"], ended.json()["id"]);
    assert_eq!(status["last_proven_backup"]["drill_id"], proven["id"]);
}

#[test]
fn operators_record_drills_and_auditors_see_them() {
    let scene = Scene::new();
    let (vault, file) = (scene.vault(), scene.backup("b.age"));
    let (ada, eve) = (vault.issue("ada", "operator"), vault.issue("eve", "auditor"));
    let drill = |who: &std::path::Path, report: &str| {
        let words = scene.words(&file, report);
        let words = words.iter().map(String::as_str);
        vault.ctl_as(
            who,
            &["-o", "json", "drill", "run"].into_iter().chain(words).collect::<Vec<_>>(),
        )
    };
    assert_eq!(drill(&ada, "ada").code, 0);
    drill(&eve, "eve").refused(4, "auditor/eve");
    let seen = vault.ctl_as(&eve, &["-o", "json", "drill", "list"]).json();
    assert_eq!(seen.as_array().unwrap().len(), 1);
    assert_eq!(seen[0]["recorded_by"], "spiffe://test.example/operator/ada");
    assert!(vault.file("eve/report.json").exists() || vault.file("eve/report.html").exists());
}

#[test]
fn a_vault_that_is_away_does_not_refute_a_backup_and_has_no_record_of_the_drill() {
    let mut scene = Scene::new();
    let file = scene.backup("b.age");
    scene.escrowed.vault.stop();
    let ended = scene.drill(&file, "report");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("the drill is not recorded"), "{ended:?}");
    let said = ended.json();
    assert_eq!((&said["ok"], &said["recorded"]), (&true.into(), &false.into()));
    assert_eq!(check(&said, "record").0, "not-asked");
    assert!(!scene.vault().file("report/report.sig.json").exists());
    let none = run(scene.command(&scene.quorum()));
    none.refused(6, "admin.sock");
    scene.escrowed.vault.start();
    assert!(scene.vault().json(&["drill", "list"]).as_array().unwrap().is_empty());
}

#[test]
fn a_vault_that_dies_while_it_records_has_no_half_of_it_and_the_report_stays() {
    let mut scene = Scene::new();
    let file = scene.backup("b.age");
    let vault = &mut scene.escrowed.vault;
    vault.kill();
    vault.environment = vec![("FAILPOINTS".to_owned(), "drill.signed=return".to_owned())];
    vault.start();
    let ended = scene.drill(&file, "report");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("the drill is not recorded"), "{ended:?}");
    assert_eq!(ended.json()["recorded"], false);
    assert!(scene.vault().file("report/report.html").exists());
    let vault = &mut scene.escrowed.vault;
    assert!(!vault.process().wait_exit().success());
    vault.environment.clear();
    vault.start();
    assert!(scene.vault().json(&["drill", "list"]).as_array().unwrap().is_empty());
    assert!(scene.vault().open_operations().is_empty(), "the start has not settled it");
    assert_eq!(scene.drill(&file, "again").json()["recorded"], true);
}

#[test]
fn a_backup_that_another_vault_has_made_is_not_proven_for_this_one() {
    let (scene, other) = (Scene::new(), Scene::new());
    let file = other.backup("b.age");
    let mut words = vec![file.display().to_string()];
    words.extend(other.quorum());
    let ended = run(scene.command(&words));
    ended.refused(7, "not proven: record");
    let offline = [&words[..], &["--offline".to_owned()]].concat();
    assert_eq!(run(scene.command(&offline)).code, 0);
}

/// What `vaultctl drill run` would tell of a backup that is proven.
fn request(made: &Value) -> v1::RecordDrillRequest {
    let count = |name: &str| made["counts"][name].as_u64().unwrap();
    let at = time::OffsetDateTime::parse(
        made["created_at"].as_str().unwrap(),
        &time::format_description::well_known::Rfc3339,
    );
    let at = at.unwrap();
    let nanos = i32::try_from(at.nanosecond()).unwrap();
    let at = prost_types::Timestamp { seconds: at.unix_timestamp(), nanos };
    let check = v1::DrillCheck { name: "keys".into(), status: "ok".into(), detail: String::new() };
    v1::RecordDrillRequest {
        drill: Some(v1::Drill {
            id: uuid(),
            started_at: Some(at),
            backup_created_at: Some(at),
            backup_sha256: made["sha256"].as_str().unwrap().to_owned(),
            ok: true,
            checks: vec![check],
            keys_proven: count("keys_wrapped"),
            report_json_sha256: "a".repeat(64),
            report_html_sha256: "b".repeat(64),
            ..v1::Drill::default()
        }),
        counts: Some(v1::BackupCounts {
            keys_wrapped: count("keys_wrapped"),
            keys_not_escrowed: count("keys_not_escrowed"),
            keys_gone: count("keys_gone"),
            settings: 1,
            accounts: count("accounts"),
            agents: count("agents"),
            identities: count("identities"),
            certificates: count("certificates"),
            versions: count("versions"),
            orders: count("orders"),
            deployments: count("deployments"),
            audit_records: count("audit_records"),
        }),
        audit_sequence: made["audit_sequence"].as_u64().unwrap(),
        audit_head: made["audit_head"].as_str().unwrap().to_owned(),
    }
}

fn uuid() -> String {
    vault_proto::ids::DrillId::random().to_string()
}

type Change = fn(&mut v1::Drill, &mut v1::BackupCounts);

#[test]
fn the_vault_takes_no_proof_that_is_not_of_its_own_backup_and_no_nonsense() {
    let scene = Scene::new();
    let (made, _) = scene.escrowed.backup("b.age");
    let socket = scene.vault().file("admin.sock");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut good = request(&made);
    let settings = {
        let unpacked = scene.escrowed.unpack(&scene.vault().file("b.age"));
        testkit::escrow::rows(&unpacked, "settings").len() as u64
    };
    good.counts.as_mut().unwrap().settings = settings;
    let changes: [(&str, Code, Change); 12] = [
        ("no backup with this", Code::DataLoss, |drill, _| drill.backup_sha256 = "c".repeat(64)),
        ("counts are not those", Code::DataLoss, |_, counts| counts.certificates += 1),
        ("another number of keys", Code::DataLoss, |drill, _| drill.keys_proven -= 1),
        ("of another time", Code::DataLoss, |drill, _| {
            drill.backup_created_at.as_mut().unwrap().seconds -= 1
        }),
        ("is none", Code::InvalidArgument, |drill, _| drill.report_html_sha256 = "x".repeat(64)),
        ("not that of its checks", Code::InvalidArgument, |drill, _| {
            drill.checks[0].status = "failed".into()
        }),
        ("not that of its checks", Code::InvalidArgument, |drill, _| drill.ok = false),
        ("status is not known", Code::InvalidArgument, |drill, _| {
            drill.checks[0].status = "fine".into()
        }),
        ("none or too many", Code::InvalidArgument, |drill, _| drill.checks.clear()),
        ("says too much", Code::InvalidArgument, |drill, _| {
            drill.checks[0].detail = "x".repeat(5000)
        }),
        ("in the future", Code::InvalidArgument, |drill, _| {
            drill.started_at.as_mut().unwrap().seconds += 3600
        }),
        ("take so long", Code::InvalidArgument, |drill, _| drill.rto_milliseconds = u64::MAX),
    ];
    runtime.block_on(async {
        let mut client = DrillServiceClient::new(grpc::local(&socket).await.unwrap());
        for (why, code, change) in changes {
            let mut asked = good.clone();
            change(asked.drill.as_mut().unwrap(), asked.counts.as_mut().unwrap());
            let status = client.record_drill(asked).await.unwrap_err();
            assert_eq!(status.code(), code, "{why}: {status:?}");
            assert!(status.message().contains(why), "{why}: {status:?}");
        }
        client.record_drill(good.clone()).await.unwrap();
        let twice = client.record_drill(good).await.unwrap_err();
        assert!(twice.message().contains("on record already"), "{twice:?}");
    });
    assert_eq!(scene.vault().json(&["drill", "list"]).as_array().unwrap().len(), 1);
    assert!(scene.vault().open_operations().is_empty());
}
