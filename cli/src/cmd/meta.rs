//! Completions and man pages.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::error::{Error, Result};
use crate::output;

/// Which shell.
#[derive(Debug, Args)]
#[command(after_help = "Example: vaultctl completions bash > /etc/bash_completion.d/vaultctl")]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

/// Where the pages go.
#[derive(Debug, Args)]
#[command(after_help = "Example: vaultctl man /usr/local/share/man/man1")]
pub struct Man {
    /// A directory.
    dir: PathBuf,
}

/// Writes completions to stdout.
///
/// # Errors
/// Where stdout is closed.
pub fn completions(mut command: Command, args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "vaultctl", &mut script);
    output::text(&String::from_utf8_lossy(&script))
}

/// Writes one page per verb.
///
/// # Errors
/// Where the directory cannot be written.
pub fn man(command: Command, args: &Man) -> Result<()> {
    let failed = |dir: &Path, e: std::io::Error| {
        Error::invalid("write man pages", dir.display().to_string(), e)
    };
    std::fs::create_dir_all(&args.dir).map_err(|e| failed(&args.dir, e))?;
    clap_mangen::generate_to(command, &args.dir).map_err(|e| failed(&args.dir, e))
}
