//! The spine: every private-key operation goes authorize → audit intent → HSM → audit result.
//!
//! [`Signing`] alone holds the key store. Whoever can sign with a key says what it signs, and a
//! key signs only what its purpose allows. Where the audit log cannot be written, the HSM is not
//! asked.

mod bound;
mod escrow;
mod lifecycle;
mod reconcile;
mod recorded;
mod revocation;
pub mod tls;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use vault_proto::{audit::hash, error::ErrorKind, ids::KeyId};

pub use bound::BoundKey;
pub use escrow::{Escrowed, MOST_WRAPPED};
pub use lifecycle::NewKey;
pub use reconcile::Finding;

use recorded::Recorded;

use crate::audit::{AuditLog, Detail, Entry, Operation, Outcome};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::{Form, KekInfo, KeyStore, Mechanism, Place, Signature, ToSign, TokenInfo};
use crate::policy::{Action, Authorizer, Principal};
use crate::store::{KeyPurpose, KeyRecord, KeyState, Store, TlsUse};

/// Every private-key operation of the vault. Cheap to clone.
#[derive(Clone)]
pub struct Signing {
    keystore: Arc<dyn KeyStore>,
    store: Arc<dyn Store>,
    audit: AuditLog,
    authorizer: Arc<dyn Authorizer>,
    clock: Arc<dyn Clock>,
}

impl Signing {
    /// The spine over these parts; from here on nothing else holds the key store.
    pub fn new(
        keystore: Arc<dyn KeyStore>,
        store: Arc<dyn Store>,
        audit: AuditLog,
        authorizer: Arc<dyn Authorizer>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { keystore, store, audit, authorizer, clock }
    }

    /// The token as it presents itself now.
    ///
    /// # Errors
    /// `Unavailable` where it does not answer.
    pub async fn token_info(&self) -> Result<TokenInfo> {
        self.keystore.token_info().await
    }

    /// Whether a signature asked for now would have an HSM and an audit log. A log that could not
    /// be written is tried again: whoever goes by this answer sends nothing that would.
    ///
    /// # Errors
    /// `Unavailable`, naming which has failed.
    pub async fn healthy(&self) -> Result<()> {
        if !self.audit.status().writable {
            self.audit.resume().await?;
        }
        self.keystore.token_info().await.map(drop)
    }

    /// The trusted KEK, where the token has one.
    ///
    /// # Errors
    /// `Unavailable` where the token does not answer.
    pub async fn kek(&self) -> Result<Option<KekInfo>> {
        self.keystore.kek().await
    }

    /// Destroys a KEK that a newer one has replaced; `false` where the token has none of this id.
    /// Whoever rotates keeps the record of it.
    ///
    /// # Errors
    /// `Denied` for the newest, which wraps; `Unavailable` where the token does not answer.
    pub async fn retire_kek(&self, id: KeyId) -> Result<bool> {
        self.keystore.retire_kek(id).await
    }

    /// Runs `body` on a new thread that signs without waiting for another one ([`Place::Here`]). Whoever
    /// stops the vault lets it end first: the key store's last owner may not be such a thread.
    ///
    /// # Errors
    /// `Unavailable` where there is no thread to be had.
    pub fn thread_with_session(&self, name: String, body: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.keystore.thread_with_session(name, body)
    }

