//! `vaultctl agent`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use vault_proto::v1;

use super::Context;
use crate::client::call;
use crate::error::Result;
use crate::output::{self, Format, Row};

/// Agents on web servers.
#[derive(Debug, Subcommand)]
pub enum Agent {
    /// Prints a one-time join token and the fingerprint of the vault's CA.
    #[command(after_help = "Example: vaultctl agent token web1 --ttl 1h")]
    Token {
        /// The agent's name.
        name: String,
        /// How long the token may be used; a week at most.
        #[arg(long, value_name = "DURATION", value_parser = ttl, default_value = "1h")]
        ttl: Duration,
    },
    /// Lists agents.
    #[command(after_help = "Example: vaultctl agent list")]
    List,
    /// Shows one agent.
    #[command(after_help = "Example: vaultctl agent show web1")]
    Show {
        /// The agent's name.
        name: String,
    },
    /// Changes when an agent's web server may change.
    #[command(after_help = "Example: vaultctl agent update web1 --window 'Sat 02:00-04:00'")]
    Update {
        /// The agent's name.
        name: String,
        #[command(flatten)]
        windows: Windows,
    },
    /// Ends an agent's rights and its stream at once; what it serves stays.
    #[command(after_help = "Example: vaultctl agent evict web1 --yes")]
    Evict {
        /// The agent's name.
        name: String,
    },
}

/// Its maintenance windows.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Windows {
    /// A maintenance window, UTC, in which certificates there are replaced, such as "Sat 02:00-04:00" or
    /// "Mon-Fri 22:00-02:00"; may be repeated.
    #[arg(long, value_name = "WINDOW")]
    window: Vec<String>,
    /// At any time.
    #[arg(long)]
    no_window: bool,
}

/// Whole seconds, as the vault counts them.
fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    match ttl.as_secs() {
        0 => Err("it must be at least a second".to_owned()),
        _ => Ok(ttl),
    }
}

#[derive(Serialize)]
struct Token {
    name: String,
    token: String,
    ca_fingerprint: String,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    spiffe_id: String,
    status: String,
    connected: bool,
    last_seen_at: Option<String>,
    identity_not_after: Option<String>,
    software_version: String,
    certificates: Vec<String>,
    windows: Vec<String>,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] =
        &["NAME", "STATUS", "CONNECTED", "LAST SEEN", "IDENTITY ENDS", "VERSION", "CERTIFICATES"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.status.clone(),
            if self.connected { "yes" } else { "no" }.to_owned(),
            output::short(&self.last_seen_at),
            output::short(&self.identity_not_after),
            self.software_version.clone(),
            self.certificates.join(", "),
        ]
    }
}

impl From<v1::Agent> for Shown {
    fn from(agent: v1::Agent) -> Self {
        Self {
            last_seen_at: output::time(agent.last_seen_at),
            identity_not_after: output::time(agent.identity_not_after),
            name: agent.name,
            spiffe_id: agent.spiffe_id,
            status: agent.status,
            connected: agent.connected,
            software_version: agent.software_version,
            certificates: agent.certificates,
            windows: agent.windows,
        }
    }
}

/// Runs one verb.
///
/// # Errors
/// What the vault says.
pub async fn run(context: &Context, verb: Agent) -> Result<()> {
    let one = |agent: v1::Agent| output::one(context.format, &Shown::from(agent));
    if let Agent::Evict { name } = &verb {
        context.confirm(&format!("end every right of agent {name}"))?;
    }
    let mut agents = context.client().await?.agents();
    match verb {
        Agent::Token { name, ttl } => {
            let request =
                v1::CreateJoinTokenRequest { name: name.clone(), ttl_seconds: ttl.as_secs() };
            let made = agents.create_join_token(call(request)).await?.into_inner();
            let token = Token {
                name,
                token: made.token,
                ca_fingerprint: made.ca_fingerprint,
                expires_at: output::time(made.expires_at),
            };
            if context.format == Format::Table {
                output::note("the token is shown once; hand it over as a file");
            }
            output::one(context.format, &token)
        }
        Agent::List => {
            let all = agents.list_agents(call(v1::ListAgentsRequest {})).await?.into_inner();
            let rows: Vec<_> = all.agents.into_iter().map(Shown::from).collect();
            output::list(context.format, &rows)
        }
        Agent::Show { name } => {
            one(agents.get_agent(call(v1::GetAgentRequest { name })).await?.into_inner())
        }
        Agent::Update { name, windows } => {
            let request = v1::UpdateAgentRequest { name, windows: windows.window };
            one(agents.update_agent(call(request)).await?.into_inner())
        }
        Agent::Evict { name } => {
            one(agents.evict_agent(call(v1::EvictAgentRequest { name })).await?.into_inner())
        }
    }
}
