//! The process of a drill: started by `vaultctl drill run`, gone with it. What it finds goes to
//! stdout, a line of JSON each.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use vault_backup::drill::Event;

use crate::backup::drill::{Place, Request, Say, hold};
use crate::clock::SystemClock;
use crate::config::SecretSource;
use crate::error::{Error, Result};
use crate::keystore::pkcs11::TokenUri;

/// How often the scratch directory is removed, where something stands in it again.
const REMOVALS: usize = 100;
/// Between two tries.
const REMOVE_AGAIN: Duration = Duration::from_millis(20);

/// What it is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// An empty directory, which is destroyed at the end.
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// The PKCS#11 module of the scratch token.
    #[arg(long, value_name = "FILE", required_unless_present = "token")]
    module: Option<PathBuf>,
    /// A token that has the KEK for unwrapping, instead of shares.
    #[arg(long, value_name = "URI", requires = "pin_file")]
    token: Option<TokenUri>,
    /// The file that holds that token's user PIN.
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// A file of age identities; may be repeated.
    #[arg(long = "identity", value_name = "FILE", required = true)]
    identities: Vec<PathBuf>,
    /// A custodian's share; may be repeated.
    #[arg(long = "share", value_name = "FILE")]
    shares: Vec<PathBuf>,
}

/// Holds a drill.
///
/// # Errors
/// As [`hold`].
pub fn run(args: Args) -> Result<()> {
    let failed = |e: io::Error| {
        Error::unavailable("use", format!("scratch directory {}", args.scratch.display()), e)
    };
    // As long as this process lives, nobody takes its directory for one that was left behind.
    let directory = File::open(&args.scratch).map_err(failed)?;
    flock(&directory, FlockOperation::LockShared).map_err(|e| failed(e.into()))?;
    let scratch = fs::canonicalize(&args.scratch).map_err(failed)?;
    end_with_parent(&scratch)?;
    let place = match (args.token, args.pin_file, args.module) {
        (Some(uri), Some(pin), _) => Place::Token { uri, pin: SecretSource::File(pin) },
        (None, _, Some(module)) => Place::Scratch { module, shares: args.shares },
        _ => return Err(Error::invalid("drill", "a backup", "no token is named")),
    };
    let request = Request { file: args.file, identities: args.identities, scratch, place };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal("start", "the runtime", e))?;
    let say: Say = Arc::new(|event: Event| said(&event));
    runtime.block_on(hold(request, &SystemClock, &say))
}

/// One line. Where nobody reads it any more, the process ends by its stdin.
fn said(event: &Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let _ = io::stdout().lock().write_all(&line);
    }
}

/// Stdin stays open as long as whoever started this process lives. Its end is this one's, and the
/// scratch directory's.
fn end_with_parent(scratch: &Path) -> Result<()> {
    let scratch = scratch.to_owned();
    let watch = move || {
        let mut byte = [0; 1];
        while io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
        // The work goes on meanwhile, and may make a file where one was removed just now.
        for _ in 0..REMOVALS {
            if fs::remove_dir_all(&scratch).is_ok() || !scratch.exists() {
                break;
            }
            std::thread::sleep(REMOVE_AGAIN);
        }
        // Without exit handlers: they would pull the HSM's module away under a call.
        signal_hook::low_level::exit(1);
    };
    let started = std::thread::Builder::new().name("parent".to_owned()).spawn(watch);
    started.map(drop).map_err(|e| Error::internal("start", "a thread", e))
}
