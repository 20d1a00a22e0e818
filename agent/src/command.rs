//! Commands from the agent's own configuration: without a shell, in a process group of their own,
//! with a deadline.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

use crate::error::{Error, Result};

/// How much of a command's output an error repeats, in characters.
const MOST_OUTPUT: usize = 1500;

/// Runs a command to its end.
///
/// # Errors
/// Where it cannot be started, does not end in time or does not exit with 0; with the end of its
/// output.
pub async fn run(what: &str, command: &[String], timeout: Duration) -> Result<()> {
    let subject = command.join(" ");
    let failed = |why: String| Error::local(what, &subject, why);
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let Ok(output) = tokio::time::timeout(timeout, child.wait_with_output()).await else {
        // What it has started, too.
        if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        return Err(failed(format!("it did not end within {timeout:?}")));
    };
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.trim();
    let skip = said.chars().count().saturating_sub(MOST_OUTPUT);
    let tail: String = said.chars().skip(skip).collect();
    Err(failed(format!("{}: {tail}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_failure_repeats_what_the_command_said() {
        let command = command(&["sh", "-c", "echo broken line 7 >&2; exit 3"]);
        let error = run("test", &command, Duration::from_secs(60)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("broken line 7") && text.contains('3'), "{text}");
        run("test", &self::command(&["true"]), Duration::from_secs(60)).await.unwrap();
        assert!(run("test", &self::command(&["/nowhere"]), Duration::from_secs(1)).await.is_err());
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let command = command(&["sh", "-c", &script]);
        // A busy machine may not have come to the child by the first deadline.
        let mut deadline = Duration::from_millis(250);
        let pid: i32 = loop {
            let error = run("reload", &command, deadline).await.unwrap_err();
            assert!(error.to_string().contains("did not end"), "{error}");
            let written = std::fs::read_to_string(&file).unwrap_or_default();
            match written.trim().parse() {
                Ok(pid) => break pid,
                Err(_) => deadline *= 2,
            }
        };
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        for _ in 0..200 {
            // A zombie that waits for its new parent counts as gone.
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            if state.map_or(true, |stat| stat.contains(") Z ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the child still runs");
    }
}
