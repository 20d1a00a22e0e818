//! `AgentSessionService`: the agent's own side.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use vault_proto::{
    ids::{AgentName, Identity},
    local::VAULT_SERVER_NAME,
    v1::{self, agent_message::Message, agent_session_service_server::AgentSessionService},
};

use super::{Context, agents::token_hash};
use crate::error::{Error, Result};
use crate::identities::Issued;
use crate::policy::{Action, Principal};
use crate::push::{Changes, DesiredState, Foreign, Session, View};
use crate::store::{AgentRecord, AgentSeen, AgentStatus};
use crate::x509::ca;

/// How long an agent may take to say hello, and to take a message.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a silent agent with an open stream counts as seen.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How long a refused join keeps its slot: with [`JOINS`] it bounds how fast tokens can be tried,
/// and how fast nobody known can fill the audit log.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);
/// Joins that are looked at at once.
const JOINS: usize = 4;

/// Agents' sessions.
pub(super) struct Sessions {
    context: Arc<Context>,
    joins: Semaphore,
}

impl Sessions {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, joins: Semaphore::new(JOINS) }
    }

    /// The agent that calls, or a refusal.
    async fn agent<T>(&self, request: &Request<T>) -> Result<(Principal, AgentName)> {
        self.context.agent(request.extensions().get()).await
    }

    fn identity(&self, name: &AgentName, issued: &Issued) -> Result<v1::IdentityResponse> {
        let root = self.context.rooms()?.identities.root_der();
        Ok(v1::IdentityResponse {
            chain_pem: ca::pem(&issued.der)?,
            ca_pem: ca::pem(root)?,
            name: name.to_string(),
            spiffe_id: issued.spiffe_id.to_string(),
            server_name: VAULT_SERVER_NAME.to_owned(),
        })
    }

    async fn join(&self, request: &v1::EnrollRequest) -> Result<v1::IdentityResponse> {
        // A request that cannot be fulfilled must not use the token up.
        ca::identity_csr(&request.csr_der)?;
        let rooms = self.context.rooms()?;
        let now = self.context.clock.now();
        let name = self.context.store.redeem_join_token(&token_hash(&request.token), now).await?;
        let identity = Identity::Agent(name.clone());
        let joining = Principal::Anonymous;
        let issued = rooms.identities.issue_client(&joining, identity, &request.csr_der).await?;
        let known = self.context.store.agent(&name).await?;
        let created_at = known.as_ref().map_or(now, |agent| agent.created_at);
        self.context
            .store
            .put_agent(&AgentRecord {
                name: name.clone(),
                status: AgentStatus::Active,
                identity_not_after: Some(issued.not_after),
                last_seen_at: Some(now),
                software_version: known.map(|agent| agent.software_version).unwrap_or_default(),
                created_at,
            })
            .await?;
        self.identity(&name, &issued)
    }

    async fn renew(&self, who: &Principal, name: &AgentName, csr: &[u8]) -> Result<Issued> {
        let rooms = self.context.rooms()?;
        let identity = Identity::Agent(name.clone());
        let issued = rooms.identities.issue_client(who, identity, csr).await?;
        let not_after = Some(issued.not_after);
        match note(&self.context, name, None, not_after).await? {
            true => Ok(issued),
            // Evicted meanwhile: what was issued is not handed out.
            false => Err(Error::denied("renew", format!("agent {name}"), "it is not active")),
        }
    }
}

/// Notes that an agent was heard of; `false` where it is not active any more.
async fn note(
    context: &Context,
    name: &AgentName,
    software_version: Option<String>,
    identity_not_after: Option<OffsetDateTime>,
) -> Result<bool> {
    let at = context.clock.now();
    let seen = AgentSeen { at, software_version, identity_not_after };
    context.store.note_agent(name, &seen).await
}

type Down = mpsc::Sender<Result<v1::VaultMessage, Status>>;

