//! `CertificateService`.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use vault_proto::{
    ids::{AccountName, AgentName, CertificateName},
    v1::{self, certificate_service_server::CertificateService},
};

use super::rollouts::{self, Spread};
use super::{Context, convert, plan};
use crate::error::{Error, Result};
use crate::keystore::Algorithm;
use crate::policy::Action;
use crate::renewal::{Declaration, Issuer, Revocation, RevokedBy, SettingsChange};
use crate::store::{CertificateSettings, CertificateView, TlsUse};
use crate::wire;
use crate::x509::preferred;

/// Certificates of a list that are read at once: they have their chains with them.
const PAGE: u32 = 500;

/// Certificates.
pub(super) struct Certificates(pub(super) Arc<Context>);

type Answer = Result<Response<v1::Certificate>, Status>;

fn name(text: &str) -> Result<CertificateName> {
    Ok(text.parse()?)
}

fn agents(names: &[String]) -> Result<Vec<AgentName>> {
    let mut agents = Vec::new();
    for name in names {
        let agent: AgentName = name.parse()?;
        if !agents.contains(&agent) {
            agents.push(agent);
        }
    }
    Ok(agents)
}

fn declaration(request: v1::IssueCertificateRequest) -> Result<Declaration> {
    Ok(Declaration {
        name: name(&request.name)?,
        account: request.account.parse()?,
        identifiers: convert::identifiers(&request.domains, &request.ips)?,
        custody: convert::custody(request.custody()),
        algorithm: convert::algorithm(request.algorithm()).unwrap_or(Algorithm::EcP256),
        deploy_to: agents(&request.deploy_to)?,
        canary: rollouts::agent(&request.canary)?,
        must_staple: request.must_staple,
        settings: CertificateSettings {
            challenge: request.challenge.parse()?,
            profile: profile(request.profile),
            tls_use: match request.tls_use.as_str() {
                "" => TlsUse::Message,
                named => named.parse()?,
            },
            rotate_key: request.rotate_key,
            fallback: accounts(&request.fallback)?,
            preferred_chain: profile(request.preferred_chain),
            windows: convert::windows(&request.windows)?,
        },
    })
}

fn accounts(names: &[String]) -> Result<Vec<AccountName>> {
    names.iter().map(|name| Ok(name.parse()?)).collect()
}

/// An empty profile or issuer is the CA's default.
fn profile(text: String) -> Option<String> {
    Some(text).filter(|profile| !profile.is_empty())
}

fn settings_change(request: v1::UpdateCertificateRequest) -> Result<SettingsChange> {
    let change = SettingsChange {
        challenge: request.challenge.map(|challenge| challenge.parse()).transpose()?,
        profile: request.profile.map(profile),
        tls_use: request.tls_use.map(|tls_use| tls_use.parse()).transpose()?,
        rotate_key: request.rotate_key,
        fallback: request.fallback.map(|list| accounts(&list.names)).transpose()?,
        preferred_chain: request.preferred_chain.map(profile),
        windows: request.windows.map(|list| convert::windows(&list.windows)).transpose()?,
        canary: request.canary.map(|name| rollouts::agent(&name)).transpose()?,
    };
    if change == SettingsChange::default() {
        let subject = format!("certificate {}", request.name);
        return Err(Error::invalid("update", subject, "no change is named")
            .hint("name at least one setting: `vaultctl cert update --help` lists them"));
    }
    Ok(change)
}

/// A certificate with all that is shown of it.
fn whole(issuer: &Issuer, view: CertificateView) -> v1::Certificate {
    let activity = issuer.activity(&view);
    let plan = issuer.renewal_plan(&view);
    let Spread { deployments, rollout, canary } = Spread::of(&view);
    let CertificateView { certificate: record, version, check, staple_next_update, .. } = view;
    let (rollout_state, rollout_detail) =
        rollout.map(|rollout| (rollout.state.to_string(), rollout.detail)).unwrap_or_default();
    let (domains, ips) = wire::identifiers(&record.identifiers);
    let key_id = version.as_ref().and_then(|version| version.key_id).or(record.key_id);
    let names = record.fallback.iter().map(ToString::to_string).collect();
    let issued_by = version.as_ref().map(|v| v.account.to_string()).unwrap_or_default();
    let orders_with = record.account_in_turn().to_string();
    let wanted = record.preferred_chain.as_deref().zip(version.as_ref());
    let chain_note = wanted.and_then(|(issuer, v)| preferred::note(&v.chain_pem, issuer));
    v1::Certificate {
        name: record.name.to_string(),
        account: record.account.to_string(),
        domains,
        ips,
        challenge: record.challenge.to_string(),
        custody: v1::Custody::from(record.custody).into(),
        algorithm: v1::KeyAlgorithm::from(record.algorithm).into(),
        status: record.status.to_string(),
        progress: activity.as_str().to_owned(),
        version: record.current_version,
        serial: version.as_ref().map(|v| v.serial.clone()).unwrap_or_default(),
        not_before: version.as_ref().map(|v| convert::timestamp(v.not_before)),
        not_after: version.as_ref().map(|v| convert::timestamp(v.not_after)),
        renew_at: Some(convert::timestamp(record.renew_at)),
        last_error: record.last_error.unwrap_or_default(),
        failed_attempts: record.failed_attempts,
        chain_pem: version.map(|version| version.chain_pem).unwrap_or_default(),
        deployments,
        key_id: key_id.map(|id| id.to_string()).unwrap_or_default(),
        profile: record.profile.unwrap_or_default(),
        must_staple: record.must_staple,
        tls_use: record.tls_use.to_string(),
        rotate_key: record.rotate_key,
        fallback: names,
        preferred_chain: record.preferred_chain.unwrap_or_default(),
        issued_by,
        orders_with,
        windows: record.windows.iter().map(ToString::to_string).collect(),
        waits_for: String::new(),
        chain_note: chain_note.unwrap_or_default(),
        renewal_window_start: plan.window.map(|window| convert::timestamp(window.start)),
        renewal_window_end: plan.window.map(|window| convert::timestamp(window.end)),
        explanation_url: plan.explanation.map(String::from).unwrap_or_default(),
        renewal_reason: plan.reason.to_string(),
        rollout_state,
        canary,
        rollout_detail,
        revocation: check.as_ref().map(|c| c.status.to_string()).unwrap_or_default(),
        revocation_source: check.as_ref().map(|c| c.source.clone()).unwrap_or_default(),
        revocation_checked_at: check.as_ref().map(|c| convert::timestamp(c.checked_at)),
        revocation_detail: check.map(|c| c.detail).unwrap_or_default(),
        staple_next_update: staple_next_update.map(convert::timestamp),
    }
}