    /// A key as the store has it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn record(&self, id: KeyId) -> Result<KeyRecord> {
        self.key(id).await
    }

    /// Signs what a TLS server signs in a handshake; `allowed` is what the key may be used for.
    ///
    /// # Errors
    /// As [`Signing::sign_with`], and those of [`tls::check`].
    pub async fn sign_tls(
        &self,
        principal: &Principal,
        key: &KeyRecord,
        allowed: TlsUse,
        what: ToSign,
    ) -> Result<Signature> {
        let signed = match tls::check(allowed, what.mechanism, &what.message) {
            Ok(signed) => signed,
            Err(error) => {
                let subject = format!("key/{}", key.id);
                return self.refuse(principal, Action::SignTls, &subject, error).await;
            }
        };
        let context = json!({ "signed": signed });
        self.sign(principal, key, Action::SignTls, what, context).await
    }

    /// Signs `message` with a key, as the store has it now, as the typed operation `action`.
    ///
    /// `context` says more for the audit log, for example the URL of a JWS.
    ///
    /// # Errors
    /// `Denied` where the principal may not, `Invalid` where the key's purpose or algorithm does
    /// not fit, `Conflict` where the key is not in use, `Unavailable` where the audit log or the
    /// HSM is.
    pub async fn sign_with(
        &self,
        principal: &Principal,
        key: &KeyRecord,
        action: Action,
        mechanism: Mechanism,
        message: Bytes,
        context: Value,
    ) -> Result<Signature> {
        let what = ToSign { mechanism, message, place: Place::Queue };
        self.sign(principal, key, action, what, context).await
    }

    async fn sign(
        &self,
        principal: &Principal,
        key: &KeyRecord,
        action: Action,
        what: ToSign,
        context: Value,
    ) -> Result<Signature> {
        let ToSign { mechanism, message, .. } = &what;
        let subject = format!("key/{}", key.id);
        self.authorize(principal, action, &subject).await?;
        if let Err(error) = check_use(key, action, *mechanism)
            .and_then(|()| revocation::check(action, key, message))
        {
            return self.refuse(principal, action, &subject, error).await;
        }
        let detail = Detail::of(&SignatureDetail {
            context: &context,
            mechanism: *mechanism,
            message_sha256: hash(message),
            name: &key.name,
        })?;
        let entry = entry(principal, action, &subject, detail);
        if entry.grouped && self.audit.groups() {
            let witness = Recorded::new(self.audit.clone(), entry);
            return self.keystore.sign_witnessed(key.id, what, witness).await;
        }
        // On the heap: what waits for a disk shall take no room in what is done thousands of times a second.
        Box::pin(self.sign_synced(key.id, what, entry)).await
    }

    /// Signs where each record has its own sync.
    async fn sign_synced(&self, id: KeyId, what: ToSign, entry: Entry) -> Result<Signature> {
        let operation = self.audit.intent(entry).await?;
        crash_point!("sign.intent");
        let signed = self.keystore.sign(id, what.mechanism, what.message).await;
        crash_point!("sign.hsm");
        self.conclude(operation, &signed, json!({})).await?;
        signed
    }

    async fn key(&self, id: KeyId) -> Result<KeyRecord> {
        let missing = || Error::not_found("use", format!("key {id}"), "the vault has no such key");
        self.store.key(id).await?.ok_or_else(missing)
    }

    /// Asks the policy and keeps a record of each refusal of a known caller.
    async fn authorize(&self, who: &Principal, action: Action, subject: &str) -> Result<()> {
        match self.authorizer.authorize(who, action, subject) {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(who, action, subject, error).await,
        }
    }

    /// Answers `error`; where it says that a known caller may not, keeps a record of it first.
    async fn refuse<T>(
        &self,
        who: &Principal,
        action: Action,
        subject: &str,
        error: Error,
    ) -> Result<T> {
        if error.kind == ErrorKind::Denied && *who != Principal::Anonymous {
            let detail = json!({ "denied": error.why });
            self.audit.event(entry(who, action, subject, detail)).await?;
        }
        Err(error)
    }

    async fn intent(
        &self,
        who: &Principal,
        action: Action,
        subject: &str,
        detail: Value,
    ) -> Result<Operation> {
        self.audit.intent(entry(who, action, subject, detail)).await
    }

    /// Writes the result. Without it nothing is handed out: an operation that is not accounted
    /// for did not happen as far as the caller is concerned.
    async fn conclude<T>(
        &self,
        operation: Operation,
        outcome: &Result<T>,
        detail: Value,
    ) -> Result<()> {
        let (outcome, detail) = Outcome::of(outcome, |_| detail);
        self.audit.finish(operation, outcome, detail).await
    }
}

/// What the audit log keeps of a signature.
#[derive(Serialize)]
struct SignatureDetail<'a> {
    context: &'a Value,
    mechanism: Mechanism,
    message_sha256: String,
    name: &'a str,
}

fn entry(who: &Principal, action: Action, subject: &str, detail: impl Into<Detail>) -> Entry {
    Entry {
        principal: who.to_string(),
        action: action.as_str().to_owned(),
        resource: subject.to_owned(),
        detail: detail.into(),
        // A signature that only a power failure can make unrecorded, where the operator chose so.
        grouped: matches!(action, Action::SignTls | Action::SignMessage),
    }
}

/// A key signs what its purpose allows, and only while it is in use.
fn check_use(key: &KeyRecord, action: Action, mechanism: Mechanism) -> Result<()> {
    let subject = || format!("key {}", key.name);
    let allowed = match key.purpose {
        KeyPurpose::General => matches!(action, Action::SignMessage | Action::SignCsr),
        KeyPurpose::AcmeAccount => action == Action::SignJws,
        KeyPurpose::Certificate => {
            matches!(action, Action::SignCsr | Action::SignTls | Action::SignRevocation)
        }
        KeyPurpose::InternalCa => {
            let signs = [Action::SignCertificate, Action::SignTranscript, Action::SignDrill];
            signs.contains(&action)
        }
    };
    if !allowed {
        let why = format!("a key for {} does not sign this", key.purpose);
        return Err(Error::denied(action.as_str(), subject(), why)
            .hint("use a key that was generated with `vaultctl key generate`"));
    }
    // Web server processes that began with a key go on with it until they end, and what it was
    // certified for may have to be revoked after its time.
    let in_use = match action {
        Action::SignTls | Action::SignRevocation => {
            matches!(key.state, KeyState::Active | KeyState::Retired)
        }
        _ => key.state == KeyState::Active,
    };
    if !in_use {
        return Err(Error::conflict(action.as_str(), subject(), format!("it is {}", key.state))
            .hint("`vaultctl key list` shows the keys in use"));
    }
    if mechanism.form() == Form::Digest && action != Action::SignTls {
        let why = "a digest could be of anything";
        return Err(Error::denied(action.as_str(), subject(), why)
            .hint("hand over the whole message, with a mechanism that hashes it"));
    }
    if !mechanism.fits(key.algorithm) {
        let why = format!("{mechanism} does not fit an {} key", key.algorithm);
        return Err(Error::invalid(action.as_str(), subject(), why)
            .hint(format!("use {}", key.algorithm.default_mechanism())));
    }
    Ok(())
}