/// Holds one stream: the desired state down, reports up.
async fn hold(
    context: &Context,
    session: &Session,
    foreign: &[Foreign],
    mut up: Streaming<v1::AgentMessage>,
    down: &Down,
) -> Result<()> {
    let name = session.agent();
    let view =
        View { store: context.store.as_ref(), clock: context.clock.as_ref(), agent: name, foreign };
    let mut state = DesiredState::whole(view).await?;
    let (mut sequence, mut next) = (0, state.message(None, 1));
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Some(message) = next.take() {
            sequence = message.sequence;
            // An agent that does not read is cut off; it reconnects and gets the whole state.
            if down.send_timeout(Ok(message), PATIENCE).await.is_err() {
                return Ok(());
            }
        }
        let changes = tokio::select! {
            // Agents reconnect to the next node.
            () = context.stopping.cancelled() => {
                let subject = format!("the session of {name}");
                return Err(Error::unavailable("hold", subject, "the vault is stopping"));
            }
            changes = session.wait_changed() => changes.ok_or_else(|| Error::conflict("hold",
                format!("the session of {name}"), "it was closed by the vault"))?,
            message = up.message() => match message {
                Ok(Some(v1::AgentMessage { message: Some(Message::Report(report)) })) => {
                    session.hub().report(name, report).await?;
                    continue;
                }
                Ok(Some(_)) => return Err(Error::invalid("hold", format!("the session of {name}"),
                    "the agent said what it may not say twice")),
                Ok(None) | Err(_) => return Ok(()),
            },
            _ = heartbeat.tick() => {
                note(context, name, None, None).await?;
                // What another node changed, or a write that was done though its answer was
                // lost, marks no session here.
                Changes::All
            }
        };
        next = state.follow(view, &changes, sequence + 1).await?;
    }
}

#[tonic::async_trait]
impl AgentSessionService for Sessions {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        let who = self.context.peer(&request).await?;
        let request = request.into_inner();
        let slot = self.joins.acquire().await;
        let join = self.join(&request);
        let joined =
            self.context.audited(&who, Action::AgentEnroll, "agent", json!({}), join).await;
        if joined.is_err() {
            tokio::time::sleep(REFUSAL_PAUSE).await;
        }
        drop(slot);
        Ok(Response::new(joined?))
    }

    async fn renew_identity(
        &self,
        request: Request<v1::RenewIdentityRequest>,
    ) -> Result<Response<v1::IdentityResponse>, Status> {
        let (who, name) = self.agent(&request).await?;
        let csr = request.into_inner().csr_der;
        let renew = self.renew(&who, &name, &csr);
        let (resource, detail) = (format!("agent/{name}"), json!({ "change": "renew identity" }));
        let issued =
            self.context.audited(&who, Action::AgentSession, &resource, detail, renew).await?;
        Ok(Response::new(self.identity(&name, &issued)?))
    }

    type SubscribeStream = ReceiverStream<Result<v1::VaultMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (_, name) = self.agent(&request).await?;
        let mut up = request.into_inner();
        let first = tokio::time::timeout(PATIENCE, up.message()).await;
        let Ok(Ok(Some(v1::AgentMessage { message: Some(Message::Hello(hello)) }))) = first else {
            let subject = format!("the session of {name}");
            return Err(Error::invalid("open", subject, "the first message is no hello").into());
        };
        let version: String = hello.software_version.chars().take(80).collect();
        note(&self.context, &name, Some(version), None).await?;
        let rooms = self.context.rooms()?;
        // Before it is told anything: what it holds may be newer than what is known here.
        let foreign = rooms.issuer.hear(&name, hello.held).await?;
        if !foreign.is_empty() {
            rooms.wake.notify_one();
        }
        let session = rooms.hub.open(name);
        let (down, receiver) = mpsc::channel(16);
        let context = self.context.clone();
        tokio::spawn(async move {
            tracing::info!(agent = %session.agent(), "connected");
            if let Err(error) = hold(&context, &session, &foreign, up, &down).await {
                let _ = down.send_timeout(Err(error.into()), PATIENCE).await;
            }
            tracing::info!(agent = %session.agent(), "disconnected");
            if let Err(error) = note(&context, session.agent(), None, None).await {
                tracing::warn!(%error, "when an agent was last seen cannot be stored");
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn submit_csr(
        &self,
        request: Request<v1::SubmitCsrRequest>,
    ) -> Result<Response<v1::SubmitCsrResponse>, Status> {
        let (who, agent) = self.agent(&request).await?;
        let request = request.into_inner();
        let name = request.certificate.parse().map_err(Error::from)?;
        let order = request.order_id.parse().map_err(Error::from)?;
        let rooms = self.context.rooms()?;
        let accept = async {
            if self.context.store.deployment(&name, &agent).await?.is_none() {
                let why = format!("it is not deployed to agent {agent}");
                return Err(Error::denied("accept a CSR", format!("certificate {name}"), why));
            }
            rooms.issuer.accept_csr(&name, order, &request.csr_der).await
        };
        let detail = json!({ "agent": agent, "order": order.to_string() });
        let resource = format!("certificate/{name}");
        self.context.audited(&who, Action::AgentSession, &resource, detail, accept).await?;
        rooms.wake.notify_one();
        Ok(Response::new(v1::SubmitCsrResponse {}))
    }
}
