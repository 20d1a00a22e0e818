//! Birth, rotation and end of keys, in the order of writes that survives a crash anywhere:
//! audit intent → HSM object (labelled with the id) → store row → audit result → answer.

use std::collections::BTreeMap;

use serde_json::json;
use vault_proto::{error::ErrorKind, ids::KeyId};

use super::Signing;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::{Algorithm, Escrow, KeySpec, PublicKey};
use crate::policy::{Action, Principal};
use crate::store::{KeyPurpose, KeyRecord, KeyState};

/// A key to generate.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its name, unique within its purpose.
    pub name: String,
    /// What it may sign.
    pub purpose: KeyPurpose,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Whether it can be in a backup; `None`: wrapped where the token has a KEK.
    pub escrow: Option<Escrow>,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
}

impl Signing {
    /// Generates a key under a name that is not in use.
    ///
    /// # Errors
    /// `Conflict` where the name is in use, `Invalid` where escrow is asked for and the token has
    /// no KEK, and those of [`Signing::sign_with`].
    pub async fn generate(&self, principal: &Principal, new: NewKey) -> Result<KeyRecord> {
        let subject = format!("key/{}", new.name);
        self.authorize(principal, Action::KeyGenerate, &subject).await?;
        let previous = self.store.key_by_name(new.purpose, &new.name).await?;
        if let Some(key) = &previous
            && !matches!(key.state, KeyState::Destroyed | KeyState::Lost)
        {
            let why = format!("the name is in use ({})", key.state);
            return Err(Error::conflict("generate", format!("key {}", new.name), why)
                .hint("choose another name, or `vaultctl key rotate` for a new version"));
        }
        let version = self.next_version(new.purpose, &new.name).await?;
        self.create(principal, Action::KeyGenerate, new, version, None).await
    }

    /// Generates the next version of a key; the present one is retired in the same transaction.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` where the key is not in use, and those of [`Signing::sign_with`].
    pub async fn rotate(
        &self,
        principal: &Principal,
        purpose: KeyPurpose,
        name: &str,
    ) -> Result<KeyRecord> {
        self.authorize(principal, Action::KeyRotate, &format!("key/{name}")).await?;
        let key = self.named("rotate", purpose, name).await?;
        if key.state != KeyState::Active {
            let why = format!("it is {}", key.state);
            return Err(Error::conflict("rotate", format!("key {name}"), why));
        }
        let new = NewKey {
            name: key.name,
            purpose,
            algorithm: key.algorithm,
            escrow: Some(key.escrow),
            labels: key.labels,
        };
        let version = self.next_version(purpose, name).await?;
        self.create(principal, Action::KeyRotate, new, version, Some(key.id)).await
    }

    /// Generates the next version of a key that stays in use beside the present one, until either
    /// [`Signing::retire`] or [`Signing::discard`] decides: for a change that somebody else has to
    /// agree to, such as a CA.
    ///
    /// # Errors
    /// As [`Signing::rotate`].
    pub async fn successor(
        &self,
        principal: &Principal,
        key: &KeyRecord,
        algorithm: Algorithm,
    ) -> Result<KeyRecord> {
        let subject = format!("key/{}", key.name);
        self.authorize(principal, Action::KeyRotate, &subject).await?;
        self.named("rotate", key.purpose, &key.name).await?;
        let new = NewKey {
            name: key.name.clone(),
            purpose: key.purpose,
            algorithm,
            escrow: Some(key.escrow),
            labels: key.labels.clone(),
        };
        let version = self.next_version(key.purpose, &key.name).await?;
        self.create(principal, Action::KeyRotate, new, version, None).await
    }

