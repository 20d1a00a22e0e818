//! `AccountService`.

use std::sync::Arc;

use secrecy::SecretSlice;
use serde_json::json;
use tonic::{Request, Response, Status};
use url::Url;
use vault_proto::{
    ids::AccountName,
    v1::{self, account_service_server::AccountService},
};

use super::{Context, ca, convert};
use crate::accounts::NewAccount;
use crate::error::{Error, Result};
use crate::keystore::Algorithm;
use crate::policy::Action;
use crate::store::AccountRecord;

/// ACME accounts.
pub(super) struct Accounts(pub(super) Arc<Context>);

impl Accounts {
    async fn answer(&self, account: AccountRecord) -> Result<Response<v1::Account>, Status> {
        let thumbprint = self.0.rooms()?.accounts.thumbprint(&account).await?;
        Ok(Response::new(convert::account(account, thumbprint)))
    }
}

fn parse(request: v1::RegisterAccountRequest) -> Result<NewAccount> {
    let algorithm = convert::algorithm(request.algorithm()).unwrap_or(Algorithm::EcP256);
    let name: AccountName = request.name.parse()?;
    let invalid = |why: String| Error::invalid("register", format!("account {name}"), why);
    let directory: Url =
        request.directory.parse().map_err(|e| invalid(format!("the directory's URL: {e}")))?;
    if directory.scheme() != "https" {
        return Err(invalid("the directory's URL does not begin with https://".to_owned()));
    }
    if let Some(contact) = request.contacts.iter().find(|c| c.parse::<Url>().is_err()) {
        return Err(invalid(format!("contact {contact:?} is no URL"))
            .hint("write an address as mailto:NAME@EXAMPLE"));
    }
    let eab = match (request.eab_kid.is_empty(), request.eab_hmac.is_empty()) {
        (true, true) => None,
        (false, false) => Some((request.eab_kid, SecretSlice::from(request.eab_hmac))),
        _ => {
            return Err(invalid("an external account binding has both a key id and a key".into())
                .hint("pass --eab-kid together with --eab-hmac-file"));
        }
    };
    if algorithm == Algorithm::Ed25519 {
        return Err(invalid("CAs take no Ed25519 account keys".to_owned())
            .hint("use ec-p256, which every CA takes"));
    }
    Ok(NewAccount {
        directory,
        contacts: request.contacts,
        eab,
        ca_root_pem: Some(request.ca_root_pem).filter(|pem| !pem.is_empty()),
        agree_tos: request.agree_tos,
        algorithm,
        name,
    })
}

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn register_account(
        &self,
        request: Request<v1::RegisterAccountRequest>,
    ) -> Result<Response<v1::Account>, Status> {
        let who = self.0.principal(&request).await?;
        let new = parse(request.into_inner())?;
        let resource = format!("account/{}", new.name);
        let detail = json!({ "change": "register", "directory": new.directory });
        let change = self.0.rooms()?.accounts.register(&who, new);
        let done = self.0.audited(&who, Action::AccountManage, &resource, detail, change).await?;
        self.answer(done).await
    }

    async fn list_accounts(
        &self,
        request: Request<v1::ListAccountsRequest>,
    ) -> Result<Response<v1::ListAccountsResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::AccountRead, "account/*").await?;
        let mut accounts = Vec::new();
        for account in self.0.store.accounts().await? {
            accounts.push(self.answer(account).await?.into_inner());
        }
        Ok(Response::new(v1::ListAccountsResponse { accounts }))
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::Account>, Status> {
        let who = self.0.principal(&request).await?;
        let name: AccountName = request.into_inner().name.parse().map_err(Error::from)?;
        self.0.allow(&who, Action::AccountRead, &format!("account/{name}")).await?;
        let accounts = &self.0.rooms()?.accounts;
        let account = accounts.find(&name).await?;
        let ca = Some(ca::directory(accounts, &account).await);
        let shown = self.answer(account).await?.into_inner();
        Ok(Response::new(v1::Account { ca, ..shown }))
    }

    async fn rollover_account(
        &self,
        request: Request<v1::RolloverAccountRequest>,
    ) -> Result<Response<v1::Account>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let algorithm = convert::algorithm(request.algorithm());
        let name: AccountName = request.name.parse().map_err(Error::from)?;
        let resource = format!("account/{name}");
        let detail = json!({ "change": "rollover" });
        let change = self.0.rooms()?.accounts.rollover(&who, &name, algorithm);
        let done = self.0.audited(&who, Action::AccountManage, &resource, detail, change).await?;
        self.answer(done).await
    }

    async fn deactivate_account(
        &self,
        request: Request<v1::DeactivateAccountRequest>,
    ) -> Result<Response<v1::Account>, Status> {
        let who = self.0.principal(&request).await?;
        let name: AccountName = request.into_inner().name.parse().map_err(Error::from)?;
        let resource = format!("account/{name}");
        let detail = json!({ "change": "deactivate" });
        let change = self.0.rooms()?.accounts.deactivate(&who, &name);
        let done = self.0.audited(&who, Action::AccountManage, &resource, detail, change).await?;
        self.answer(done).await
    }

    async fn update_account(
        &self,
        request: Request<v1::UpdateAccountRequest>,
    ) -> Result<Response<v1::Account>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name: AccountName = request.name.parse().map_err(Error::from)?;
        let resource = format!("account/{name}");
        let detail = json!({ "change": "update", "contacts": request.contacts });
        let change = self.0.rooms()?.accounts.update_contacts(&who, &name, request.contacts);
        let done = self.0.audited(&who, Action::AccountManage, &resource, detail, change).await?;
        self.answer(done).await
    }

    async fn agree_account(
        &self,
        request: Request<v1::AgreeAccountRequest>,
    ) -> Result<Response<v1::Account>, Status> {
        let who = self.0.principal(&request).await?;
        let name: AccountName = request.into_inner().name.parse().map_err(Error::from)?;
        let resource = format!("account/{name}");
        let detail = json!({ "change": "agree" });
        let change = self.0.rooms()?.accounts.agree(&who, &name);
        let done = self.0.audited(&who, Action::AccountManage, &resource, detail, change).await?;
        self.answer(done).await
    }

    async fn deauthorize_account(
        &self,
        request: Request<v1::DeauthorizeAccountRequest>,
    ) -> Result<Response<v1::DeauthorizeAccountResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name: AccountName = request.name.parse().map_err(Error::from)?;
        let identifiers = convert::identifiers(&request.domains, &request.ips)?;
        let named: Vec<_> = identifiers.iter().map(ToString::to_string).collect();
        let resource = format!("account/{name}");
        let detail = json!({ "change": "deauthorize", "identifiers": named });
        let identifiers = identifiers.into_iter().collect();
        let change = self.0.rooms()?.accounts.deauthorize(&who, &name, &identifiers);
        let done = self.0.audited(&who, Action::AccountManage, &resource, detail, change).await?;
        let deauthorized = done.into_iter().map(|authorization| v1::Deauthorized {
            identifier: authorization.identifier.to_string(),
            url: authorization.url.to_string(),
        });
        let deauthorized = deauthorized.collect();
        Ok(Response::new(v1::DeauthorizeAccountResponse { deauthorized }))
    }
}
