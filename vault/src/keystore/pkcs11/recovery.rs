//! The other half of escrow: a token that unwraps what a live vault's token has wrapped. A drill's
//! or a restore's, never a live one: where a KEK unwraps, whoever has the PIN reads every key that
//! is wrapped by it.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use cryptoki::{
    mechanism::Mechanism as Ck,
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::Session,
};
use secrecy::SecretString;
use vault_proto::ids::KeyId;

use super::{
    KekSpec, Module, TokenUri, mechanism,
    rv::{Describe as _, Failure},
    session::TokenSession,
    template, wrap,
};
use crate::error::{Error, Result};
use crate::keystore::{
    KeySpec, Mechanism, PublicKey, Signature, TokenInfo, WrapMechanism, WrappedKey,
};

/// How long an unwrapped key is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// As long as the session: for a drill, which costs the token no write.
    Session,
    /// As long as the token: for a restore.
    Token,
}

/// A private key that was unwrapped.
#[derive(Debug, Clone)]
pub struct Recovered {
    id: KeyId,
    private: ObjectHandle,
}

/// What a token has of a key pair.
#[derive(Debug, Clone, Default)]
pub struct Halves {
    /// The private half.
    pub private: Option<Recovered>,
    /// Whether the public half is there.
    pub public: bool,
}

/// A token of a drill or a restore, logged in. Calls block: make them on a thread that may.
pub struct Recovery {
    token: TokenSession,
    name: String,
    /// The KEKs that were found: finding takes time linear in the token's objects, and a drill
    /// unwraps thousands.
    found: RefCell<BTreeMap<KeyId, ObjectHandle>>,
}

impl Recovery {
    /// Logs in, with one try of the PIN.
    ///
    /// # Errors
    /// `NotFound` where there is no such token, `Denied` for a wrong PIN, `Unavailable` where the
    /// token does not answer.
    pub fn open(module: &Module, uri: &TokenUri, pin: &SecretString) -> Result<Self> {
        let name = format!("token {}", uri.label());
        let token = TokenSession::open(module, uri, pin, &Arc::default());
        let token = token.describe("log in", &name)?;
        Ok(Self { token, name, found: RefCell::default() })
    }

    fn session(&self) -> &Session {
        &self.token.session
    }

    /// The token as it presents itself.
    ///
    /// # Errors
    /// `Unavailable` where it does not answer.
    pub fn token_info(&mut self) -> Result<TokenInfo> {
        self.token.token_info().describe("ask", &self.name)
    }

    /// Whether nothing is in the token: no key, no KEK, nothing of anybody's.
    ///
    /// # Errors
    /// `Unavailable` where it does not answer.
    pub fn is_empty(&self) -> Result<bool> {
        let found = self.session().find_objects(&[Attribute::Token(true)]);
        Ok(found.map_err(Failure::from).describe("look at", &self.name)?.is_empty())
    }

    /// The KEK that wraps, where the token has one: it is as a live vault's then.
    ///
    /// # Errors
    /// `Unavailable` where it does not answer.
    pub fn wrapping_kek(&self) -> Result<Option<KeyId>> {
        let found = wrap::find_kek(self.session()).describe("look at", &self.name)?;
        Ok(found.map(|(id, _)| id))
    }

    /// Every key pair with an id of ours, found in one go: looking for each alone takes time linear
    /// in the token's objects.
    ///
    /// # Errors
    /// `Unavailable` where the token does not answer.
    pub fn pairs(&self) -> Result<BTreeMap<KeyId, Halves>> {
        self.find_pairs().describe("look at", &self.name)
    }