/// A certificate as it is shown now.
async fn shown(context: &Context, name: &CertificateName) -> Result<v1::Certificate> {
    let issuer = &context.rooms()?.issuer;
    Ok(whole(issuer, issuer.view(name).await?))
}

impl Certificates {
    async fn answer(&self, name: &CertificateName) -> Answer {
        let issuer = &self.0.rooms()?.issuer;
        let view = issuer.view(name).await?;
        let waits_for = issuer.waits_for(&view.certificate).await?.unwrap_or_default();
        Ok(Response::new(v1::Certificate { waits_for, ..whole(issuer, view) }))
    }

    /// One that was changed just now. What it waits for is not known before the runner has looked.
    async fn changed(&self, name: &CertificateName) -> Answer {
        Ok(Response::new(shown(&self.0, name).await?))
    }
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn issue_certificate(&self, request: Request<v1::IssueCertificateRequest>) -> Answer {
        let who = self.0.principal(&request).await?;
        let new = declaration(request.into_inner())?;
        let rooms = self.0.rooms()?;
        let (resource, detail) = (format!("certificate/{}", new.name), Issuer::summary(&new));
        let change = rooms.issuer.declare(new);
        let action = Action::CertificateManage;
        let declared = self.0.audited(&who, action, &resource, detail, change).await?;
        rooms.wake.notify_one();
        self.changed(&declared.name).await
    }

