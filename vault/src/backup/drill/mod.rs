//! A drill: a backup's whole restore, into a token and a store that are destroyed afterwards, and
//! the proof that what came out is what went in. It knows no live vault and no live token.
//!
//! The backup is read once. Its rows go into one transaction of an empty store, its keys into the
//! token as objects of one session, each of which signs and is gone: rows, HSM and verification work
//! at once, and no more than a few pages of anything are in memory.

mod keys;
mod pass;
mod proof;
mod token;

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use vault_backup::{
    Fault, Identities, Manifest, Reader, Table,
    drill::{Check, End, Event, Name, Phase},
};
use zeroize::Zeroizing;

pub use token::Place;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::store::{Store as _, sql::SqlStore};

/// What is not reached because of what failed before.
const NOT_REACHED: &str = "not reached: the backup does not hold";

/// Hears everything that there is to say.
pub type Say = Arc<dyn Fn(Event) + Send + Sync>;

/// What is drilled, and where.
pub struct Request {
    /// The backup.
    pub file: PathBuf,
    /// Files of age identities that open it, and shares.
    pub identities: Vec<PathBuf>,
    /// An empty directory that is destroyed by whoever made it.
    pub scratch: PathBuf,
    /// The token.
    pub place: Place,
}

/// Holds the drill. What does not hold in the backup is said to `say`; an error is of this machine
/// or of what was given, and says nothing about the backup.
///
/// # Errors
/// `Invalid` where identities or files are wrong, `Conflict` where the token is a live vault's,
/// `Unavailable` where token or scratch directory is.
pub async fn hold(request: Request, clock: &dyn Clock, say: &Say) -> Result<()> {
    let subject = format!("backup {}", request.file.display());
    let opened = File::open(&request.file).map_err(|e| Error::invalid("read", &subject, e))?;
    let known = identities(&request.identities)?;
    let begun = Instant::now();
    let reader = match Reader::open(&known, BufReader::new(opened)) {
        Ok(reader) => reader,
        Err(fault @ Fault::Given { .. }) => {
            return Err(Error::invalid("open", subject, fault)
                .hint("give the identity of one of its recipients with --identity"));
        }
        Err(fault) => {
            say(Event::Check(Check::failed(Name::Archive, fault.to_string())));
            not_reached(say, &[Name::Archive]);
            say(Event::End(End::default()));
            return Ok(());
        }
    };
    say(Event::Facts(reader.facts().clone()));
    let token = token::open(&request, reader.facts())?;
    say(Event::Check(token.check));
    phase(say, "token", begun, true);
    crash_point!("drill.token");

    let begun = Instant::now();
    let url = format!("sqlite:{}", request.scratch.join("store.db").display());
    let store = SqlStore::open(&url, 2).await?;
    let restoration = store.restoration().await?;
    let facts = reader.facts().clone();
    let done = pass::pass(reader, restoration, token.recovery, say).await?;
    phase(say, "restore", begun, true);
    crash_point!("drill.restored");
    say(Event::Phase(Phase { name: "hsm".to_owned(), seconds: done.hsm, restore: false }));
    match done.archive {
        Err(fault) => broken(say, &fault),
        Ok(ref manifest) => {
            let Manifest { parts, .. } = manifest;
            let whole = format!("{} parts, each as the manifest has it", parts.len());
            say(Event::Check(Check::ok(Name::Archive, whole)));
            let begun = Instant::now();
            let proof = proof::Proof { store: &store, done: &done, facts: &facts, manifest, say };
            proof.hold(clock.now()).await?;
            phase(say, "proofs", begun, false);
            let (counts, keys_proven) = (Some(manifest.counts.clone()), done.keys.proven);
            say(Event::End(End { counts, keys_proven }));
        }
    }
    Ok(())
}

/// The archive does not hold: nothing that was read from it counts.
fn broken(say: &Say, fault: &Fault) {
    let why = fault.to_string();
    say(Event::Check(Check::failed(Name::Archive, &why)));
    let in_log = fault.is_of(Table::Audit);
    if in_log {
        say(Event::Check(Check::failed(Name::Audit, why)));
    }
    let said: &[Name] = match in_log {
        true => &[Name::Archive, Name::Kek, Name::Audit],
        false => &[Name::Archive, Name::Kek],
    };
    not_reached(say, said);
    say(Event::End(End::default()));
}

fn not_reached(say: &Say, said: &[Name]) {
    // What the vault has on record is another program's question.
    let rest = Name::ALL.iter().filter(|name| **name != Name::Record && !said.contains(name));
    for name in rest {
        say(Event::Check(Check::failed(*name, NOT_REACHED)));
    }
}

fn phase(say: &Say, name: &str, begun: Instant, restore: bool) {
    let seconds = begun.elapsed().as_secs_f64();
    say(Event::Phase(Phase { name: name.to_owned(), seconds, restore }));
}

fn identities(files: &[PathBuf]) -> Result<Identities> {
    let mut identities = Identities::default();
    for file in files {
        let text = read_secret(file)?;
        identities.add(&text).map_err(|e| {
            Error::invalid("read", format!("identity {}", file.display()), e)
                .hint("an identity is what `age-keygen` writes")
        })?;
    }
    Ok(identities)
}

fn read_secret(file: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(file).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|e| {
        Error::invalid("read", format!("identity {}", file.display()), e)
            .hint("an identity is what `age-keygen` writes")
    })?;
    Ok(text)
}
