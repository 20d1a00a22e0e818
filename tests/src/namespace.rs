//! A test in a network of its own, where every port is free and every name leads where it says.
//!
//! The test starts itself anew, in a process of its own and in namespaces of the user's own, so no
//! privileges are needed and nobody else sees what is done there; all of it ends with that process.

use std::{
    env, fs,
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::process::Process;
use crate::programs::must;

/// Tells the inner process that it is one.
const INSIDE: &str = "TESTKIT_NAMESPACE";
/// How long the inner process may take: it is a whole test.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs `body` inside; `test` is the path of the test that calls, below its crate. There the
/// loopback interface is up and alone, and these names lead to 127.0.0.1.
///
/// # Panics
/// Where `body` does, with what the inner process has written.
pub fn inside(test: &str, names: &[&str], body: impl FnOnce()) {
    if is_inside() {
        settle(names);
        return body();
    }
    again(test, &["--user", "--map-root-user", "--net", "--mount"]);
}

/// Runs `body` as root among this machine's other users, so that it may run programs as any of them:
/// at once where the test is root's, else inside, where they are the subordinate ids of the test's
/// user (`/etc/subuid`). `test` is the path of the test that calls, below its crate.
///
/// # Panics
/// Where `body` does, with what the inner process has written, or the user has no subordinate ids.
pub fn among_users(test: &str, body: impl FnOnce()) {
    match rustix::process::geteuid().is_root() {
        true => body(),
        false => again(test, &["--user", "--map-root-user", "--map-auto"]),
    }
}

/// The words before a program that is run as a user, by one who is root among users.
pub fn as_user(name: &str) -> Vec<String> {
    let words = ["setpriv", "--reuid", name, "--regid", name, "--clear-groups", "--"];
    words.map(str::to_owned).to_vec()
}

/// Runs this program, which is no test, with these arguments inside, and waits for its end. It finds out
/// by [`is_inside`], and calls [`settle`].
///
/// # Panics
/// Where it fails.
pub fn program(args: &[&str]) {
    let mut command = unshared(&["--user", "--map-root-user", "--net", "--mount", "--mount-proc"]);
    command.args(args).env(INSIDE, "program");
    let status = command.status().expect("unshare");
    assert!(status.success(), "it failed inside: {status}");
}

/// This program by `unshare`. Its processes end with it, however it ends.
fn unshared(namespaces: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["--pid", "--fork", "--kill-child"]);
    command.arg(env::current_exe().expect("this program"));
    command
}

fn again(test: &str, namespaces: &[&str]) {
    let dir = tempfile::tempdir().expect("directory");
    let mut command = unshared(namespaces);
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, test);
    let mut inner = Process::spawn("inside", command, dir.path());
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = inner.exited() {
            break status;
        }
        assert!(Instant::now() < end, "not done within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "it failed inside: {status}");
    assert!(inner.log().contains("1 passed"), "no test is called {test}");
}

/// Whether this process is inside: it is root there, and nobody else exists.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Inside: the loopback interface is up and alone, and these names lead to 127.0.0.1.
///
/// # Panics
/// Where this process is not inside.
pub fn settle(names: &[&str]) {
    assert!(is_inside(), "this would change the machine's own network");
    must("ip", &["link", "set", "lo", "up"]);
    let localhost = Ipv4Addr::LOCALHOST;
    let hosts = names.iter().map(|name| format!("{localhost} {name}\n"));
    let hosts: String = [format!("{localhost} localhost\n")].into_iter().chain(hosts).collect();
    // The mounts outlive it.
    let dir = tempfile::tempdir().expect("directory");
    for (name, text) in [("hosts", hosts), ("resolv.conf", format!("nameserver {localhost}\n"))] {
        let file = dir.path().join(name);
        fs::write(&file, text).expect("a file");
        let over = format!("/etc/{name}");
        must("mount", &["--bind", &file.display().to_string(), &over]);
    }
}
