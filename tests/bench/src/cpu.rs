//! What processes use.

use std::{
    fs,
    process::{Child, Command},
    thread,
};

use anyhow::{Context as _, Result};

/// CPU seconds that a process has used so far, its threads' in user and kernel mode.
///
/// # Errors
/// Where there is no such process.
pub fn seconds_of(pid: u32) -> Result<f64> {
    ticks(&format!("/proc/{pid}/stat"), 11)
}

/// CPU seconds that this process' children have used that have ended.
///
/// # Errors
/// Where there is no /proc.
pub fn seconds_of_children() -> Result<f64> {
    ticks("/proc/self/stat", 13)
}

/// Two clocks of a process, of which the first is this many fields behind its name: utime and stime are
/// the 12th and 13th, those of its children come behind.
fn ticks(file: &str, first: usize) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = text.rsplit_once(')').context("no name")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(first).take(2).map(str::parse).collect::<Result<_, _>>()?;
    #[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
    let seconds = ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(seconds)
}

/// How many processors there are.
///
/// # Errors
/// Where the system does not say.
pub fn processors() -> Result<f64> {
    #[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
    let processors = thread::available_parallelism()?.get() as f64;
    Ok(processors)
}

/// Keeps every processor awake with work that gives way to any other: how long a virtual machine
/// takes to wake one up is not the vault's, and a server that is in use has few asleep.
pub struct Awake(Vec<Child>);

impl Awake {
    /// Begins, until it is dropped.
    ///
    /// # Errors
    /// Where there is no `chrt` (util-linux).
    pub fn new() -> Result<Self> {
        let mut idlers = Self(Vec::new());
        for _ in 0..thread::available_parallelism()?.get() {
            let mut command = Command::new("chrt");
            command.args(["--idle", "0", "sh", "-c", "while :; do :; done"]);
            idlers.0.push(command.spawn().context("start chrt")?);
        }
        Ok(idlers)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for idler in &mut self.0 {
            // One that has ended by itself needs no more.
            let _ = idler.kill().and_then(|()| idler.wait().map(drop));
        }
    }
}

/// A process's resident memory in MiB: what it has alone and what it shares.
///
/// # Errors
/// Where there is no such process.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}
