//! `vaultd drill`, which does the work, and what it says meanwhile.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
};
use vault_backup::{
    Facts,
    drill::{Certificate, Check, End, Event, Key, Phase},
};
use vault_proto::error::ErrorKind;

use super::{Run, scratch::Scratch};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The most that is read of what it has to say for people.
const LAST_WORDS: u64 = 64 * 1024;

/// Everything that was found.
#[derive(Default)]
pub(super) struct Found {
    /// What the backup says of itself; nothing where it cannot be read at all.
    pub(super) facts: Option<Facts>,
    /// Keys in use.
    pub(super) keys: Vec<Key>,
    /// Certificates' current versions.
    pub(super) certificates: Vec<Certificate>,
    /// Parts of the work.
    pub(super) phases: Vec<Phase>,
    /// Checks.
    pub(super) checks: Vec<Check>,
    /// What there was.
    pub(super) end: End,
}

/// Has the backup in `file` drilled.
///
/// # Errors
/// What `vaultd` says where it could not do it.
pub(super) async fn drill(args: &Run, file: &Path, size: u64, scratch: &Scratch) -> Result<Found> {
    let subject = || format!("backup {}", file.display());
    let failed = |e: std::io::Error| {
        Error::local("start", "vaultd", e).hint("install vaultd beside vaultctl")
    };
    let vaultd = env::current_exe().map_err(failed)?.with_file_name("vaultd");
    // Its stdin stays open as long as this process lives, and says so to it. What belongs to another
    // drill or token is not its business.
    let mut child = command(vaultd, args, file, scratch).spawn().map_err(failed)?;
    let mut alive = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let words = tokio::spawn(async move {
        let mut text = String::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(LAST_WORDS).read_to_string(&mut text).await;
        }
        text
    });
    let mut found = Found::default();
    let mut ended = false;
    if let Some(stdout) = stdout {
        let progress = Progress::new("drill");
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            let event = serde_json::from_str(&line)
                .map_err(|e| Error::local("read", "the words of vaultd", e))?;
            ended |= found.take(event, size, &progress);
        }
    }
    let status = child.wait().await.map_err(failed)?;
    drop(alive.take());
    let words = words.await.unwrap_or_default();
    match status.code() {
        Some(0) if ended => Ok(found),
        code => Err(said(subject(), code, &words)),
    }
}

fn command(vaultd: PathBuf, args: &Run, file: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new(vaultd);
    command.arg("drill").arg("--scratch").arg(scratch.path());
    match (&args.token, &args.pin_file) {
        (Some(token), Some(pin)) => {
            command.args(["--token", token]).arg("--pin-file").arg(pin);
        }
        _ => {
            command.arg("--module").arg(&args.module);
            command.env("SOFTHSM2_CONF", scratch.softhsm());
        }
    }
    for share in &args.shares {
        command.arg("--share").arg(share);
    }
    for identity in &args.identities {
        command.arg("--identity").arg(identity);
    }
    command.arg("--").arg(file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

impl Found {
    /// Takes what was said; whether it was the last word.
    fn take(&mut self, event: Event, size: u64, progress: &Progress) -> bool {
        match event {
            Event::Facts(facts) => self.facts = Some(facts),
            Event::Progress { bytes, keys } => {
                progress.stage(&format!("{keys} keys proven, read"), bytes, size);
            }
            Event::Key(key) => self.keys.push(key),
            Event::Certificate(certificate) => self.certificates.push(certificate),
            Event::Phase(phase) => self.phases.push(phase),
            Event::Check(check) => self.checks.push(check),
            Event::End(end) => {
                self.end = end;
                return true;
            }
        }
        false
    }
}

/// The error of a process that has written it for people.
fn said(subject: String, code: Option<i32>, stderr: &str) -> Error {
    let kind = match code {
        Some(2) => ErrorKind::Invalid,
        Some(3) => ErrorKind::NotFound,
        Some(4) => ErrorKind::Denied,
        Some(6) => ErrorKind::Unavailable,
        Some(7) => ErrorKind::Verification,
        _ => ErrorKind::Internal,
    };
    let line = |prefix: &str| stderr.lines().find_map(|line| line.strip_prefix(prefix));
    let why = line("error: ").unwrap_or("vaultd has ended in the middle of it").to_owned();
    let error = Error::new(kind, "drill", subject, why);
    match line("hint: ") {
        Some(hint) => error.hint(hint),
        None => error.hint("nothing is left of it: begin again"),
    }
}
