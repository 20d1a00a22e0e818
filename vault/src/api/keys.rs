//! `KeyService`.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;
use serde_json::json;
use tonic::{Request, Response, Status, Streaming};
use vault_proto::{
    ids::{AccountName, KeyName},
    v1::{self, key_service_server::KeyService},
};

use super::{Context, convert, sign_stream};
use crate::acme::jws;
use crate::error::{Error, Result};
use crate::keystore::{Algorithm, Mechanism};
use crate::policy::{Action, Principal};
use crate::signing::NewKey;
use crate::store::{KeyPurpose, KeyRecord, KeyState, Recent};
use crate::x509::csr;

/// The longest message that `Sign` takes, in bytes.
const LONGEST_MESSAGE: usize = 1 << 20;

/// Keys by name that are remembered; past that those that were asked for least go.
const REMEMBERED: usize = 10_000;

/// Keys in the HSM, and what is signed with them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keys(Arc<Context>, Arc<Cache<KeyName, Arc<Recent<Arc<KeyRecord>>>>>);

impl Keys {
    /// The service over this context.
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self(context, Arc::new(Cache::new(REMEMBERED)))
    }

    /// What it stands on.
    pub(super) fn context(&self) -> &Context {
        &self.0
    }

    /// As [`Keys::find`], for a path that is walked thousands of times a second.
    async fn recent(&self, name: &KeyName) -> Result<Arc<KeyRecord>> {
        let recent = match self.1.get(name) {
            Some(recent) => recent,
            None => {
                let key = Arc::new(self.find(name).await?);
                // Only what exists takes room; the first request after this one reads it again.
                self.1.insert(name.clone(), Arc::default());
                return Ok(key);
            }
        };
        let read = async { Ok(Arc::new(self.find(name).await?)) };
        recent.read(self.0.store.changes(), read).await
    }

    /// An operator's own key first, then one of the vault's by the same name.
    async fn find(&self, name: &KeyName) -> Result<KeyRecord> {
        for purpose in [
            KeyPurpose::General,
            KeyPurpose::Certificate,
            KeyPurpose::AcmeAccount,
            KeyPurpose::InternalCa,
        ] {
            if let Some(key) = self.0.store.key_by_name(purpose, name.as_str()).await? {
                return Ok(key);
            }
        }
        Err(Error::not_found("find", format!("key {name}"), "the vault has no such key")
            .hint("`vaultctl key list` shows what there is"))
    }

    /// Signs a message.
    ///
    /// # Errors
    /// `Invalid` for what cannot be signed so, `NotFound`, and those of [`crate::signing::Signing::sign_with`].
    pub(super) async fn signed(
        &self,
        who: &Principal,
        request: v1::SignRequest,
    ) -> Result<v1::SignResponse> {
        let mechanism: Mechanism = request.mechanism.parse()?;
        if request.message.len() > LONGEST_MESSAGE {
            let why = format!("the message has more than {LONGEST_MESSAGE} bytes");
            return Err(Error::invalid("sign", format!("key {}", request.name), why));
        }
        let name: KeyName = request.name.parse()?;
        self.0.allow(who, Action::SignMessage, &format!("key/{name}")).await?;
        let key = self.recent(&name).await?;
        let (signing, message) = (&self.0.rooms()?.signing, Bytes::from(request.message));
        let signature = signing
            .sign_with(who, &key, Action::SignMessage, mechanism, message, json!({}))
            .await?;
        Ok(v1::SignResponse { signature: signature.x509()?, key_id: key.id.to_string() })
    }

    async fn csr(&self, who: Principal, request: v1::CreateCsrRequest) -> Result<String> {
        let identifiers = convert::identifiers(&request.domains, &request.ips)?;
        let name: KeyName = request.key.parse()?;
        self.0.allow(&who, Action::SignCsr, &format!("key/{name}")).await?;
        let key = self.find(&name).await?;
        let names: Vec<_> = identifiers.iter().map(ToString::to_string).collect();
        let context = json!({ "identifiers": names });
        let signer = self.0.rooms()?.signing.bind(who, key, Action::SignCsr, context);
        let der = csr::build(&signer, &identifiers, request.must_staple).await?;
        pem_rfc7468::encode_string("CERTIFICATE REQUEST", pem_rfc7468::LineEnding::LF, &der)
            .map_err(|e| Error::internal("encode", "a CSR", e))
    }

    async fn jws(&self, who: Principal, request: v1::SignJwsRequest) -> Result<String> {
        let name: AccountName = request.account.parse()?;
        self.0.allow(&who, Action::SignJws, &format!("account/{name}")).await?;
        let account = self.0.store.account(&name).await?.ok_or_else(|| {
            Error::not_found("sign", format!("account {name}"), "the vault has no such account")
                .hint("`vaultctl account list` shows what there is")
        })?;
        let invalid = |why: &str| Error::invalid("sign a JWS", format!("account {name}"), why);
        let url: url::Url = request.url.parse().map_err(|_| invalid("the URL is malformed"))?;
        let kid = account.url.ok_or_else(|| invalid("the CA has not confirmed the account"))?;
        let key = self.0.store.key(account.key_id).await?;
        let key = key.ok_or_else(|| Error::internal("sign", "an account", "its key is gone"))?;
        let context = json!({ "account": name.as_str(), "url": url });
        let signer = self.0.rooms()?.signing.bind(who, key, Action::SignJws, context);
        let nonce = (!request.nonce.is_empty()).then_some(request.nonce.as_str());
        jws::sign_with_kid(&signer, &kid, &url, nonce, &request.payload).await
    }
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn generate_key(
        &self,
        request: Request<v1::GenerateKeyRequest>,
    ) -> Result<Response<v1::Key>, Status> {
        let who = self.0.principal(&request).await?;
        let request = request.into_inner();
        let name: KeyName = request.name.parse().map_err(Error::from)?;
        let new = NewKey {
            name: name.to_string(),
            purpose: KeyPurpose::General,
            algorithm: convert::algorithm(request.algorithm()).unwrap_or(Algorithm::EcP256),
            escrow: convert::escrow(request.escrow()),
            labels: request.labels.into_iter().collect(),
        };
        let key = self.0.rooms()?.signing.generate(&who, new).await?;
        Ok(Response::new(key.into()))
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let who = self.0.principal(&request).await?;
        self.0.allow(&who, Action::KeyRead, "key/*").await?;
        let mut newest = std::collections::BTreeMap::new();
        for key in self.0.store.keys().await? {
            let name = (key.name.clone(), key.purpose);
            // A version that was given up does not hide the one in use.
            let in_use = |key: &KeyRecord| key.state == KeyState::Active;
            if in_use(&key) || !newest.get(&name).is_some_and(in_use) {
                newest.insert(name, key);
            }
        }
        let keys = newest.into_values().map(v1::Key::from).collect();
        Ok(Response::new(v1::ListKeysResponse { keys }))
    }

    async fn get_key(
        &self,
        request: Request<v1::GetKeyRequest>,
    ) -> Result<Response<v1::Key>, Status> {
        let who = self.0.principal(&request).await?;
        let name: KeyName = request.into_inner().name.parse().map_err(Error::from)?;
        self.0.allow(&who, Action::KeyRead, &format!("key/{name}")).await?;
        Ok(Response::new(self.find(&name).await?.into()))
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::Key>, Status> {
        let who = self.0.principal(&request).await?;
        let name: KeyName = request.into_inner().name.parse().map_err(Error::from)?;
        let signing = &self.0.rooms()?.signing;
        let key = signing.rotate(&who, KeyPurpose::General, name.as_str()).await?;
        Ok(Response::new(key.into()))
    }

    async fn destroy_key(
        &self,
        request: Request<v1::DestroyKeyRequest>,
    ) -> Result<Response<v1::Key>, Status> {
        let who = self.0.principal(&request).await?;
        let name: KeyName = request.into_inner().name.parse().map_err(Error::from)?;
        let signing = &self.0.rooms()?.signing;
        let key = signing.destroy(&who, KeyPurpose::General, name.as_str()).await?;
        Ok(Response::new(key.into()))
    }

    async fn sign(
        &self,
        request: Request<v1::SignRequest>,
    ) -> Result<Response<v1::SignResponse>, Status> {
        let who = self.0.principal(&request).await?;
        Ok(Response::new(self.signed(&who, request.into_inner()).await?))
    }

    type SignStreamStream = sign_stream::Answers;

    async fn sign_stream(
        &self,
        request: Request<Streaming<v1::SignStreamRequest>>,
    ) -> Result<Response<Self::SignStreamStream>, Status> {
        let peer = request.extensions().get().cloned();
        self.0.known(peer.as_ref()).await?;
        Ok(Response::new(sign_stream::begin(self.clone(), peer, request.into_inner())))
    }

    async fn create_csr(
        &self,
        request: Request<v1::CreateCsrRequest>,
    ) -> Result<Response<v1::CreateCsrResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let csr_pem = self.csr(who, request.into_inner()).await?;
        Ok(Response::new(v1::CreateCsrResponse { csr_pem }))
    }

    async fn sign_jws(
        &self,
        request: Request<v1::SignJwsRequest>,
    ) -> Result<Response<v1::SignJwsResponse>, Status> {
        let who = self.0.principal(&request).await?;
        let jws_json = self.jws(who, request.into_inner()).await?;
        Ok(Response::new(v1::SignJwsResponse { jws_json }))
    }
}
