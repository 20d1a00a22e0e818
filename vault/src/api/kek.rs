//! `KekService`.

use std::sync::Arc;

use serde_json::json;
use tonic::{Request, Response, Status};
use vault_proto::v1::{self, kek_service_server::KekService};

use super::{Context, convert};
use crate::backup::ceremony::{EncryptedShare, Quorum};
use crate::error::{Error, Result};
use crate::policy::Action;
use crate::settings::{self, Vault};

/// The KEK and its shares.
pub(super) struct Kek(pub(super) Arc<Context>);

/// A KEK's shares on the wire.
pub fn shares(kek: &settings::Kek) -> impl Iterator<Item = v1::EncryptedShare> + '_ {
    kek.shares.iter().map(|share| v1::EncryptedShare {
        custodian: share.custodian.clone(),
        age_armored: share.age_armored.clone(),
        recipient: share.recipient.clone(),
    })
}

fn shown(kek: &settings::Kek, state: &str) -> v1::Kek {
    v1::Kek {
        id: kek.id.to_string(),
        check_value: kek.check_value.clone(),
        state: state.to_owned(),
        threshold: u32::try_from(kek.threshold).unwrap_or(u32::MAX),
        custodians: kek.custodians.clone(),
        made_at: Some(convert::timestamp(kek.made_at)),
        transcript: kek.transcript.clone(),
    }
}

fn all(vault: &Vault) -> Vec<v1::Kek> {
    let in_force = vault.kek.as_ref();
    let earlier = vault.earlier_keks.iter().map(|kek| {
        let same = in_force.is_some_and(|in_force| in_force.id == kek.id);
        shown(kek, if same { "reshared" } else { "replaced" })
    });
    let now = in_force.map(|kek| shown(kek, "in-force"));
    let next = vault.next_kek.as_ref().map(|kek| shown(kek, "pending"));
    now.into_iter().chain(next).chain(earlier).collect()
}

fn ceremony(kek: &settings::Kek) -> v1::KekCeremony {
    v1::KekCeremony {
        kek_id: kek.id.to_string(),
        check_value: kek.check_value.clone(),
        shares: shares(kek).collect(),
        transcript: kek.transcript.clone(),
    }
}

/// Custodians as asked for.
///
/// # Errors
/// As [`Quorum::parse`].
pub fn quorum(custodians: Vec<v1::Custodian>, threshold: u32) -> Result<Quorum> {
    let custodians: Vec<_> = custodians.into_iter().map(|c| (c.name, c.recipient)).collect();
    let threshold = usize::try_from(threshold).unwrap_or(usize::MAX);
    Ok(Quorum::parse(&custodians, threshold)?)
}

#[tonic::async_trait]
impl KekService for Kek {
    async fn list_keks(
        &self,
        request: Request<v1::ListKeksRequest>,
    ) -> Result<Response<v1::ListKeksResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::KekRead, "kek").await?;
        let vault = Vault::read(self.0.store.as_ref()).await?;
        let keks = vault.as_ref().map(all).unwrap_or_default();
        let vault_id = vault.map(|vault| vault.id).unwrap_or_default();
        Ok(Response::new(v1::ListKeksResponse { keks, vault_id }))
    }

    async fn rotate_kek(
        &self,
        request: Request<v1::RotateKekRequest>,
    ) -> Result<Response<v1::KekCeremony>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let names: Vec<_> = request.custodians.iter().map(|c| c.name.clone()).collect();
        let detail = json!({ "change": "rotate", "custodians": names,
            "threshold": request.threshold });
        let rotate = async {
            let quorum = quorum(request.custodians, request.threshold)?;
            self.0.rooms()?.keks.rotate(&quorum).await
        };
        let done = self.0.audited(&who, Action::KekManage, "kek", detail, rotate).await?;
        Ok(Response::new(ceremony(&done)))
    }

    async fn replace_shares(
        &self,
        request: Request<v1::ReplaceSharesRequest>,
    ) -> Result<Response<v1::KekCeremony>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let names: Vec<_> = request.shares.iter().map(|share| share.custodian.clone()).collect();
        let detail = json!({ "change": "replace shares", "custodians": names,
            "threshold": request.threshold });
        let replace = async {
            let custodians = request.shares.iter().map(|share| v1::Custodian {
                name: share.custodian.clone(),
                recipient: share.recipient.clone(),
            });
            let threshold = quorum(custodians.collect(), request.threshold)?.threshold();
            let shares: Result<Vec<_>> = request.shares.into_iter().map(parsed).collect();
            let id = request.kek_id.parse().map_err(Error::from)?;
            let keks = &self.0.rooms()?.keks;
            keks.replace_shares(id, &request.check_value, threshold, shares?).await
        };
        let done = self.0.audited(&who, Action::KekManage, "kek", detail, replace).await?;
        Ok(Response::new(ceremony(&done)))
    }
}

fn parsed(share: v1::EncryptedShare) -> Result<EncryptedShare> {
    let v1::EncryptedShare { custodian, age_armored, recipient } = share;
    if !age_armored.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
        let why = "it is no age file";
        return Err(Error::invalid("read", format!("the share of {custodian}"), why)
            .hint("shares come encrypted, and no others are taken"));
    }
    Ok(EncryptedShare { custodian: custodian.parse()?, recipient, armored: age_armored })
}
