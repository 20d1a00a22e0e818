//! `vaultctl cert rollout`.

use clap::Args;
use serde::Serialize;
use vault_proto::v1;

use super::super::Context;
use crate::client::{Client, call};
use crate::error::Result;
use crate::output::{self, Row};

/// Which rollout, and what to do with it.
#[derive(Debug, Args)]
pub struct Rollout {
    /// The certificate's name.
    name: String,
    /// Try it again where it was stopped, beginning with the same agent.
    #[arg(long, conflicts_with = "abandon")]
    resume: bool,
    /// Call it off: every agent goes back to the version before.
    #[arg(long)]
    abandon: bool,
}

/// Runs it.
///
/// # Errors
/// What the vault says.
pub(super) async fn run(context: &Context, client: &Client, args: Rollout) -> Result<()> {
    let mut certificates = client.certificates();
    let Rollout { name, resume, abandon } = args;
    let change = match (resume, abandon) {
        (true, _) => Some(v1::RolloutChange::Resume),
        (_, true) => Some(v1::RolloutChange::Abandon),
        _ => None,
    };
    let found = match change {
        Some(change) => {
            let request = v1::ChangeRolloutRequest { name, change: change.into() };
            certificates.change_rollout(call(request)).await?
        }
        None => certificates.get_rollout(call(v1::GetRolloutRequest { name })).await?,
    };
    output::one(context.format, &Shown::from(found.into_inner()))
}

/// A rollout.
#[derive(Serialize)]
struct Shown {
    certificate: String,
    version: u64,
    base_version: u64,
    state: String,
    canary: String,
    since: Option<String>,
    detail: String,
    agents: Vec<Agent>,
}

/// One agent in it.
#[derive(Serialize)]
struct Agent {
    agent: String,
    role: &'static str,
    held_version: u64,
    wanted_version: u64,
    status: String,
    detail: String,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] =
        &["CERTIFICATE", "VERSION", "BEFORE", "STATE", "CANARY", "SINCE", "DETAIL"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.certificate.clone(),
            self.version.to_string(),
            self.base_version.to_string(),
            self.state.clone(),
            self.canary.clone(),
            output::short(&self.since),
            self.detail.clone(),
        ]
    }
}

impl From<v1::Rollout> for Shown {
    fn from(rollout: v1::Rollout) -> Self {
        let agent = |deployment: v1::Deployment| Agent {
            role: if deployment.agent == rollout.canary { "canary" } else { "follower" },
            agent: deployment.agent,
            held_version: deployment.held_version,
            wanted_version: deployment.wanted_version,
            status: deployment.status,
            detail: deployment.detail,
        };
        Self {
            agents: rollout.deployments.into_iter().map(agent).collect(),
            certificate: rollout.certificate,
            version: rollout.version,
            base_version: rollout.base_version,
            state: rollout.state,
            canary: rollout.canary,
            since: output::time(rollout.since),
            detail: rollout.detail,
        }
    }
}
