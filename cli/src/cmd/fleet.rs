//! `vaultctl fleet`.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use vault_proto::{error::ErrorKind, v1};

use super::Context;
use crate::client::call;
use crate::error::{Error, Result};
use crate::output::{self, Format, Row};

/// All certificates together.
#[derive(Debug, Subcommand)]
pub enum Fleet {
    /// Says how long replacing every certificate would take within what CAs allow. Changes nothing.
    #[command(after_help = "Example: vaultctl fleet rehearse --within 24h")]
    Rehearse {
        /// 7 where not all of it would be done within this time.
        #[arg(long, value_name = "DURATION", value_parser = within)]
        within: Option<Duration>,
    },
}

/// Whole seconds.
fn within(text: &str) -> Result<Duration, String> {
    let within = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    match within.as_secs() {
        0 => Err("it must be at least a second".to_owned()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

#[derive(Serialize)]
struct Account {
    account: String,
    certificates: u64,
    limiting: Option<String>,
    duration_seconds: Option<u64>,
    done_within: u64,
    late: Vec<String>,
}

impl Row for Account {
    const HEADER: &'static [&'static str] =
        &["ACCOUNT", "CERTIFICATES", "LIMITED BY", "TAKES", "IN TIME", "TOO LATE"];
    fn cells(&self) -> Vec<String> {
        let takes = self.duration_seconds.map(Duration::from_secs);
        let takes = takes.map(|takes| humantime::format_duration(takes).to_string());
        let shown: Vec<_> = self.late.iter().take(5).cloned().collect();
        let more = self.late.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        vec![
            self.account.clone(),
            self.certificates.to_string(),
            self.limiting.clone().unwrap_or_else(|| "-".to_owned()),
            takes.unwrap_or_else(|| "more than a year".to_owned()),
            self.done_within.to_string(),
            format!("{}{more}", shown.join(", ")),
        ]
    }
}

#[derive(Serialize)]
struct Rehearsal {
    within_seconds: Option<u64>,
    met: bool,
    duration_seconds: Option<u64>,
    accounts: Vec<Account>,
}

impl From<v1::AccountRehearsal> for Account {
    fn from(account: v1::AccountRehearsal) -> Self {
        Self {
            account: account.account,
            certificates: account.certificates,
            limiting: Some(account.limiting).filter(|text| !text.is_empty()),
            duration_seconds: account.duration_seconds,
            done_within: account.done_within,
            late: account.late,
        }
    }
}

/// Runs one verb.
///
/// # Errors
/// What the vault says, and where it would take too long.
pub async fn run(context: &Context, verb: Fleet) -> Result<()> {
    let Fleet::Rehearse { within } = verb;
    let request = v1::RehearseRequest { within_seconds: within.map_or(0, |w| w.as_secs()) };
    let client = context.client().await?;
    let answer = client.certificates().rehearse(call(request)).await?.into_inner();
    let accounts: Vec<_> = answer.accounts.into_iter().map(Account::from).collect();
    let lasting: Option<Vec<_>> = accounts.iter().map(|account| account.duration_seconds).collect();
    let rehearsal = Rehearsal {
        within_seconds: within.map(|within| within.as_secs()),
        met: answer.met,
        duration_seconds: lasting.map(|all| all.into_iter().max().unwrap_or(0)),
        accounts,
    };
    match context.format {
        Format::Json => output::json(&rehearsal)?,
        Format::Table => output::list(context.format, &rehearsal.accounts)?,
    }
    let Some(within) = within.filter(|_| !rehearsal.met) else { return Ok(()) };
    let late: usize = rehearsal.accounts.iter().map(|account| account.late.len()).sum();
    let why =
        format!("{late} certificates would come later than {}", humantime::format_duration(within));
    Err(Error::new(ErrorKind::Verification, "rehearse", "the fleet", why).hint(
        "more accounts, fallback accounts at other CAs, or fewer certificates with more names make it \
         faster; docs/renewal.md",
    ))
}
