//! One file per noun.

pub mod account;
pub mod agent;
pub mod audit;
pub mod backup;
pub mod cert;
pub mod csr;
pub mod drill;
pub mod fleet;
pub mod init;
pub mod jws;
pub mod kek;
pub mod key;
pub mod meta;
pub mod operator;
pub mod status;

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::Format;
use crate::profile::Target;

/// What every command gets.
pub struct Context {
    /// Where the vault is.
    pub target: Result<Target>,
    /// How results are written.
    pub format: Format,
    /// A destructive verb need not ask.
    pub yes: bool,
}

impl Context {
    /// Connects.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn client(&self) -> Result<Client> {
        Client::connect(self.target.as_ref().map_err(Clone::clone)?).await
    }

    /// Asks before something that cannot be undone.
    ///
    /// # Errors
    /// `Invalid` where the answer is no, or nobody can be asked.
    pub fn confirm(&self, question: &str) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        let refused = |why: &str| {
            Error::invalid("confirm", question, why).hint("pass --yes where that is what you want")
        };
        if !std::io::stdin().is_terminal() {
            return Err(refused("nobody can be asked here"));
        }
        // In one go: what is typed ahead is echoed between two writes.
        let _ = std::io::stderr().write_all(format!("{question}? [y/N] ").as_bytes());
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        match read {
            Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
            _ => Err(refused("the answer was no")),
        }
    }
}
