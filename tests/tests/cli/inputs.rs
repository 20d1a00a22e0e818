//! Bad input: one clear error with a hint, exit code 2, and nothing changed.

use std::fs;

use testkit::{
    programs::must,
    vault::Vault,
    world::{CERTIFICATE, World},
};

use super::{
    scene::Scene,
    verbs::{PROGRAMS, bare, verbs},
};

/// Names that no file, label or SPIFFE id takes.
fn bad_names() -> Vec<String> {
    let bad = ["", "A", "Key", "a b", "../x", ".x", "_x", "a/b", "ü", "a\n", "*", "a:b", "a@b"];
    bad.iter().map(|name| (*name).to_owned()).chain(["a".repeat(64)]).collect()
}

#[test]
fn an_unknown_verb_or_option_is_bad_input() {
    for program in PROGRAMS {
        bare(program, &["no-such-verb"]).refused(2, "no-such-verb");
        bare(program, &["--no-such-option"]).refused(2, "--no-such-option");
        for words in verbs(program) {
            let mut args: Vec<_> = words.iter().map(String::as_str).collect();
            args.push("--no-such-option");
            bare(program, &args).refused(2, "--no-such-option");
        }
    }
    bare("vaultctl", &["key", "no-such-verb"]).refused(2, "no-such-verb");
    bare("vaultctl", &["-o", "yaml", "status"]).refused(2, "yaml");
}

#[test]
fn a_bad_name_is_refused_by_every_verb_that_takes_one() {
    let scene = Scene::new();
    let (input, out) = (scene.vault.path("message"), scene.vault.path("out"));
    let verbs: &[(&[&str], &[&str])] = &[
        (&["key", "generate"], &["--algorithm", "ec-p256"]),
        (&["key", "show"], &[]),
        (&["key", "public"], &[]),
        (&["key", "rotate"], &[]),
        (&["key", "destroy"], &["--yes"]),
        (
            &["key", "sign"],
            &["--input", &input, "--mechanism", "ecdsa-sha256", "--signature", &out],
        ),
        (&["account", "register"], &["--directory", "https://ca.example/", "--agree-tos"]),
        (&["account", "show"], &[]),
        (&["account", "rollover"], &[]),
        (&["account", "update"], &["--no-contact"]),
        (&["account", "agree"], &[]),
        (&["account", "deauthorize"], &["--domain", "a.example", "--yes"]),
        (&["account", "deactivate"], &["--yes"]),
        (
            &["cert", "issue"],
            &["--account", "ca", "--domain", "a.example", "--challenge", "http-01"],
        ),
        (&["cert", "show"], &[]),
        (&["cert", "update"], &["--rotate-key", "true"]),
        (&["cert", "renew"], &["--force"]),
        (&["cert", "revoke"], &["--reason", "superseded", "--yes"]),
        (&["cert", "delete"], &["--yes"]),
        (&["cert", "deploy"], &["--to", "web1"]),
        (&["cert", "undeploy"], &["--from", "web1"]),
        (&["cert", "deploy", "--to"], &["--", CERTIFICATE]),
        (&["cert", "rollout"], &["--resume"]),
        (&["agent", "token"], &[]),
        (&["agent", "show"], &[]),
        (&["agent", "evict"], &["--yes"]),
        (&["operator", "issue"], &["--out", &out]),
    ];
    let before = scene.everything();
    for name in bad_names() {
        for (verb, rest) in verbs {
            let args = [verb, &[name.as_str()][..], rest].concat();
            let ended = scene.vault.ctl(&args);
            assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
            ended.refused(2, "name");
        }
    }
    assert_eq!(scene.everything(), before);
    assert!(!scene.vault.file("out").join("key.pem").exists());
}

#[test]
fn a_key_that_cannot_be_is_not_generated() {
    let scene = Scene::new();
    let cases: &[(&[&str], &str)] = &[
        (&["--algorithm", "dsa"], "dsa"),
        (&["--algorithm", "rsa-1024"], "rsa-1024"),
        (&["--algorithm", "EC-P256"], "EC-P256"),
        (&["--algorithm", ""], "--algorithm"),
        (&[], "--algorithm"),
        (&["--algorithm", "ec-p256", "--escrow", "yes"], "yes"),
        (&["--algorithm", "ec-p256", "--escrow", "wrapped"], "this vault has no KEK"),
        (&["--algorithm", "ec-p256", "--label", "no-value"], "no-value"),
        (&["--algorithm", "ec-p256", "--label", "=x"], "=x"),
        (&["--algorithm", "ec-p256", "more"], "more"),
    ];
    for (rest, why) in cases {
        scene.refuse(&[&["key", "generate", "new"], *rest].concat(), 2, why);
    }
}