    /// Ends the use of a key that has a successor; it stays in the HSM.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn retire(&self, id: KeyId) -> Result<()> {
        self.store.set_key_state(id, KeyState::Retired).await
    }

    /// Destroys one version of a key that nobody uses.
    ///
    /// # Errors
    /// `NotFound`, and those of [`Signing::sign_with`].
    pub async fn discard(&self, principal: &Principal, id: KeyId) -> Result<()> {
        self.authorize(principal, Action::KeyDestroy, &format!("key/{id}")).await?;
        let key = self.key(id).await?;
        self.destroy_version(principal, &key).await
    }

    /// Destroys a key that a newer version has replaced, and none that is in use, whatever the
    /// caller believes of it.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` where it is not retired, and those of [`Signing::sign_with`].
    pub async fn discard_retired(&self, principal: &Principal, id: KeyId) -> Result<()> {
        self.authorize(principal, Action::KeyDestroy, &format!("key/{id}")).await?;
        let key = self.key(id).await?;
        if key.state != KeyState::Retired {
            let why = format!("it is {}, not retired", key.state);
            return Err(Error::conflict("destroy", format!("key {id}"), why));
        }
        self.destroy_version(principal, &key).await
    }

    /// Destroys every version of a key in the HSM, the oldest first: where it ends half-way, the
    /// newest is still there to be named again. The rows stay as evidence.
    ///
    /// # Errors
    /// `NotFound`, and those of [`Signing::sign_with`].
    pub async fn destroy(
        &self,
        principal: &Principal,
        purpose: KeyPurpose,
        name: &str,
    ) -> Result<KeyRecord> {
        self.authorize(principal, Action::KeyDestroy, &format!("key/{name}")).await?;
        let mut left = self.store.key_versions(purpose, name).await?;
        left.retain(|key| key.state != KeyState::Destroyed);
        let newest = left.first().cloned().ok_or_else(|| missing("destroy", name))?;
        for key in left.iter().rev() {
            self.destroy_version(principal, key).await?;
        }
        Ok(KeyRecord { state: KeyState::Destroyed, ..newest })
    }

    async fn destroy_version(&self, principal: &Principal, key: &KeyRecord) -> Result<()> {
        let detail = json!({ "name": key.name, "version": key.version });
        let subject = format!("key/{}", key.id);
        let operation = self.intent(principal, Action::KeyDestroy, &subject, detail).await?;
        crash_point!("destroy.intent");
        let done = match self.keystore.destroy(key.id).await {
            Ok(_) => {
                crash_point!("destroy.hsm");
                self.store.set_key_state(key.id, KeyState::Destroyed).await
            }
            Err(error) => Err(error),
        };
        crash_point!("destroy.store");
        self.conclude(operation, &done, json!({})).await?;
        done
    }

    async fn named(&self, what: &str, purpose: KeyPurpose, name: &str) -> Result<KeyRecord> {
        let key = self.store.key_by_name(purpose, name).await?;
        key.filter(|key| key.state != KeyState::Destroyed).ok_or_else(|| missing(what, name))
    }

    /// No number comes twice, although its version is gone.
    async fn next_version(&self, purpose: KeyPurpose, name: &str) -> Result<u32> {
        let versions = self.store.key_versions(purpose, name).await?;
        Ok(versions.first().map_or(1, |newest| newest.version + 1))
    }

    async fn create(
        &self,
        principal: &Principal,
        action: Action,
        new: NewKey,
        version: u32,
        retire: Option<KeyId>,
    ) -> Result<KeyRecord> {
        let escrow = self.decide_escrow(&new).await?;
        let id = KeyId::random();
        let detail = json!({
            "name": new.name, "version": version, "purpose": new.purpose,
            "algorithm": new.algorithm, "escrow": escrow,
        });
        let operation = self.intent(principal, action, &format!("key/{id}"), detail).await?;
        crash_point!("generate.intent");
        let label = format!("{}/{}/{version}", new.purpose, new.name);
        let mut spec = KeySpec { id, label, algorithm: new.algorithm, escrow };
        let (made, certain) = match self.generate_as_promised(&mut spec, &new).await {
            Ok(public) => {
                crash_point!("generate.hsm");
                let kept = self.keep(id, new, version, spec.escrow, public, retire).await;
                let unknown = |error: &Error| error.kind == ErrorKind::Unavailable;
                let certain = !kept.as_ref().is_err_and(unknown);
                (kept, certain)
            }
            Err(error) => {
                let certain = self.nothing_remains(id, &error).await;
                (Err(error), certain)
            }
        };
        crash_point!("generate.store");
        if !certain {
            // The intent stays open, so that the next start looks at what there is.
            return made;
        }
        self.conclude(operation, &made, json!({ "escrow": spec.escrow })).await?;
        crash_point!("generate.result");
        made
    }

    /// Generates a key that the token wraps, where that is its escrow: some wrap no Ed25519 keys. One
    /// that was to be escrowed where it can be is made anew without.
    async fn generate_as_promised(&self, spec: &mut KeySpec, new: &NewKey) -> Result<PublicKey> {
        let public = self.keystore.generate(spec).await?;
        if spec.escrow == Escrow::None {
            return Ok(public);
        }
        // What it was wrapped to is forgotten at once.
        let Err(error) = self.keystore.wrap(spec.id).await else { return Ok(public) };
        if !matches!(error.kind, ErrorKind::Invalid | ErrorKind::Denied) {
            return Err(error);
        }
        self.keystore.destroy(spec.id).await?;
        if new.escrow == Some(Escrow::Wrapped) {
            let subject = format!("key {}", new.name);
            let why = format!("the token does not wrap an {} key: {}", spec.algorithm, error.why);
            return Err(Error::invalid("generate", subject, why)
                .hint("use --escrow none, or another algorithm"));
        }
        spec.escrow = Escrow::None;
        self.keystore.generate(spec).await
    }

    /// Sees to it that nothing remains of a key that the HSM failed to make: one that is full or
    /// breaks down in the middle may leave half a pair.
    async fn nothing_remains(&self, id: KeyId, error: &Error) -> bool {
        let began = matches!(
            error.kind,
            ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::Internal
        );
        !began || self.keystore.destroy(id).await.is_ok()
    }

    /// Writes the row of a key that the HSM has made; where the row is refused, the HSM object
    /// goes again. Where it is not known whether it was written, start-up decides.
    async fn keep(
        &self,
        id: KeyId,
        new: NewKey,
        version: u32,
        escrow: Escrow,
        public: PublicKey,
        retire: Option<KeyId>,
    ) -> Result<KeyRecord> {
        let record = KeyRecord {
            id,
            name: new.name,
            version,
            purpose: new.purpose,
            algorithm: new.algorithm,
            escrow,
            state: KeyState::Active,
            spki_der: public.spki_der,
            labels: new.labels,
            created_at: self.clock.now(),
        };
        match self.store.insert_key(&record, retire).await {
            Ok(()) => Ok(record),
            Err(error) => {
                if error.kind != ErrorKind::Unavailable {
                    self.keystore.destroy(id).await?;
                }
                Err(error)
            }
        }
    }

    /// A key is never escrowed under a KEK that nobody can rebuild: without a KEK there is none.
    async fn decide_escrow(&self, new: &NewKey) -> Result<Escrow> {
        let has_kek = self.keystore.has_kek().await?;
        match (new.escrow, has_kek) {
            (Some(Escrow::Wrapped), false) => Err(Error::invalid(
                "generate",
                format!("key {}", new.name),
                "escrow is asked for and this vault has no KEK",
            )
            .hint("use --escrow none, or initialise a vault with custodians")),
            (Some(escrow), _) => Ok(escrow),
            (None, true) => Ok(Escrow::Wrapped),
            (None, false) => Ok(Escrow::None),
        }
    }
}

fn missing(what: &str, name: &str) -> Error {
    Error::not_found(what, format!("key {name}"), "the vault has no such key")
        .hint("`vaultctl key list` shows what there is")
}
