//! What processes use.

use std::{fs, thread};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity},
};

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

/// Processes, and what this thread starts, on one processor: where one caller at a time waits, no more than
/// one of them has anything to do, and how long a machine takes to wake up a sleeping processor for the next
/// is not theirs.
pub struct OneProcessor {
    processes: Vec<u32>,
    before: CpuSet,
}

impl OneProcessor {
    /// They stay there until it is dropped.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn of(processes: &[u32]) -> Result<Self> {
        let before = sched_getaffinity(None)?;
        let first = (0..CpuSet::MAX_CPU).find(|processor| before.is_set(*processor));
        let mut one = CpuSet::new();
        one.set(first.context("no processor")?);
        let kept = Self { processes: processes.to_owned(), before };
        kept.keep_to(&one)?;
        Ok(kept)
    }

    fn keep_to(&self, processors: &CpuSet) -> Result<()> {
        sched_setaffinity(None, processors)?;
        for process in &self.processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?.file_name().to_string_lossy().parse()?;
                match sched_setaffinity(Pid::from_raw(thread), processors) {
                    // It has ended meanwhile.
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // A process that has ended needs no more.
        let _ = self.keep_to(&self.before);
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
