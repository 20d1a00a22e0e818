//! `SystemService`.

use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use vault_proto::{
    ids::{Identity, OperatorName},
    local::VAULT_SERVER_NAME,
    v1::{self, system_service_server::SystemService},
};

use super::{Context, Rooms, convert};
use crate::error::{Error, Result};
use crate::identities::Issued;
use crate::keystore::Escrow;
use crate::policy::{Action, Principal};
use crate::renewal::restored;
use crate::settings;
use crate::store::{AccountRecord, AgentStatus, AlertRecord, CertificateRecord, KeyState};
use crate::x509::ca;

/// How many renewals `Status` lists.
const RENEWALS: usize = 10;

/// The vault itself.
pub(super) struct System(pub(super) Arc<Context>);

/// An identity on the wire.
///
/// # Errors
/// Never for what the internal CA has made.
pub fn identity(issued: &Issued, root_der: &[u8]) -> Result<v1::IssueIdentityResponse> {
    Ok(v1::IssueIdentityResponse {
        chain_pem: ca::pem(&issued.der)?,
        ca_pem: ca::pem(root_der)?,
        spiffe_id: issued.spiffe_id.to_string(),
        not_after: Some(convert::timestamp(issued.not_after)),
        server_name: VAULT_SERVER_NAME.to_owned(),
    })
}

impl System {
    async fn hsm(&self, rooms: &Rooms, keys: u64) -> v1::HsmStatus {
        match rooms.signing.token_info().await {
            Ok(token) => v1::HsmStatus {
                available: true,
                token_label: token.label,
                token_model: token.model,
                token_serial: token.serial,
                keys,
                problem: String::new(),
            },
            Err(error) => v1::HsmStatus { problem: error.to_string(), ..Default::default() },
        }
    }

    async fn escrow(&self) -> Result<v1::EscrowStatus> {
        let keys = self.0.store.keys().await?;
        let living = |escrow: Escrow| {
            let alive = |state| matches!(state, KeyState::Active | KeyState::Retired);
            keys.iter().filter(|key| alive(key.state) && key.escrow == escrow).count() as u64
        };
        let (wrapped_keys, unescrowed_keys) = (living(Escrow::Wrapped), living(Escrow::None));
        let kek = settings::Kek::read(self.0.store.as_ref()).await?;
        Ok(match kek {
            None => v1::EscrowStatus {
                mode: Escrow::None.to_string(),
                wrapped_keys,
                unescrowed_keys,
                ..Default::default()
            },
            Some(kek) => v1::EscrowStatus {
                mode: Escrow::Wrapped.to_string(),
                threshold: u32::try_from(kek.threshold).unwrap_or(u32::MAX),
                custodians: kek.custodians,
                kek_check_value: kek.check_value,
                wrapped_keys,
                unescrowed_keys,
            },
        })
    }

    async fn agents(&self, rooms: &Rooms) -> Result<v1::AgentsStatus> {
        let agents = self.0.store.agents().await?;
        let active = agents.iter().filter(|agent| agent.status == AgentStatus::Active).count();
        Ok(v1::AgentsStatus { active: active as u64, connected: rooms.hub.connected() as u64 })
    }

    async fn renewals(&self) -> Result<Vec<v1::RenewalStatus>> {
        let mut certificates = self.0.store.certificates().await?;
        certificates.sort_by_key(|certificate| certificate.renew_at);
        let mut renewals = Vec::new();
        for certificate in certificates.into_iter().take(RENEWALS) {
            let version =
                self.0.store.version(&certificate.name, certificate.current_version).await?;
            renewals.push(renewal(certificate, version.map(|version| version.not_after)));
        }
        Ok(renewals)
    }

    async fn whole(&self, rooms: &Rooms) -> Result<v1::StatusResponse> {
        let keys = self.0.store.keys().await?;
        let alive = |state| matches!(state, KeyState::Active | KeyState::Retired);
        let count = keys.iter().filter(|key| alive(key.state)).count() as u64;
        let lost = keys.iter().filter(|key| key.state == KeyState::Lost);
        let mut findings: Vec<String> =
            rooms.findings.iter().map(|finding| finding.0.clone()).collect();
        let (store, now) = (self.0.store.as_ref(), self.0.clock.now());
        findings.extend(restored::findings(store, now).await?);
        for key in lost {
            let said = format!("key {} ({}) is LOST: the HSM does not have it", key.name, key.id);
            if !findings.contains(&said) {
                findings.push(said);
            }
        }
        let (store, now) = (&self.0.store, self.0.clock.now());
        let drill = |drill| super::drills::summary(drill, now);
        Ok(v1::StatusResponse {
            initialized: true,
            vault_id: rooms.vault_id.clone(),
            hsm: Some(self.hsm(rooms, count).await),
            escrow: Some(self.escrow().await?),
            cas: self.0.store.accounts().await?.into_iter().map(ca_status).collect(),
            agents: Some(self.agents(rooms).await?),
            renewals: self.renewals().await?,
            findings,
            ca_fingerprint: ca::fingerprint(rooms.identities.root_der()),
            trust_domain: rooms.identities.trust_domain().to_owned(),
            backup: Some(super::backup::status(&self.0).await?),
            last_drill: store.drills(1).await?.pop().map(drill),
            last_proven_drill: store.last_proven_drill().await?.map(drill),
            alerts: store.open_alerts().await?.into_iter().map(alert).collect(),
            ..self.bare().await
        })
    }

