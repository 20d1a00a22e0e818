//! Exit codes, each by a real case, and what goes to stdout and to stderr.

use std::fs;

use testkit::{process::free_port, vault::Vault, world::CERTIFICATE};

use super::{
    scene::Scene,
    verbs::{bare, verbs},
};

#[test]
fn what_was_done_is_0_and_says_nothing_on_stderr() {
    let scene = Scene::new();
    let (vault, out) = (&scene.vault, scene.vault.path("out"));
    let input = vault.path("message");
    let calls: &[&[&str]] = &[
        &["status"],
        &["key", "list"],
        &["key", "show", "k"],
        &["key", "public", "k"],
        &["key", "rotate", "k"],
        &[
            "key",
            "sign",
            "k",
            "--input",
            &input,
            "--mechanism",
            "ecdsa-sha256",
            "--signature",
            &out,
        ],
        &["csr", "create", "--key", "k", "--domain", "a.example", "--out", &out],
        &["csr", "create", "--key", "k", "--domain", "a.example", "--out", "-"],
        &["jws", "sign", "--account", "ca", "--url", "https://ca.example/x", "--payload", &input],
        &["account", "list"],
        &["account", "show", "ca"],
        &["cert", "list"],
        &["cert", "show", CERTIFICATE],
        &["cert", "history", CERTIFICATE],
        &["agent", "list"],
        &["agent", "show", "web1"],
        &["audit", "query"],
        &["audit", "tail"],
        &["audit", "verify"],
        &["audit", "export"],
    ];
    let silent = |call: &[&str]| call.contains(&out.as_str());
    for call in calls {
        for format in ["table", "json"] {
            let args = [&["--output", format][..], call].concat();
            let ended = vault.ctl(&args);
            assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{args:?}: {ended:?}");
            // What goes into a file does not go to stdout besides.
            assert_eq!(ended.stdout.is_empty(), silent(call), "{args:?}: {ended:?}");
            assert!(!ended.stdout.contains('\x1b'), "{args:?}: {ended:?}");
        }
    }
}

#[test]
fn what_its_state_forbids_is_1() {
    let scene = Scene::new();
    let cases: &[(&[&str], &str)] = &[
        (&["init"], "it is initialised already"),
        (&["key", "generate", "k", "--algorithm", "ec-p256"], "the name is in use"),
        (&["cert", "revoke", CERTIFICATE, "--reason", "superseded", "--yes"], "it is pending"),
        (&["cert", "delete", CERTIFICATE, "--yes"], "it is deployed"),
        (&["account", "deactivate", "ca", "--yes"], "is ordered with it"),
    ];
    for (args, why) in cases {
        scene.refuse(args, 1, why);
    }
}

#[test]
fn what_is_not_there_is_3() {
    let scene = Scene::new();
    let (input, out) = (scene.vault.path("message"), scene.vault.path("out"));
    let sign = ["key", "sign", "no", "--input", &input, "--mechanism", "ecdsa-sha256"];
    let sign = [&sign[..], &["--signature", &out]].concat();
    let cases: &[&[&str]] = &[
        &["key", "show", "no"],
        &["key", "public", "no"],
        &["key", "rotate", "no"],
        &["key", "destroy", "no", "--yes"],
        &sign,
        &["csr", "create", "--key", "no", "--domain", "a.example", "--out", &out],
        &["jws", "sign", "--account", "no", "--url", "https://ca.example/x", "--payload", &input],
        &["account", "show", "no"],
        &["account", "rollover", "no"],
        &["account", "deactivate", "no", "--yes"],
        &["cert", "show", "no"],
        &["cert", "chain", "no"],
        &["cert", "history", "no"],
        &["cert", "update", "no", "--rotate-key", "true"],
        &["cert", "renew", "no", "--force"],
        &["cert", "revoke", "no", "--reason", "superseded", "--yes"],
        &["cert", "delete", "no", "--yes"],
        &["cert", "deploy", "no", "--to", "web1"],
        &["cert", "undeploy", "no", "--from", "web1"],
        &["cert", "rollout", "no"],
        &["cert", "rollout", "no", "--resume"],
        &["cert", "undeploy", CERTIFICATE, "--from", "no"],
        &["cert", "chain", CERTIFICATE],
        &["agent", "show", "no"],
        &["agent", "update", "no", "--no-window"],
        &["agent", "evict", "no", "--yes"],
    ];
    for args in cases {
        scene.refuse(args, 3, "error: ");
    }
    let order = |account, agent| {
        let args = ["cert", "issue", "new", "--account", account, "--domain", "a.example"];
        [&args[..], &["--challenge", "http-01", "--deploy-to", agent]].concat()
    };
    scene.refuse(&order("no", "web1"), 3, "account no");
    scene.refuse(&order("ca", "no"), 3, "agent no");
    assert!(!scene.vault.file("out").exists());
}

