//! A program of the operator's that writes records, called as lego's `exec` provider calls it:
//! `PROGRAM present|cleanup NAME VALUE`. Without a shell, in a process group of its own, with a
//! deadline, and with nothing of the vault's environment but where programs are.

use std::{env, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::error::{Error, Result};
use crate::store::DnsRecord;

/// How much of its output an error repeats, in characters.
const MOST_OUTPUT: usize = 1500;

pub(super) struct Hook {
    command: Vec<String>,
    timeout: Duration,
}

impl Hook {
    pub(super) fn new(command: Vec<String>, timeout: Duration) -> Self {
        Self { command, timeout }
    }

    pub(super) async fn present(&self, record: &DnsRecord) -> Result<()> {
        self.run("present", record).await
    }

    pub(super) async fn cleanup(&self, record: &DnsRecord) -> Result<()> {
        self.run("cleanup", record).await
    }

    async fn run(&self, verb: &str, record: &DnsRecord) -> Result<()> {
        let subject = format!("record {} in zone {}", record.name, record.zone);
        let failed = |why: String| {
            Error::unavailable(verb, &subject, format!("{}: {why}", self.command.join(" ")))
                .hint("check command in the [[acme.dns]] of this zone")
        };
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(failed("no command is set".to_owned()));
        };
        let child = Command::new(program)
            .args(arguments)
            .args([verb, &record.name, &record.value])
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let Ok(output) = tokio::time::timeout(self.timeout, child.wait_with_output()).await else {
            // What it has started, too.
            if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            return Err(failed(format!("it did not end within {:?}", self.timeout)));
        };
        let output = output.map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stderr, output.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        let skip = said.trim().chars().count().saturating_sub(MOST_OUTPUT);
        let tail: String = said.trim().chars().skip(skip).collect();
        Err(failed(format!("{}: {tail}", output.status)))
    }
}