    /// What there is to say of any vault.
    async fn bare(&self) -> v1::StatusResponse {
        let schema = self.0.store.ping().await;
        let audit = self.0.audit.status();
        v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(convert::timestamp(self.0.started_at)),
            store: Some(v1::StoreStatus {
                backend: self.0.store.backend().to_owned(),
                available: schema.is_ok(),
                schema_version: schema.unwrap_or_default(),
            }),
            audit: Some(v1::AuditStatus {
                writable: audit.writable,
                records: audit.records,
                head: audit.head,
            }),
            ..Default::default()
        }
    }

    async fn issue(
        &self,
        who: &Principal,
        identity: Identity,
        csr_der: &[u8],
    ) -> Result<v1::IssueIdentityResponse> {
        let identities = &self.0.rooms()?.identities;
        let issued = identities.issue_client(who, identity, csr_der).await?;
        self::identity(&issued, identities.root_der())
    }
}

fn renewal(certificate: CertificateRecord, not_after: Option<OffsetDateTime>) -> v1::RenewalStatus {
    v1::RenewalStatus {
        certificate: certificate.name.to_string(),
        renew_at: Some(convert::timestamp(certificate.renew_at)),
        not_after: not_after.map(convert::timestamp),
        failed_attempts: certificate.failed_attempts,
        last_error: certificate.last_error.unwrap_or_default(),
    }
}

fn alert(alert: AlertRecord) -> v1::Alert {
    v1::Alert {
        kind: alert.kind.to_string(),
        subject: alert.subject,
        detail: alert.detail,
        since: Some(convert::timestamp(alert.since)),
    }
}

fn ca_status(account: AccountRecord) -> v1::CaStatus {
    let status = match (&account.last_error, account.last_ok_at) {
        (Some(_), _) => "failing",
        (None, Some(_)) => "ok",
        (None, None) => "unknown",
    };
    v1::CaStatus {
        account: account.name.to_string(),
        directory: account.directory.to_string(),
        status: status.to_owned(),
        last_error: account.last_error.unwrap_or_default(),
        last_ok_at: account.last_ok_at.map(convert::timestamp),
    }
}

#[tonic::async_trait]
impl SystemService for System {
    async fn init(
        &self,
        request: Request<v1::InitRequest>,
    ) -> Result<Response<v1::InitResponse>, Status> {
        let who = self.0.peer(&request).await?;
        self.0.allow(&who, Action::SystemInit, "vault").await?;
        let request = request.into_inner();
        let initializer = self.0.initializer.get().ok_or_else(|| {
            Error::conflict("initialise", "this vault", "it is initialised already")
                .hint("`vaultctl status` shows it")
        })?;
        let custodians: Vec<_> = request.custodians.iter().map(|c| c.name.clone()).collect();
        let detail = json!({ "custodians": custodians, "threshold": request.threshold,
            "operator": request.operator });
        let init = initializer.init(&who, request);
        let done = self.0.audited(&who, Action::SystemInit, "vault", detail, init).await?;
        Ok(Response::new(done))
    }

    async fn list_shares(
        &self,
        request: Request<v1::ListSharesRequest>,
    ) -> Result<Response<v1::ListSharesResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let read = settings::Kek::read(self.0.store.as_ref());
        let detail = json!({ "change": "hand out encrypted shares" });
        let kek = self.0.audited(&who, Action::SystemInit, "kek", detail, read).await?;
        let shares = kek.iter().flat_map(super::shares).collect();
        let kek_transcript = kek.map(|kek| kek.transcript).unwrap_or_default();
        Ok(Response::new(v1::ListSharesResponse { shares, kek_transcript }))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let who = self.0.peer(&request).await?;
        self.0.allow(&who, Action::SystemStatus, "vault").await?;
        let status = match self.0.rooms.get() {
            Some(rooms) => self.whole(rooms).await?,
            None => self.bare().await,
        };
        Ok(Response::new(status))
    }

    async fn issue_identity(
        &self,
        request: Request<v1::IssueIdentityRequest>,
    ) -> Result<Response<v1::IssueIdentityResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name: OperatorName = request.name.parse().map_err(Error::from)?;
        let identity = match request.role.as_str() {
            "operator" => Identity::Operator(name),
            "auditor" => Identity::Auditor(name),
            other => {
                let subject = format!("role {other:?}");
                let error = Error::invalid("issue an identity", subject, "it is not known");
                return Err(error.hint("use operator or auditor").into());
            }
        };
        let (resource, detail) = (identity.to_string(), json!({ "change": "issue identity" }));
        let issue = self.issue(&who, identity, &request.csr_der);
        let done = self.0.audited(&who, Action::IdentityIssue, &resource, detail, issue).await?;
        Ok(Response::new(done))
    }
}