#[test]
fn what_cannot_be_signed_is_not_signed() {
    let scene = Scene::new();
    let vault = &scene.vault;
    fs::write(vault.file("long"), vec![b'x'; (1 << 20) + 1]).unwrap();
    fs::write(vault.file("very-long"), vec![b'x'; 5 << 20]).unwrap();
    let cases = [
        ("k", "missing", "ecdsa-sha256", "missing"),
        ("k", "tokens", "ecdsa-sha256", "tokens"),
        ("k", "long", "ecdsa-sha256", "1048576 bytes"),
        ("k", "very-long", "ecdsa-sha256", "error: "),
        ("k", "message", "sha1", "mechanism"),
        ("k", "message", "", "mechanism"),
        ("k", "message", "ECDSA-SHA256", "mechanism"),
        ("k", "message", "rsa-pss-sha256", "use ecdsa-sha256"),
        ("k", "message", "ed25519", "use ecdsa-sha256"),
        ("r", "message", "ecdsa-sha256", "use rsa-pkcs1-sha256"),
        ("r", "message", "ed25519", "use rsa-pkcs1-sha256"),
    ];
    let out = vault.path("out");
    let sign = |key: &str, input: &str, mechanism: &str| -> Vec<String> {
        let input = vault.path(input);
        let args = ["key", "sign", key, "--input", &input, "--mechanism", mechanism];
        args.iter().chain(&["--signature", out.as_str()]).map(|word| (*word).to_owned()).collect()
    };
    for (key, input, mechanism, why) in cases {
        let args = sign(key, input, mechanism);
        scene.refuse(&args.iter().map(String::as_str).collect::<Vec<_>>(), 2, why);
        assert!(!vault.file("out").exists(), "{args:?}");
    }
    // As long as it may be.
    fs::write(vault.file("longest"), vec![b'x'; 1 << 20]).unwrap();
    let args = sign("k", "longest", "ecdsa-sha256");
    vault.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let public = vault.path("public.pem");
    fs::write(&public, vault.ok(&["key", "public", "k"])).unwrap();
    let verify = ["dgst", "-sha256", "-verify", &public, "-signature", &out];
    must("openssl", &[&verify[..], &[&vault.path("longest")]].concat());
}

#[test]
fn a_request_that_no_ca_takes_is_not_signed() {
    let scene = Scene::new();
    let (payload, missing) = (scene.vault.path("message"), scene.vault.path("missing"));
    let sign = ["jws", "sign", "--account", "ca", "--url"];
    for url in ["", "no-url", "/path"] {
        scene.refuse(&[&sign[..], &[url, "--payload", &payload]].concat(), 2, "URL");
    }
    let url = "https://ca.example/x";
    scene.refuse(&[&sign[..], &[url, "--payload", &missing]].concat(), 2, "missing");
    scene.refuse(&[&sign[..], &[url]].concat(), 2, "--payload");
}

