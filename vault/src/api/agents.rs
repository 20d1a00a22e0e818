//! `AgentService`: operators' side of agents.

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::Duration;
use tonic::{Request, Response, Status};
use vault_proto::{
    ids::{AgentName, Identity},
    v1::{self, agent_service_server::AgentService},
};

use super::{Context, convert};
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::store::{AgentRecord, AgentStatus, AgentSummary};
use crate::x509::ca;

/// How long a join token is good for where the operator does not say, in seconds.
const DEFAULT_TTL: u64 = 3600;
/// The longest that a join token may be good for, in seconds: a week.
const LONGEST_TTL: u64 = 7 * 24 * 3600;

/// Agents.
pub(super) struct Agents(pub(super) Arc<Context>);

/// What the store keeps of a join token.
pub(super) fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

fn missing(name: &AgentName) -> Error {
    Error::not_found("find", format!("agent {name}"), "the vault has no such agent")
        .hint("`vaultctl agent list` shows what there is")
}

impl Agents {
    /// Refuses a name that no agent has.
    async fn require(&self, name: &AgentName) -> Result<()> {
        self.0.store.agent(name).await?.map(drop).ok_or_else(|| missing(name))
    }

    async fn find(&self, name: &AgentName) -> Result<AgentSummary> {
        self.0.store.agent_summary(name).await?.ok_or_else(|| missing(name))
    }

    fn shown(&self, summary: AgentSummary) -> Result<v1::Agent> {
        let AgentSummary { agent, windows, certificates } = summary;
        let rooms = self.0.rooms()?;
        let spiffe_id = rooms.identities.spiffe_id(Identity::Agent(agent.name.clone()))?;
        Ok(v1::Agent {
            windows: windows.iter().map(ToString::to_string).collect(),
            spiffe_id: spiffe_id.to_string(),
            status: agent.status.to_string(),
            connected: rooms.hub.is_connected(&agent.name),
            last_seen_at: agent.last_seen_at.map(convert::timestamp),
            identity_not_after: agent.identity_not_after.map(convert::timestamp),
            software_version: agent.software_version,
            certificates: certificates.iter().map(ToString::to_string).collect(),
            name: agent.name.to_string(),
        })
    }

    /// Names the agent and keeps the token's hash.
    async fn invite(
        &self,
        name: &AgentName,
        token: &str,
        ttl: u64,
    ) -> Result<time::OffsetDateTime> {
        let now = self.0.clock.now();
        let expires_at = now + Duration::seconds(i64::try_from(ttl).unwrap_or(i64::MAX));
        let agent = match self.0.store.agent(name).await? {
            // An active agent stays so until the new token is used: it may be a reinstallation.
            Some(agent) if agent.status == AgentStatus::Active => None,
            Some(agent) => Some(AgentRecord { status: AgentStatus::Invited, ..agent }),
            None => Some(AgentRecord {
                name: name.clone(),
                status: AgentStatus::Invited,
                identity_not_after: None,
                last_seen_at: None,
                software_version: String::new(),
                created_at: now,
            }),
        };
        if let Some(agent) = agent {
            self.0.store.put_agent(&agent).await?;
        }
        self.0.store.insert_join_token(&token_hash(token), name, expires_at).await?;
        Ok(expires_at)
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name: AgentName = request.name.parse().map_err(Error::from)?;
        let ttl = if request.ttl_seconds == 0 { DEFAULT_TTL } else { request.ttl_seconds };
        if ttl > LONGEST_TTL {
            let why = format!("a join token is good for {LONGEST_TTL} seconds at most");
            return Err(Error::invalid("invite", format!("agent {name}"), why).into());
        }
        let mut secret = [0u8; 32];
        rand::fill(&mut secret).map_err(|_| {
            Error::unavailable("invite", format!("agent {name}"), "no random numbers")
        })?;
        let token = format!("vjt_{}", B64.encode(secret));
        let detail = json!({ "change": "invite", "ttl_seconds": ttl });
        let resource = format!("agent/{name}");
        let change = self.invite(&name, &token, ttl);
        let expires_at =
            self.0.audited(&who, Action::AgentManage, &resource, detail, change).await?;
        Ok(Response::new(v1::CreateJoinTokenResponse {
            token,
            ca_fingerprint: ca::fingerprint(self.0.rooms()?.identities.root_der()),
            expires_at: Some(convert::timestamp(expires_at)),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::AgentRead, "agent/*").await?;
        let summaries = self.0.store.agent_summaries().await?;
        let agents: Result<_> = summaries.into_iter().map(|agent| self.shown(agent)).collect();
        Ok(Response::new(v1::ListAgentsResponse { agents: agents? }))
    }

    async fn get_agent(
        &self,
        request: Request<v1::GetAgentRequest>,
    ) -> Result<Response<v1::Agent>, Status> {
        let who = self.0.principal(&request).await?;
        let name: AgentName = request.into_inner().name.parse().map_err(Error::from)?;
        self.0.allow(&who, Action::AgentRead, &format!("agent/{name}")).await?;
        let agent = self.find(&name).await?;
        Ok(Response::new(self.shown(agent)?))
    }

    async fn evict_agent(
        &self,
        request: Request<v1::EvictAgentRequest>,
    ) -> Result<Response<v1::Agent>, Status> {
        let who = self.0.principal(&request).await?;
        let name: AgentName = request.into_inner().name.parse().map_err(Error::from)?;
        let rooms = self.0.rooms()?;
        let evict = async {
            self.require(&name).await?;
            let spiffe_id = rooms.identities.spiffe_id(Identity::Agent(name.clone()))?;
            let now = self.0.clock.now();
            self.0.store.evict_agent(&name, &spiffe_id.to_string(), now).await?;
            rooms.hub.close(&name);
            Ok(())
        };
        let (resource, detail) = (format!("agent/{name}"), json!({ "change": "evict" }));
        self.0.audited(&who, Action::AgentManage, &resource, detail, evict).await?;
        let agent = self.find(&name).await?;
        Ok(Response::new(self.shown(agent)?))
    }

    async fn update_agent(
        &self,
        request: Request<v1::UpdateAgentRequest>,
    ) -> Result<Response<v1::Agent>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name: AgentName = request.name.parse().map_err(Error::from)?;
        let windows = convert::windows(&request.windows)?;
        let update = async {
            self.require(&name).await?;
            self.0.store.set_agent_windows(&name, &windows).await
        };
        let detail = json!({ "change": "update", "windows": windows });
        let resource = format!("agent/{name}");
        self.0.audited(&who, Action::AgentManage, &resource, detail, update).await?;
        self.0.rooms()?.wake.notify_one();
        let agent = self.find(&name).await?;
        Ok(Response::new(self.shown(agent)?))
    }
}
