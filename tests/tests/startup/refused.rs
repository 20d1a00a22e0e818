//! Starts that are refused, and what is as it was after each.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use serde_json::Value;
use testkit::{programs::Ended, vault::Vault};

/// An initialised vault with a key, stopped; and what must not change.
pub struct Stopped {
    pub vault: Vault,
    keys: Value,
    in_token: BTreeSet<String>,
    log: String,
    config: String,
}

impl Stopped {
    pub fn new() -> Self {
        let mut vault = Vault::initialized();
        vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
        let (keys, in_token) = (vault.json(&["key", "list"]), vault.keys_in_token());
        vault.stop();
        let log = fs::read_to_string(vault.file("audit.log")).unwrap();
        let config = vault.config.clone();
        Self { vault, keys, in_token, log, config }
    }

    /// A start with this configuration, which must be refused and change nothing.
    pub fn refused(&mut self, from: &str, to: &str, code: i32, said: &str) -> Ended {
        self.vault.reconfigure(from, to);
        let ended = self.vault.run_daemon();
        ended.refused(code, said);
        assert_eq!(ended.stdout, "", "{ended:?}");
        assert!(!self.vault.file("admin.sock").exists(), "{said}: a socket is left");
        self.vault.config.clone_from(&self.config);
        self.unchanged();
        ended
    }

    /// Starts the vault as it was: everything is there, and nothing was found amiss.
    pub fn unchanged(&mut self) {
        let log = fs::read_to_string(self.vault.file("audit.log")).unwrap();
        let added = log.strip_prefix(&self.log).expect("the log was only added to");
        let records: Vec<Value> = added.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let tried = |record: &&Value| record["action"] != "system.start";
        assert_eq!(records.iter().find(tried), None, "a refused start does nothing");
        self.vault.start();
        let status = self.vault.json(&["status"]);
        assert_eq!(status["findings"], Value::Array(Vec::new()), "{status}");
        assert_eq!(self.vault.json(&["key", "list"]), self.keys);
        assert_eq!(self.vault.keys_in_token(), self.in_token);
        assert_eq!(self.vault.json(&["audit", "verify"])["ok"], true);
        self.vault.stop();
        self.log = fs::read_to_string(self.vault.file("audit.log")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.vault.path(name)
    }
}

/// A shared library that is no PKCS#11 module: the one that this program itself has loaded.
fn some_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    paths.find(|path| path.ends_with("libc.so.6")).expect("the C library").to_owned()
}

#[test]
fn a_start_with_something_wrong_is_refused_and_changes_nothing() {
    let mut stopped = Stopped::new();
    let (text, library) = (stopped.path("pin"), some_library().display().to_string());
    let module = testkit::vault::SOFTHSM;
    let path = |name: &str| stopped.path(name);
    let below = |name: &str| format!("{}/{name}", path("pin"));
    let cases: Vec<(String, String, i32, String)> = [
        (module, "/nothing.so", 2, "/nothing.so"),
        (module, text.as_str(), 2, text.as_str()),
        (module, library.as_str(), 2, library.as_str()),
        ("token=vault", "token=nothing", 3, "no token has this label"),
        ("test.example", "other.example", 2, "this vault was initialised with test.example"),
        (&path("pin"), &path("nothing"), 2, "file"),
        (&path("vault.db"), &below("vault.db"), 6, "store "),
        (&path("vault.db"), &path(""), 6, "store "),
        (&path("audit.log"), &below("audit.log"), 6, "audit log"),
        (&path("audit.log"), &path(""), 6, "audit log"),
        (&path("audit.log"), &path("nothing/audit.log"), 6, "audit log"),
        (&path("admin.sock"), &below("admin.sock"), 6, "admin socket"),
        (&path("admin.sock"), &path("nothing/admin.sock"), 6, "admin socket"),
    ]
    .into_iter()
    .map(|(from, to, code, said)| (from.to_owned(), to.to_owned(), code, said.to_owned()))
    .collect();
    for (from, to, code, said) in cases {
        stopped.refused(&from, &to, code, &said);
    }
}

#[test]
fn an_address_that_is_taken_is_said() {
    let mut stopped = Stopped::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (own, other) = (stopped.vault.address.to_string(), taken.local_addr().unwrap().to_string());
    stopped.refused(&own, &other, 6, &other);
}

#[test]
fn a_read_only_state_directory_is_said() {
    let mut stopped = Stopped::new();
    let dir = stopped.path("");
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, &dir];
    stopped.vault.through = words.map(ToOwned::to_owned).to_vec();
    stopped.vault.run_daemon().refused(6, "store ");
    stopped.vault.through.clear();
    stopped.unchanged();
}

#[test]
fn a_second_vaultd_on_the_same_state_is_refused_and_the_first_serves_on() {
    let mut vault = Vault::initialized();
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256"]);
    let keys = vault.json(&["key", "list"]);
    vault.run_daemon().refused(1, "another process has it");
    // With a log of its own it still meets the first at the socket.
    let config = vault.config.clone();
    let mut other = Vault::new();
    let (socket, ours) = (other.path("admin.sock"), vault.path("admin.sock"));
    other.reconfigure(&socket, &ours);
    other.run_daemon().refused(1, &ours);
    vault.config = config;
    assert_eq!(vault.json(&["key", "list"]), keys);
    vault.ok(&["key", "rotate", "k"]);
    vault.stop();
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    let mut stopped = Stopped::new();
    let foreign = stopped.vault.file("foreign.db");
    fs::write(&foreign, "this is somebody's diary\n".repeat(100)).unwrap();
    let before = fs::read(&foreign).unwrap();
    let (own, other) = (stopped.path("vault.db"), foreign.display().to_string());
    stopped.refused(&own, &other, 6, "the store");
    assert_eq!(fs::read(&foreign).unwrap(), before);
}