#[test]
fn an_account_that_cannot_be_is_not_registered() {
    let scene = Scene::new();
    let vault = &scene.vault;
    fs::write(vault.file("garbage"), "%%%").unwrap();
    let (directory, root) = (scene.pebble.directory(), scene.pebble.root().display().to_string());
    let (garbage, missing) = (vault.path("garbage"), vault.path("missing"));
    let good = ["--directory", &directory, "--ca-root", &root];
    let with = |more: &[&'static str]| -> Vec<String> {
        good.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let cases: Vec<(Vec<String>, &str)> = vec![
        (own(&["--agree-tos"]), "--directory"),
        (own(&["--directory", "no-url", "--agree-tos"]), "URL"),
        (own(&["--directory", "http://127.0.0.1:1/dir", "--agree-tos"]), "https://"),
        (own(&["--directory", "file:///etc/passwd", "--agree-tos"]), "https://"),
        (own(&["--directory", &directory, "--ca-root", &missing, "--agree-tos"]), "missing"),
        (own(&["--directory", &directory, "--ca-root", &garbage, "--agree-tos"]), "PEM"),
        (with(&[]), "--agree-tos"),
        (with(&["--agree-tos", "--contact", "ops at shop.example"]), "mailto:"),
        (with(&["--agree-tos", "--algorithm", "ed25519"]), "ec-p256"),
        (with(&["--agree-tos", "--algorithm", "dsa"]), "dsa"),
        (with(&["--agree-tos", "--eab-kid", "kid"]), "--eab-hmac-file"),
        (own(&["--directory", &directory, "--eab-hmac-file", &garbage]), "--eab-kid"),
        (
            own(&["--directory", &directory, "--eab-kid", "kid", "--eab-hmac-file", &garbage]),
            "base64url",
        ),
        (
            own(&["--directory", &directory, "--eab-kid", "kid", "--eab-hmac-file", &missing]),
            "missing",
        ),
    ];
    for (rest, why) in &cases {
        let rest: Vec<_> = rest.iter().map(String::as_str).collect();
        scene.refuse(&[&["account", "register", "new"], &rest[..]].concat(), 2, why);
    }
}

#[test]
fn a_certificate_that_can_never_be_issued_is_not_declared() {
    let scene = Scene::new();
    scene.vault.ok(&["agent", "token", "web2"]);
    let cases: &[(&[&str], &str)] = &[
        (&["--challenge", "http-01"], "nobody could answer"),
        (&["--challenge", "dns-01", "--deploy-to", "web1"], "no DNS is set up"),
        (&["--challenge", "tls-alpn-01"], "nobody could answer"),
        (&["--challenge", "email", "--deploy-to", "web1"], "email"),
        (&["--deploy-to", "web1"], "--challenge"),
        (&["--challenge", "http-01", "--custody", "escrow", "--deploy-to", "web1"], "escrow"),
        (&["--challenge", "http-01", "--custody", "agent"], "takes one agent"),
        (
            &["--challenge", "http-01", "--custody", "agent", "--deploy-to", "web1", "web2"],
            "takes one agent",
        ),
        (&["--challenge", "http-01", "--deploy-to", "web1", "--domain", "*.a.example"], "wildcard"),
        (&["--challenge", "http-01", "--deploy-to", "web1", "--algorithm", "dsa"], "dsa"),
        (&["--challenge", "http-01", "--deploy-to", "web1", "--canary", "web2"], "canary web2"),
        (&["--challenge", "http-01", "--deploy-to", "web1", "--wait-timeout", "soon"], "soon"),
    ];
    for (rest, why) in cases {
        let base = ["cert", "issue", "new", "--account", "ca", "--domain", "a.example"];
        scene.refuse(&[&base[..], *rest].concat(), 2, why);
    }
    // An agent's key is on one web server.
    scene.refuse(&["cert", "deploy", CERTIFICATE, "--to", "web2"], 2, "on the one web server");
    scene.refuse(&["cert", "deploy", CERTIFICATE], 2, "--to");
    scene.refuse(&["cert", "undeploy", CERTIFICATE], 2, "--from");
}

#[test]
fn a_certificate_is_revoked_for_a_known_reason() {
    let world = World::new();
    let issued = world.issue();
    for reason in ["", "because", "Superseded", "1", "certificate-hold", "ca-compromise"] {
        let args = ["cert", "revoke", CERTIFICATE, "--reason", reason, "--yes"];
        world.vault.ctl(&args).refused(2, "reason");
    }
    world.vault.ctl(&["cert", "revoke", CERTIFICATE, "--yes"]).refused(2, "--reason");
    assert_eq!(world.certificate(CERTIFICATE)["status"], "issued");
    let status = world.pebble.certificate_status(issued["serial"].as_str().unwrap());
    assert_eq!(status["Status"], "Valid");
}

#[test]
fn a_join_token_lives_from_a_second_to_a_week() {
    let scene = Scene::new();
    let token = |ttl: &str| ["agent", "token", "web9", "--ttl", ttl].map(str::to_owned);
    for ttl in ["0s", "0", "999ms", "", "-1h", "soon", "1", "8d", "604801s", "99999999999999y"] {
        // Behind `=`, so that what begins with a dash is no option.
        let option = format!("--ttl={ttl}");
        scene.refuse(&["agent", "token", "web9", &option], 2, "error: ");
    }
    for ttl in ["1s", "7d", "604800s"] {
        let token = token(ttl);
        scene.vault.ok(&token.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn an_audit_filter_that_means_nothing_is_bad_input() {
    let vault = Vault::initialized();
    for (option, value) in [
        ("--since", "yesterday"),
        ("--since", "2026-13-01T00:00:00Z"),
        ("--since", "99999999y"),
        ("--last", "many"),
        ("--last", "-1"),
    ] {
        for verb in ["query", "tail", "export"] {
            let option = format!("{option}={value}");
            vault.ctl(&["audit", verb, &option]).refused(2, value);
        }
    }
    vault.ctl(&["audit", "export", "--format", "xml"]).refused(2, "xml");
}

#[test]
fn a_ceremony_with_bad_custodians_leaves_the_vault_as_it_was() {
    let mut vault = Vault::new();
    vault.start();
    let recipient = || {
        let identity = must("age-keygen", &[]);
        let line = identity.lines().find_map(|line| line.strip_prefix("# public key: "));
        line.expect("a recipient").to_owned()
    };
    let (ops, security) = (format!("ops={}", recipient()), format!("security={}", recipient()));
    let dir = vault.path("shares");
    let two = ["--custodian", &ops, "--custodian", &security];
    let shares = ["--shares-dir", &dir];
    let quorum = |threshold| [&two[..], &shares, &["--threshold", threshold]].concat();
    let same = ["--custodian", &ops, "--custodian", &ops, "--threshold", "2"];
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (quorum("0"), "threshold"),
        (quorum("1"), "threshold"),
        (quorum("3"), "threshold"),
        (quorum("two"), "two"),
        ([&two[..], &shares].concat(), "--threshold"),
        ([&two[..], &["--threshold", "2"]].concat(), "--shares-dir"),
        ([&same[..], &shares].concat(), "ops"),
        ([&["--custodian", "ops"], &shares[..], &["--threshold", "2"]].concat(), "ops"),
        (vec!["--threshold", "2"], "--custodian"),
        (vec!["--operator", "ada"], "--operator-out"),
        (vec!["--operator-out", &dir], "--operator"),
        (vec!["--operator", "Ada", "--operator-out", &dir], "operator name"),
        (
            [
                &["--custodian", "ops=age1nonsense", "--custodian", &security][..],
                &shares,
                &["--threshold", "2"],
            ]
            .concat(),
            "ops",
        ),
    ];
    for (rest, why) in cases {
        let ended = vault.ctl(&[&["init"], &rest[..]].concat());
        assert_eq!(ended.code, 2, "{rest:?}: {ended:?}");
        ended.refused(2, why);
        assert_eq!(vault.json(&["status"])["initialized"], false, "{rest:?}");
        let tokens = fs::read_dir(vault.file("tokens")).unwrap().count();
        assert_eq!(tokens, 0, "{rest:?}: the token was touched");
    }
    let left = fs::read_dir(vault.file("shares")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a file was left behind");
    vault.ok(&[&["init"], &quorum("2")[..]].concat());
}

#[test]
fn every_fault_of_a_configuration_is_said_with_its_line() {
    let mut vault = Vault::new();
    vault.reconfigure("workers = 2", "workers = 0\ncolour = 1");
    vault.reconfigure("trust_domain = \"test.example\"", "trust_domain = \"Test\"");
    fs::write(vault.file("vault.toml"), &vault.config).unwrap();
    let file = vault.path("vault.toml");
    for args in [&["check-config", "--config", &file][..], &["run", "--config", &file]] {
        let ended = bare("vaultd", args);
        ended.refused(2, "colour");
        assert!(ended.stderr.contains("line "), "{ended:?}");
    }
    bare("vaultd", &["check-config", "--config", &vault.path("missing")]).refused(2, "missing");
    bare("vault-agent", &["check-config", "--config", &vault.path("missing")])
        .refused(2, "missing");
    fs::write(vault.file("agent.toml"), "state_dir = \"/x\"\ncolour = 1\n").unwrap();
    let file = vault.path("agent.toml");
    bare("vault-agent", &["check-config", "--config", &file]).refused(2, "colour");
    let good = Vault::new();
    fs::write(good.file("vault.toml"), &good.config).unwrap();
    let ended = bare("vaultd", &["check-config", "--config", &good.path("vault.toml")]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
}
