//! How the vault is found: the socket, a profile, the environment; and who that makes the caller.

use std::{ffi::OsString, fs, path::PathBuf, process::Command};

use testkit::{
    process::free_port,
    programs::{Ended, ours, run},
    vault::Vault,
};

/// Variables and their values.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// A vault, an operator and an auditor, and a configuration with a profile for each.
struct People {
    vault: Vault,
}

impl People {
    fn new() -> Self {
        let vault = Vault::initialized();
        for (name, role) in [("ada", "operator"), ("eve", "auditor")] {
            let out = vault.path(name);
            vault.ok(&["operator", "issue", name, "--role", role, "--out", &out]);
        }
        let profile = |name: &str, address: &str| {
            format!(
                "[profile.{name}]\naddress = \"{address}\"\nca = \"{name}/ca.pem\"\n\
                 cert = \"{name}/cert.pem\"\nkey = \"{name}/key.pem\"\n"
            )
        };
        let address = vault.address.to_string();
        let text = [profile("ada", &address), profile("eve", &address)].concat();
        fs::write(vault.file("config.toml"), text).unwrap();
        Self { vault }
    }

    /// `vaultctl` with these variables and no others of its own.
    fn run(&self, variables: Variables, args: &[&str]) -> Ended {
        let mut command = Command::new(ours("vaultctl"));
        command.env_clear().current_dir(self.vault.dir());
        command.env("HOME", self.vault.path("home"));
        command.envs(variables.iter().map(|(name, value)| (*name, OsString::from(value))));
        command.args(args);
        run(command)
    }

    /// Whom the last call was made by, as the audit log has it.
    fn last_caller(&self) -> String {
        let records = self.vault.audit();
        records.last().unwrap()["principal"].as_str().unwrap().to_owned()
    }
}

/// A change, which leaves its caller in the audit log.
const INVITE: &[&str] = &["agent", "token", "web1"];

#[test]
fn a_profile_is_found_by_argument_and_by_variable() {
    let people = People::new();
    let config = people.vault.path("config.toml");
    let flags = ["--config", &config, "--profile", "ada"];
    let ways: [(Variables, &[&str]); 4] = [
        (&[], &flags),
        (&[("VAULTCTL_CONFIG", &config)], &["--profile", "ada"]),
        (&[("VAULTCTL_CONFIG", &config), ("VAULTCTL_PROFILE", "ada")], &[]),
        (&[("VAULTCTL_CONFIG", &config), ("VAULTCTL_PROFILE", "eve")], &["--profile", "ada"]),
    ];
    for (variables, args) in ways {
        for args in [[args, INVITE].concat(), [INVITE, args].concat()] {
            let ended = people.run(variables, &args);
            assert_eq!(ended.code, 0, "{variables:?} {args:?}: {ended:?}");
            assert_eq!(people.last_caller(), "spiffe://test.example/operator/ada");
        }
    }
}

#[test]
fn a_profile_is_found_in_the_home_directory() {
    let people = People::new();
    let text = fs::read_to_string(people.vault.file("config.toml")).unwrap();
    let text = text.replace("\"ada/", &format!("\"{}/ada/", people.vault.dir().display()));
    for (variable, below) in [("HOME", ".config/vaultctl"), ("XDG_CONFIG_HOME", "vaultctl")] {
        let home = tempfile::tempdir().unwrap();
        let dir: PathBuf = home.path().join(below);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.toml"), &text).unwrap();
        let variables = [(variable, home.path().to_str().unwrap())];
        let ended = people.run(&variables, &[&["--profile", "ada"], INVITE].concat());
        assert_eq!(ended.code, 0, "{variable}: {ended:?}");
    }
}

#[test]
fn each_part_of_a_connection_has_a_variable() {
    let people = People::new();
    let (address, socket) = (people.vault.address.to_string(), people.vault.path("admin.sock"));
    let all = [
        ("VAULTCTL_ADDRESS", address.as_str()),
        ("VAULTCTL_CA", "ada/ca.pem"),
        ("VAULTCTL_CERT", "ada/cert.pem"),
        ("VAULTCTL_KEY", "ada/key.pem"),
    ];
    assert_eq!(people.run(&all, INVITE).code, 0);
    assert_eq!(people.last_caller(), "spiffe://test.example/operator/ada");
    for left_out in 0..all.len() {
        let mut some = all.to_vec();
        some.remove(left_out);
        people.run(&some, INVITE).refused(2, "half described");
    }
    let ended = people.run(&[("VAULTCTL_SOCKET", &socket)], INVITE);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(people.last_caller().starts_with("local"), "{}", people.last_caller());
}

