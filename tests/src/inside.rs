//! A test in a process of its own, for what a process loads only once: a PKCS#11 module reads its
//! configuration from the environment, when it is loaded.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::process::Process;

/// Tells a test that it is the one inside.
const INSIDE: &str = "TESTKIT_INSIDE";
/// How long an inner test may take: RSA keys are born slowly where the machine is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether this is the process inside.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Starts this program once more for this one test of it, with this variable; what it writes goes
/// into this directory.
///
/// # Panics
/// Where the test fails inside.
pub fn run(test: &str, variable: (&str, PathBuf), dir: &Path) {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]);
    command.env(variable.0, variable.1).env(INSIDE, "1");
    let mut inner = Process::spawn("inner", command, dir);
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = inner.exited() {
            break status;
        }
        assert!(Instant::now() < end, "not done within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{test} failed: {status}");
    assert!(inner.log().contains("1 passed"), "{test} did not run inside");
}