#[test]
fn the_vault_s_own_keys_are_nobody_s_to_use_or_end() {
    let scene = Scene::new();
    let (input, out) = (scene.vault.path("message"), scene.vault.path("out"));
    for key in ["root", "ca"] {
        // Only keys that operators generated are theirs to rotate and destroy.
        scene.refuse(&["key", "rotate", key], 3, key);
        scene.refuse(&["key", "destroy", key, "--yes"], 3, key);
        let sign = ["key", "sign", key, "--input", &input, "--mechanism", "ecdsa-sha256"];
        scene.refuse(&[&sign[..], &["--signature", &out]].concat(), 4, "does not sign this");
        let csr = ["csr", "create", "--key", key, "--domain", "a.example", "--out", &out];
        scene.refuse(&csr, 4, "does not sign this");
    }
    assert!(!scene.vault.file("out").exists());
}

#[test]
fn a_vault_that_is_not_there_is_6_for_every_verb_that_asks_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (message, nowhere, out) = (at("message"), at("nowhere.sock"), at("out"));
    fs::write(&message, "m").unwrap();
    let local = ["completions", "man"];
    let mut asked = 0;
    let offline =
        ["kek install", "kek verify-transcript", "backup verify", "backup restore", "drill verify"];
    let asks = |words: &&Vec<String>| {
        !local.contains(&words[0].as_str()) && !offline.contains(&words.join(" ").as_str())
    };
    for words in verbs("vaultctl").iter().filter(asks) {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let rest: &[&str] = match words.join(" ").as_str() {
            "init" | "status" | "cert plan" | "fleet rehearse" => &[],
            "shares" => &["--shares-dir", &out],
            "kek show" => &[],
            "backup create" => &["--out", &out],
            "backup fetch" => &["x", "--out", &out],
            "backup run" => &[],
            "backup prune" => &["--yes"],
            "drill run" => &["--identity", "x"],
            "kek rotate" => &["--custodian", "x=y", "--threshold", "1", "--shares-dir", &out],
            "kek reshare" => {
                let share = ["--share", "x", "--threshold", "1"];
                &[&share[..], &["--custodian", "x=y", "--shares-dir", &out]].concat()
            }
            "key generate" => &["k", "--algorithm", "ec-p256"],
            "key destroy" | "cert delete" | "agent evict" | "account deactivate" => &["x", "--yes"],
            "key sign" => {
                &["k", "--input", &message, "--mechanism", "ecdsa-sha256", "--signature", &out]
            }
            "csr create" => &["--key", "k", "--domain", "a.example", "--out", &out],
            "jws sign" => &["--account", "a", "--url", "https://x/", "--payload", &message],
            "account update" => &["x", "--no-contact"],
            "agent update" => &["x", "--no-window"],
            "account deauthorize" => &["x", "--domain", "a.example", "--yes"],
            "account register" => &["a", "--directory", "https://x/", "--agree-tos"],
            "cert issue" => {
                &["x", "--account", "a", "--domain", "a.example", "--challenge", "http-01"]
            }
            "cert revoke" => &["x", "--reason", "superseded", "--yes"],
            "cert update" => &["x", "--rotate-key", "true"],
            "cert deploy" => &["x", "--to", "y"],
            "cert undeploy" => &["x", "--from", "y"],
            "operator issue" => &["ada", "--out", &out],
            verb if verb.ends_with("list") || verb.starts_with("audit") => &[],
            _ => &["x"],
        };
        let args = [&["--socket", &nowhere], &words[..], rest].concat();
        let ended = bare("vaultctl", &args);
        assert_eq!((ended.code, ended.stdout.as_str()), (6, ""), "{args:?}: {ended:?}");
        ended.refused(6, &format!("connect failed on socket {nowhere}"));
        asked += 1;
    }
    assert!(asked > 30, "{asked}");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["message"], "nothing is made for a vault that is not there");
}

#[test]
fn a_vault_that_is_not_initialised_yet_is_6() {
    let mut vault = Vault::new();
    vault.start();
    for args in [&["key", "generate", "k", "--algorithm", "ec-p256"][..], &["cert", "list"]] {
        vault.ctl(args).refused(6, "it is not initialised");
    }
    assert_eq!(vault.json(&["status"])["initialized"], false);
}

#[test]
fn a_ca_that_is_not_there_is_6() {
    let scene = Scene::new();
    let directory = format!("https://127.0.0.1:{}/dir", free_port());
    let register = ["account", "register", "new", "--directory", &directory, "--agree-tos"];
    let ended = scene.vault.ctl(&register);
    ended.refused(6, "CA 127.0.0.1");
    assert_eq!(scene.vault.json(&["account", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_log_that_was_tampered_with_is_7() {
    let mut vault = Vault::initialized();
    vault.ok(&["audit", "verify"]);
    let log = vault.file("audit.log");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("key.generate", "key.destroyed", 1)).unwrap();
    let ended = vault.ctl(&["-o", "json", "audit", "verify"]);
    ended.refused(7, "verify failed on the audit log");
    assert_eq!(ended.json()["ok"], false);
    vault.kill();
}