#[test]
fn an_argument_counts_more_than_the_environment() {
    let people = People::new();
    let (address, socket) = (people.vault.address.to_string(), people.vault.path("admin.sock"));
    let config = people.vault.path("config.toml");
    let socket_set = [("VAULTCTL_SOCKET", socket.as_str()), ("VAULTCTL_CONFIG", &config)];
    let ended = people.run(&socket_set, &[&["--profile", "ada"], INVITE].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(people.last_caller(), "spiffe://test.example/operator/ada");
    let parts = ["--address", &address, "--ca", "ada/ca.pem", "--cert", "ada/cert.pem"];
    let parts = [&parts[..], &["--key-file", "ada/key.pem"], INVITE].concat();
    let all_set = [&socket_set[..], &[("VAULTCTL_PROFILE", "eve")]].concat();
    assert_eq!(people.run(&all_set, &parts).code, 0);
    assert_eq!(people.last_caller(), "spiffe://test.example/operator/ada");
    let profile_set = [("VAULTCTL_PROFILE", "eve"), ("VAULTCTL_CONFIG", &config)];
    assert_eq!(people.run(&profile_set, &[&["--socket", &socket], INVITE].concat()).code, 0);
    assert!(people.last_caller().starts_with("local"), "{}", people.last_caller());
}

#[test]
fn a_connection_that_is_not_described_is_bad_input() {
    let people = People::new();
    let config = people.vault.path("config.toml");
    people.run(&[], INVITE).refused(2, "nothing says where it is");
    let missing = ["--config", "missing.toml", "--profile", "ada"];
    people.run(&[], &[&missing[..], INVITE].concat()).refused(2, "missing.toml");
    let unknown = ["--config", &config, "--profile", "bob"];
    let ended = people.run(&[], &[&unknown[..], INVITE].concat());
    ended.refused(2, "profile bob");
    assert!(ended.stderr.contains("ada, eve"), "{ended:?}");
    people.run(&[], &[&["--profile", "ada"], INVITE].concat()).refused(2, "config.toml");
    for (bad, why) in [
        ("[profile.ada]\naddress = 1\n", "address"),
        ("[profile.ada]\naddress = \"x:1\"\n", "ca"),
        ("[profile.ada]\ncolour = 1\n", "colour"),
        ("nonsense", "config.toml"),
    ] {
        fs::write(&config, bad).unwrap();
        let args = [&["--config", &config, "--profile", "ada"], INVITE].concat();
        people.run(&[], &args).refused(2, why);
    }
}

#[test]
fn files_that_are_missing_or_wrong_are_bad_input() {
    let people = People::new();
    let address = people.vault.address.to_string();
    fs::write(people.vault.file("garbage"), "no PEM").unwrap();
    for wrong in 0..3 {
        for file in ["missing", "garbage"] {
            let mut files = ["ada/ca.pem", "ada/cert.pem", "ada/key.pem"];
            files[wrong] = file;
            let [ca, cert, key] = files;
            let args = ["--address", &address, "--ca", ca, "--cert", cert, "--key-file", key];
            people.run(&[], &[&args[..], INVITE].concat()).refused(2, "error: ");
        }
    }
    // A key of somebody else's.
    let args = ["--address", &address, "--ca", "ada/ca.pem", "--cert", "ada/cert.pem"];
    let args = [&args[..], &["--key-file", "eve/key.pem"], INVITE].concat();
    people.run(&[], &args).refused(2, "cert.pem");
}

#[test]
fn an_auditor_looks_and_changes_nothing() {
    let people = People::new();
    let config = people.vault.path("config.toml");
    let eve = |args: &[&str]| {
        people.run(&[], &[&["--config", &config, "--profile", "eve"], args].concat())
    };
    for look in [&["status"][..], &["key", "list"], &["audit", "query"], &["audit", "verify"]] {
        assert_eq!(eve(look).code, 0, "{look:?}");
    }
    let out = people.vault.path("out");
    let changes: [&[&str]; 6] = [
        &["key", "generate", "k", "--algorithm", "ec-p256"],
        INVITE,
        &["account", "register", "a", "--directory", "https://ca.example/", "--agree-tos"],
        &["key", "destroy", "root", "--yes"],
        &["operator", "issue", "mallory", "--out", &out],
        &["agent", "evict", "web1", "--yes"],
    ];
    let before = people.vault.json(&["key", "list"]);
    for change in changes {
        eve(change).refused(4, "error: ");
    }
    assert_eq!(people.vault.json(&["key", "list"]), before);
    assert_eq!(people.vault.json(&["agent", "list"]).as_array().unwrap().len(), 0);
    assert!(!people.vault.file("out/key.pem").exists(), "a key without a certificate is no use");
}

#[test]
fn another_vault_is_not_taken_for_this_one() {
    let (people, other) = (People::new(), People::new());
    let address = other.vault.address.to_string();
    let files = ["--ca", "ada/ca.pem", "--cert", "ada/cert.pem", "--key-file", "ada/key.pem"];
    let args = [&["--address", &address], &files[..], INVITE].concat();
    people.run(&[], &args).refused(7, "connect");
    // Its own root, and a client certificate of another vault's.
    let root = other.vault.path("ada/ca.pem");
    let files = ["--ca", &root, "--cert", "ada/cert.pem", "--key-file", "ada/key.pem"];
    let args = [&["--address", &address], &files[..], INVITE].concat();
    people.run(&[], &args).refused(4, "connect");
    let nobody = format!("127.0.0.1:{}", free_port());
    let files = ["--ca", "ada/ca.pem", "--cert", "ada/cert.pem", "--key-file", "ada/key.pem"];
    let args = [&["--address", &nobody], &files[..], INVITE].concat();
    people.run(&[], &args).refused(6, &nobody);
    assert_eq!(other.vault.json(&["agent", "list"]).as_array().unwrap().len(), 0);
}

#[test]
fn the_profile_that_the_ceremony_prints_works() {
    let mut vault = Vault::new();
    vault.start();
    let out = vault.path("ada");
    let ended = vault.ctl(&["init", "--operator", "ada", "--operator-out", &out]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let printed = ended.stderr.split_once("[profile.ada]").expect("a profile").1;
    let profile: Vec<_> = printed.lines().filter(|line| line.contains(" = ")).collect();
    let text = format!("[profile.ada]\n{}\n", profile.join("\n"));
    let text = text.replace("HOST:PORT", &vault.address.to_string());
    fs::write(vault.file("config.toml"), text).unwrap();
    let people = People { vault };
    let config = people.vault.path("config.toml");
    let args = [&["--config", &config, "--profile", "ada"], INVITE].concat();
    let ended = people.run(&[], &args);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(people.last_caller(), "spiffe://test.example/operator/ada");
}