    fn find_pairs(&self) -> Result<BTreeMap<KeyId, Halves>, Failure> {
        let mut pairs: BTreeMap<KeyId, Halves> = BTreeMap::new();
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            let template = [Attribute::Class(class), Attribute::Token(true)];
            for handle in self.session().find_objects(&template)? {
                let read = self.session().get_attributes(handle, &[AttributeType::Id])?;
                let Some(Attribute::Id(bytes)) = read.first() else { continue };
                let Some(id) = KeyId::from_bytes(bytes) else { continue };
                let halves = pairs.entry(id).or_default();
                match class {
                    ObjectClass::PRIVATE_KEY => {
                        halves.private = Some(Recovered { id, private: handle });
                    }
                    _ => halves.public = true,
                }
            }
        }
        Ok(pairs)
    }

    /// Reads back whether a key of the token's has every restriction that it was born with.
    ///
    /// # Errors
    /// `Verification` where it has not.
    pub fn check(&self, spec: &KeySpec, key: &Recovered) -> Result<()> {
        let subject = format!("key {}", spec.id);
        let kept = template::check_private(self.session(), key.private, spec.escrow, true);
        kept.describe("check", &subject)
    }

    /// Destroys what the token has of a key pair.
    ///
    /// # Errors
    /// `Unavailable` where the token does not answer.
    pub fn destroy_pair(&mut self, id: KeyId) -> Result<bool> {
        self.token.destroy(id).describe("destroy", &format!("key {id}"))
    }

    /// Creates a KEK that unwraps and does nothing else, as a private object of the user's: nobody
    /// has to trust it. One that lasts as long as the session never reaches the token's store.
    ///
    /// # Errors
    /// `Conflict` where the token has this KEK already or is a live vault's, `Verification` where it
    /// does not keep the KEK's restrictions.
    pub fn install_kek(&self, kek: &KekSpec, lasting: Lasting) -> Result<()> {
        let subject = format!("KEK {} in {}", kek.id, self.name);
        let wraps = wrap::find_kek(self.session()).describe("look at", &self.name)?;
        if let Some((id, _)) = wraps {
            let why = format!("KEK {id} wraps there: it is a live vault's token");
            return Err(Error::conflict("install", subject, why).hint(
                "a KEK that unwraps belongs into the token of a standby or a drill host: whoever \
                 has the PIN of a token with both reads every key",
            ));
        }
        if self.find_kek(kek.id).describe("look at", &self.name)?.is_some() {
            return Err(Error::conflict("install", subject, "the token has it already")
                .hint("there is nothing to do"));
        }
        let template = template::unwrapping_kek(kek.id, lasting == Lasting::Token);
        let handle = template::create_secret(self.session(), template, &kek.value)
            .describe("create", &subject)?;
        let kept = template::check_unwrapping_kek(self.session(), handle);
        if kept.is_err() {
            self.session().destroy_object(handle).describe("destroy", &subject)?;
        }
        kept
    }

    /// The KEKs that unwrap here, the oldest first.
    ///
    /// # Errors
    /// `Unavailable` where the token does not answer.
    pub fn keks(&self) -> Result<Vec<KeyId>> {
        let found = self.find_keks().describe("look at", &self.name)?;
        let mut ids: Vec<_> = found.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Destroys a KEK that unwraps; `false` where there is none of this id.
    ///
    /// # Errors
    /// `Unavailable` where the token does not answer.
    pub fn destroy_kek(&self, id: KeyId) -> Result<bool> {
        let subject = format!("KEK {id} in {}", self.name);
        let Some(kek) = self.find_kek(id).describe("look at", &self.name)? else {
            return Ok(false);
        };
        self.found.borrow_mut().remove(&id);
        self.session().destroy_object(kek).describe("destroy", &subject)?;
        Ok(true)
    }

    fn find_keks(&self) -> Result<Vec<(KeyId, ObjectHandle)>, Failure> {
        let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Unwrap(true)];
        let mut found = Vec::new();
        for handle in self.session().find_objects(&template)? {
            let read = self.session().get_attributes(handle, &[AttributeType::Id])?;
            if let Some(Attribute::Id(bytes)) = read.first()
                && let Some(id) = KeyId::from_bytes(bytes)
            {
                found.push((id, handle));
            }
        }
        Ok(found)
    }

    fn find_kek(&self, id: KeyId) -> Result<Option<ObjectHandle>, Failure> {
        if let Some(handle) = self.found.borrow().get(&id) {
            return Ok(Some(*handle));
        }
        let all: BTreeMap<_, _> = self.find_keks()?.into_iter().collect();
        let handle = all.get(&id).copied();
        self.found.replace(all);
        Ok(handle)
    }

    /// Unwraps a private key inside the token, with every restriction that it was born with.
    ///
    /// # Errors
    /// `NotFound` where its KEK is not here, `Verification` where the blob is not what that KEK has
    /// wrapped or the token does not keep the key's restrictions.
    pub fn unwrap(
        &self,
        spec: &KeySpec,
        wrapped: &WrappedKey,
        lasting: Lasting,
    ) -> Result<Recovered> {
        let subject = format!("key {}", spec.id);
        let Some(kek) = self.find_kek(wrapped.kek).describe("look at", &self.name)? else {
            let why = format!("KEK {} is not in {}", wrapped.kek, self.name);
            return Err(Error::not_found("unwrap", subject, why)
                .hint("`vaultctl kek install` puts it there, by a quorum of its custodians"));
        };
        let way = match wrapped.mechanism {
            WrapMechanism::AesKeyWrapPad => Ck::AesKeyWrapPad,
            WrapMechanism::AesCbcPad => {
                let iv = wrapped.iv.as_slice().try_into().map_err(|_| {
                    let why = format!("its IV has {} bytes", wrapped.iv.len());
                    Error::verification("unwrap", &subject, why)
                })?;
                Ck::AesCbcPad(iv)
            }
        };
        let kind = mechanism::key_type(spec.algorithm.default_mechanism());
        let lasts = lasting == Lasting::Token;
        let template = template::recovered(spec, kind, lasts);
        let unwrapped = self.session().unwrap_key(&way, kek, &wrapped.blob, &template);
        let private = unwrapped.map_err(|error| {
            let failure = Failure::from(error);
            if failure.is_loss() {
                return failure.into_error("unwrap", &subject);
            }
            let why = failure.into_error("unwrap", &subject).why;
            Error::verification("unwrap", &subject, why)
                .hint("it was changed, or wrapped by another KEK than it says")
        })?;
        let kept = template::check_private(self.session(), private, spec.escrow, lasts);
        if kept.is_err() {
            self.session().destroy_object(private).describe("destroy", &subject)?;
        }
        kept.describe("unwrap", &subject)?;
        Ok(Recovered { id: spec.id, private })
    }

    /// Creates the public half of a key that was unwrapped for good.
    ///
    /// # Errors
    /// `Invalid` where the public key is malformed, `Unavailable` where the token does not answer.
    pub fn publish(&self, spec: &KeySpec, key: &PublicKey) -> Result<()> {
        let subject = format!("the public half of key {}", spec.id);
        self.token.publish(spec, key).describe("create", &subject)
    }

    /// Signs with a key that was unwrapped: for a challenge, to hold against the public key in its
    /// certificate.
    ///
    /// # Errors
    /// `Invalid` where the mechanism does not fit.
    pub fn sign(&self, key: &Recovered, how: Mechanism, message: &[u8]) -> Result<Signature> {
        let subject = format!("key {}", key.id);
        let raw = mechanism::sign(self.session(), key.private, how, message);
        Ok(Signature::from_pkcs11(how, raw.describe("sign", &subject)?))
    }

    /// Destroys a key that was unwrapped.
    ///
    /// # Errors
    /// `Unavailable` where the token does not answer.
    pub fn destroy(&self, key: Recovered) -> Result<()> {
        let subject = format!("key {}", key.id);
        self.session().destroy_object(key.private).describe("destroy", &subject)
    }
}