    async fn list_certificates(
        &self,
        request: Request<v1::ListCertificatesRequest>,
    ) -> Result<Response<v1::ListCertificatesResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::CertificateRead, "certificate/*").await?;
        let issuer = &self.0.rooms()?.issuer;
        let (mut certificates, mut last) = (Vec::new(), None);
        loop {
            let page = self.0.store.certificate_views(last.as_ref(), PAGE).await?;
            let Some(behind) = page.last() else { break };
            last = Some(behind.certificate.name.clone());
            let shown = page.into_iter().map(|view| whole(issuer, view));
            certificates
                .extend(shown.map(|shown| v1::Certificate { chain_pem: String::new(), ..shown }));
        }
        Ok(Response::new(v1::ListCertificatesResponse { certificates }))
    }

    async fn get_certificate(&self, request: Request<v1::GetCertificateRequest>) -> Answer {
        let who = self.0.principal(&request).await?;
        let name = name(&request.into_inner().name)?;
        self.0.allow(&who, Action::CertificateRead, &format!("certificate/{name}")).await?;
        self.answer(&name).await
    }

    async fn certificate_history(
        &self,
        request: Request<v1::CertificateHistoryRequest>,
    ) -> Result<Response<v1::CertificateHistoryResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let name = name(&request.into_inner().name)?;
        self.0.allow(&who, Action::CertificateRead, &format!("certificate/{name}")).await?;
        self.0.rooms()?.issuer.find(&name).await?;
        let versions = self.0.store.versions(&name).await?;
        let versions = versions.into_iter().map(v1::CertificateVersion::from).collect();
        Ok(Response::new(v1::CertificateHistoryResponse { versions }))
    }

    type WatchCertificateStream = ReceiverStream<Result<v1::Certificate, Status>>;

    async fn watch_certificate(
        &self,
        request: Request<v1::WatchCertificateRequest>,
    ) -> Result<Response<Self::WatchCertificateStream>, Status> {
        let who = self.0.principal(&request).await?;
        let name = name(&request.into_inner().name)?;
        self.0.allow(&who, Action::CertificateRead, &format!("certificate/{name}")).await?;
        // Subscribed before the first look, so that no change falls in between.
        let mut changes = self.0.rooms()?.hub.watch(&name);
        let mut seen = self.answer(&name).await?.into_inner();
        seen.waits_for.clear();
        let (sender, receiver) = mpsc::channel(8);
        let context = self.0.clone();
        tokio::spawn(async move {
            if sender.send(Ok(seen.clone())).await.is_err() {
                return;
            }
            loop {
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                    () = context.stopping.cancelled() => return,
                }
                match shown(&context, &name).await {
                    Ok(now) if now == seen => {}
                    Ok(now) => {
                        seen = now.clone();
                        if sender.send(Ok(now)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => return drop(sender.send(Err(error.into())).await),
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn update_certificate(&self, request: Request<v1::UpdateCertificateRequest>) -> Answer {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name = name(&request.name)?;
        let change = settings_change(request)?;
        let (resource, detail) = (format!("certificate/{name}"), change.summary());
        let rooms = self.0.rooms()?;
        let change = rooms.issuer.update(&name, change);
        self.0.audited(&who, Action::CertificateManage, &resource, detail, change).await?;
        rooms.wake.notify_one();
        self.changed(&name).await
    }

    async fn renew_certificate(&self, request: Request<v1::RenewCertificateRequest>) -> Answer {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name = name(&request.name)?;
        let rooms = self.0.rooms()?;
        let (resource, detail) =
            (format!("certificate/{name}"), json!({ "change": "renew", "force": request.force }));
        let change = rooms.issuer.renew(&name, request.force);
        let action = Action::CertificateManage;
        let renewed = self.0.audited(&who, action, &resource, detail, change).await?;
        rooms.wake.notify_one();
        Ok(Response::new(whole(&rooms.issuer, renewed)))
    }

    async fn revoke_certificate(&self, request: Request<v1::RevokeCertificateRequest>) -> Answer {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name = name(&request.name)?;
        let by = match request.by.as_str() {
            "" => RevokedBy::Account,
            named => named.parse()?,
        };
        let revocation = Revocation { reason: request.reason, by, replace: !request.no_replace };
        let (resource, detail) = (format!("certificate/{name}"), revocation.summary());
        let rooms = self.0.rooms()?;
        let change = rooms.issuer.revoke(&who, &name, &revocation);
        self.0.audited(&who, Action::CertificateManage, &resource, detail, change).await?;
        rooms.wake.notify_one();
        self.changed(&name).await
    }

    async fn delete_certificate(
        &self,
        request: Request<v1::DeleteCertificateRequest>,
    ) -> Result<Response<v1::DeleteCertificateResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let name = name(&request.into_inner().name)?;
        let (resource, detail) = (format!("certificate/{name}"), json!({ "change": "delete" }));
        let change = self.0.rooms()?.issuer.delete(&who, &name);
        self.0.audited(&who, Action::CertificateManage, &resource, detail, change).await?;
        Ok(Response::new(v1::DeleteCertificateResponse {}))
    }

    async fn deploy_certificate(&self, request: Request<v1::DeployCertificateRequest>) -> Answer {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let (name, to) = (name(&request.name)?, agents(&request.agents)?);
        let (resource, detail) =
            (format!("certificate/{name}"), json!({ "change": "deploy", "to": to }));
        let change = self.0.rooms()?.issuer.deploy(&name, &to);
        self.0.audited(&who, Action::CertificateManage, &resource, detail, change).await?;
        self.changed(&name).await
    }

    async fn undeploy_certificate(
        &self,
        request: Request<v1::UndeployCertificateRequest>,
    ) -> Answer {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let (name, from) = (name(&request.name)?, agents(&request.agents)?);
        let (resource, detail) =
            (format!("certificate/{name}"), json!({ "change": "undeploy", "from": from }));
        let change = self.0.rooms()?.issuer.undeploy(&name, &from);
        self.0.audited(&who, Action::CertificateManage, &resource, detail, change).await?;
        self.changed(&name).await
    }

    async fn plan(
        &self,
        request: Request<v1::PlanRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::CertificateRead, "certificate/*").await?;
        Ok(Response::new(plan::plan(&self.0, &request.into_inner()).await?))
    }

    async fn rehearse(
        &self,
        request: Request<v1::RehearseRequest>,
    ) -> Result<Response<v1::RehearseResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::CertificateRead, "certificate/*").await?;
        Ok(Response::new(plan::rehearse(&self.0, &request.into_inner()).await?))
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let who = self.0.principal(&request).await?;
        let name = name(&request.into_inner().name)?;
        self.0.allow(&who, Action::CertificateRead, &format!("certificate/{name}")).await?;
        Ok(Response::new(rollouts::whole(&self.0, &name).await?))
    }

    async fn change_rollout(
        &self,
        request: Request<v1::ChangeRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let (name, change) = (name(&request.name)?, rollouts::Change::read(&request)?);
        let detail = json!({ "change": change.as_str() });
        let resource = format!("certificate/{name}");
        let done = change.make(&self.0, &name);
        self.0.audited(&who, Action::CertificateManage, &resource, detail, done).await?;
        Ok(Response::new(rollouts::whole(&self.0, &name).await?))
    }
}
