//! JSON for programs: one object or one array, whose fields keep to the same few rules.

use serde_json::Value;
use testkit::{
    custodians::Custodian,
    programs::run,
    vault::Vault,
    world::{CERTIFICATE, World},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Fields whose own fields are named by people.
const FREE: &[&str] = &["labels"];

/// Checks every field below `value`, whose name is `name`.
fn check(path: &str, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                let good =
                    key.starts_with(|c: char| c.is_ascii_lowercase()) && key.chars().all(snake);
                assert!(good || FREE.contains(&name), "{path}.{key} is not snake_case");
                check(&format!("{path}.{key}"), key, value);
            }
        }
        Value::Array(items) => {
            for item in items {
                check(&format!("{path}[]"), name, item);
            }
        }
        value => check_plain(path, name, value),
    }
}

fn check_plain(path: &str, name: &str, value: &Value) {
    let is_time = ["_at", "not_before", "not_after"].iter().any(|end| name.ends_with(end));
    if is_time || name == "time" {
        let Some(text) = value.as_str() else {
            return assert!(value.is_null(), "{path} is {value}: neither a time nor null");
        };
        let parsed = OffsetDateTime::parse(text, &Rfc3339);
        let utc = parsed.is_ok_and(|at| at.offset().is_utc()) && text.ends_with('Z');
        assert!(utc, "{path} is {text}: not RFC 3339 in UTC");
    }
    if name == "id" || name.ends_with("_id") || ["serial", "fingerprint"].contains(&name) {
        assert!(value.is_string(), "{path} is {value}: an id is a string");
    }
    let duration = ["duration", "ttl", "lifetime", "timeout", "age", "retry_after"];
    assert!(!duration.contains(&name), "{path}: a duration says its unit");
    if name.ends_with("_seconds") {
        assert!(value.is_number(), "{path} is {value}: a duration is a number of seconds");
    }
}

#[derive(PartialEq)]
enum Shape {
    One,
    List,
}

fn look(vault: &Vault, shape: &Shape, args: &[&str]) -> Value {
    let ended = vault.ctl(&[&["-o", "json"], args].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{args:?}: {ended:?}");
    // Parsed as a whole: nothing stands before it or behind it.
    let value = ended.json();
    let right = match shape {
        Shape::One => value.is_object(),
        Shape::List => value.is_array(),
    };
    assert!(right, "{args:?}: {value}");
    check(&args.join(" "), "", &value);
    value
}

#[test]
fn every_answer_keeps_to_the_rules_of_json() {
    let world = World::new();
    let vault = &world.vault;
    let changes: &[&[&str]] = &[
        &["key", "generate", "k", "--algorithm", "ec-p256", "--label", "Some Label=x"],
        &["key", "rotate", "k"],
        &["account", "rollover", "ca"],
        &["agent", "token", "web2"],
        &["key", "destroy", "k", "--yes"],
    ];
    for args in changes {
        look(vault, &Shape::One, args);
    }
    let issued = world.issue();
    check("cert issue", "", &issued);
    let renewed = vault.json(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
    check("cert renew", "", &renewed);
    for args in [
        &["status"][..],
        &["key", "show", "ca"],
        &["account", "show", "ca"],
        &["cert", "show", CERTIFICATE],
        &["agent", "show", "web1"],
        &["audit", "verify"],
        &["cert", "renew", CERTIFICATE, "--force"],
        &["agent", "evict", "web2", "--yes"],
    ] {
        look(vault, &Shape::One, args);
    }
    for (args, least) in [
        (&["key", "list"][..], 3),
        (&["account", "list"], 1),
        (&["cert", "list"], 1),
        (&["cert", "history", CERTIFICATE], 2),
        (&["agent", "list"], 2),
        (&["audit", "query"], 10),
        (&["audit", "query", "--action", "no.such.action"], 0),
        (&["audit", "tail", "--last", "3"], 3),
    ] {
        let list = look(vault, &Shape::List, args);
        assert!(list.as_array().unwrap().len() >= least, "{args:?}: {list}");
    }
    check("vault-agent status", "", &world.agent.status());
    let keeper = Custodian::new(vault.dir(), "keeper");
    let (out, identity) = (vault.path("b.age"), keeper.identity.display().to_string());
    // That some keys are not in it is for people, on stderr.
    let made = vault.json(&["backup", "create", "--out", &out, "--recipient", &keeper.recipient]);
    check("backup create", "", &made);
    look(vault, &Shape::One, &["backup", "verify", &out, "--identity", &identity]);
    // Without a KEK nothing of it is proven; it is said by the same rules.
    let drill = ["-o", "json", "drill", "run", &out, "--identity", &identity, "--report"];
    let drill = vault.ctl(&[&drill[..], &[&vault.path("report")]].concat());
    assert_eq!(drill.code, 7, "{drill:?}");
    check("drill run", "", &drill.json());
    let listed = look(vault, &Shape::List, &["drill", "list"]);
    look(vault, &Shape::One, &["drill", "show", listed[0]["id"].as_str().unwrap()]);
    // Line by line as they stand in the log: each line is one object.
    for line in vault.ok(&["audit", "export"]).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!(record.is_object(), "{line}");
        check("audit export", "", &record);
    }
}

#[test]
fn the_ceremony_and_what_follows_answer_by_the_same_rules() {
    let mut vault = Vault::new();
    vault.start();
    look(&vault, &Shape::One, &["status"]);
    let (ada, eve) = (vault.path("ada"), vault.path("eve"));
    // The profile that it shows is for people, on stderr.
    let init = ["-o", "json", "init", "--operator", "ada", "--operator-out", &ada];
    let ended = vault.ctl(&init);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("[profile.ada]"), "{ended:?}");
    let made = ended.json();
    check("init", "", &made);
    assert_eq!(made["escrow"], "none");
    let issued = vault.json(&["operator", "issue", "eve", "--role", "auditor", "--out", &eve]);
    check("operator issue", "", &issued);
    assert_eq!(issued["spiffe_id"], "spiffe://test.example/auditor/eve");
    for list in ["key", "account", "cert", "agent"] {
        look(&vault, &Shape::List, &[list, "list"]);
    }
}

#[test]
fn tables_are_for_people_with_a_header_and_no_json() {
    let world = World::new();
    world.issue();
    for (args, header, row) in [
        (&["key", "list"][..], "NAME", "root"),
        (&["account", "list"], "NAME", "ca"),
        (&["cert", "list"], "NAME", "shop.example"),
        (&["cert", "history", CERTIFICATE], "VERSION", "1"),
        (&["agent", "list"], "NAME", "web1"),
        (&["audit", "query"], "NUMBER", "key.generate"),
        (&["audit", "tail"], "NUMBER", "intent"),
    ] {
        let shown = world.vault.ok(args);
        let mut lines = shown.lines();
        assert!(lines.next().unwrap().trim_start().starts_with(header), "{args:?}: {shown}");
        assert!(lines.any(|line| line.contains(row)), "{args:?}: {shown}");
    }
    let one = world.vault.ok(&["cert", "show", CERTIFICATE]);
    assert!(one.lines().any(|line| line.split_whitespace().eq(["name", CERTIFICATE])), "{one}");
    assert!(one.lines().any(|line| line.split_whitespace().eq(["deployments"])), "{one}");
    assert!(one.contains("HELD VERSION"), "{one}");
    let status = run(world.agent.command(&["status"]));
    assert_eq!((status.code, status.stderr.as_str()), (0, ""), "{status:?}");
    assert!(status.stdout.contains(CERTIFICATE) && !status.stdout.contains('{'), "{status:?}");
}
