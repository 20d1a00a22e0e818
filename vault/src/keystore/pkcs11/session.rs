//! One logged-in session.

use std::{collections::HashMap, sync::Arc};

use cryptoki::{
    context::Function,
    error::{Error as CkError, RvError},
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::{Session, SessionState, UserType},
};
use secrecy::SecretString;
use vault_proto::ids::KeyId;

use super::{
    Module, TokenUri,
    handles::{Epoch, Handles, PrivateKey},
    mechanism,
    module::{Life, auth_pin},
    public,
    rv::Failure,
    template, wrap,
};
use crate::error::Error;
use crate::keystore::{KekInfo, KeyObject, KeySpec, Mechanism, PublicKey, TokenInfo, WrappedKey};

/// A session of one worker thread.
pub(super) struct TokenSession {
    pub(super) session: Session,
    life: Life,
    info: TokenInfo,
    handles: Arc<Handles>,
}

impl TokenSession {
    /// Opens a session and logs in, with one try of the PIN.
    pub(super) fn open(
        module: &Module,
        uri: &TokenUri,
        pin: &SecretString,
        handles: &Arc<Handles>,
    ) -> Result<Self, Failure> {
        let life = module.life();
        let slot = module.require(uri)?;
        let flags = module.context().get_token_info(slot)?;
        if flags.user_pin_locked() || flags.user_pin_final_try() {
            let why = if flags.user_pin_locked() { "is locked" } else { "has one try left" };
            let subject = format!("token {}", uri.label());
            return Err(Failure::Ours(
                Error::denied("log in", subject, format!("the user PIN {why}"))
                    .hint("log in once with the HSM's own tools, or have the SO reset the PIN"),
            ));
        }
        let session = module.context().open_rw_session(slot)?;
        match session.login(UserType::User, Some(&auth_pin(pin))) {
            // Login is per application: another worker was first.
            Ok(()) | Err(CkError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(error.into()),
        }
        let info = module.info(slot)?;
        // The token may be another one than it was, with other objects behind the same handles.
        handles.forget();
        Ok(Self { session, life: *life, info, handles: handles.clone() })
    }

    /// Whether its handles mean anything in this life of the module.
    pub(super) fn is_of(&self, life: Life) -> bool {
        self.life == life
    }

    pub(super) fn forget_handles(&self) {
        self.handles.forget();
    }

    /// Asks the token, so that a dead one is noticed.
    pub(super) fn token_info(&mut self) -> Result<TokenInfo, Failure> {
        self.require_login()?;
        Ok(self.info.clone())
    }

    fn require_login(&self) -> Result<(), Failure> {
        match self.session.get_session_info()?.session_state() {
            SessionState::RwUser => Ok(()),
            _ => Err(Failure::Token(CkError::Pkcs11(RvError::UserNotLoggedIn, Function::Login))),
        }
    }

    fn find(&self, class: ObjectClass, id: KeyId) -> Result<Option<ObjectHandle>, Failure> {
        let template = [Attribute::Class(class), Attribute::Id(id.as_bytes().to_vec())];
        Ok(self.session.find_objects(&template)?.into_iter().next())
    }

    /// The private key's handle and type.
    fn private_key(&self, id: KeyId) -> Result<PrivateKey, Failure> {
        if let Some(key) = self.handles.private(id) {
            return Ok(key);
        }
        let epoch = self.handles.epoch();
        let Some(handle) = self.find(ObjectClass::PRIVATE_KEY, id)? else {
            // A token that was logged out hides private keys without a word.
            self.require_login()?;
            let subject = format!("key {id}");
            return Err(Failure::Ours(
                Error::not_found("find", subject, "the HSM has no such private key")
                    .hint("`vaultctl status` lists keys that are lost"),
            ));
        };
        self.remember(epoch, id, handle)
    }

    fn remember(
        &self,
        epoch: Epoch,
        id: KeyId,
        handle: ObjectHandle,
    ) -> Result<PrivateKey, Failure> {
        let read = self.session.get_attributes(handle, &[AttributeType::KeyType])?;
        let Some(Attribute::KeyType(kind)) = read.into_iter().next() else {
            let why = "the token does not say its CKA_KEY_TYPE";
            return Err(Error::internal("read", format!("key {id}"), why).into());
        };
        let key = PrivateKey { handle, kind };
        self.handles.remember(epoch, id, key);
        Ok(key)
    }

    pub(super) fn sign(
        &mut self,
        id: KeyId,
        how: Mechanism,
        message: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let key = self.private_key(id)?;
        if key.kind != mechanism::key_type(how) {
            let why = format!("it is of type {} and cannot sign {how}", key.kind);
            return Err(Failure::Ours(
                Error::invalid("sign", format!("key {id}"), why)
                    .hint("choose a mechanism of the key's own algorithm"),
            ));
        }
        mechanism::sign(&self.session, key.handle, how, message)
    }

    pub(super) fn generate(&mut self, spec: &KeySpec) -> Result<PublicKey, Failure> {
        self.require_login()?;
        let epoch = self.handles.epoch();
        // A look at what is remembered is enough: ids are random, and to search the token for what cannot
        // be there would take longer with each key.
        if self.handles.private(spec.id).is_some() {
            let why = "the HSM has a key with this id";
            return Err(Failure::Ours(Error::conflict(
                "generate",
                format!("key {}", spec.id),
                why,
            )));
        }
        let (how, variants) = mechanism::generation(spec.algorithm);
        let mut last = None;
        for extra in variants {
            let mut public = template::public(spec, self.public_lasts());
            public.extend(extra);
            match self.session.generate_key_pair(&how, &public, &template::private(spec, true)) {
                Ok((public, private)) => return self.accept(epoch, spec, public, private),
                Err(error) => last = Some(Failure::from(error)),
            }
            if last.as_ref().is_some_and(Failure::ends_session) {
                break;
            }
        }
        let none = || Error::internal("generate", format!("key {}", spec.id), "no way to try");
        Err(last.unwrap_or_else(|| Failure::Ours(none())))
    }

    /// Keeps a fresh pair only where the token kept every promise of its template.
    fn accept(
        &mut self,
        epoch: Epoch,
        spec: &KeySpec,
        public: ObjectHandle,
        private: ObjectHandle,
    ) -> Result<PublicKey, Failure> {
        let checked = template::check_private(&self.session, private, spec.escrow, true)
            .and_then(|()| public::read(&self.session, public))
            .and_then(|read| self.keep_public(public).map(|()| read));
        if checked.is_err() {
            self.destroy(spec.id)?;
        } else {
            self.remember(epoch, spec.id, private)?;
        }
        checked
    }

    /// Whether a public key is made as an object of the token. SoftHSM writes such an object's file anew with
    /// every attribute that it is made with, and a copy's at once: there it is made as an object of the session
    /// and copied into the token (PKCS#11 section 5.7.2), which nearly halves what a key pair takes. Private
    /// keys are not copyable.
    fn public_lasts(&self) -> bool {
        !self.info.model.starts_with("SoftHSM")
    }

    /// Copies a public key into the token that is made as an object of the session.
    fn keep_public(&self, public: ObjectHandle) -> Result<(), Failure> {
        if !self.public_lasts() {
            self.session.copy_object(public, &[Attribute::Token(true)])?;
            self.session.destroy_object(public)?;
        }
        Ok(())
    }

    /// Creates the public half of a key that was unwrapped for good.
    pub(super) fn publish(&self, spec: &KeySpec, key: &PublicKey) -> Result<(), Failure> {
        let public = public::create(&self.session, spec, key, self.public_lasts())?;
        self.keep_public(public)
    }

    pub(super) fn public_key(&mut self, id: KeyId) -> Result<Option<PublicKey>, Failure> {
        self.require_login()?;
        match self.find(ObjectClass::PUBLIC_KEY, id)? {
            Some(handle) => public::read(&self.session, handle).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn list(&mut self) -> Result<Vec<KeyObject>, Failure> {
        self.require_login()?;
        let mut all: HashMap<KeyId, KeyObject> = HashMap::new();
        for (class, is_private) in
            [(ObjectClass::PRIVATE_KEY, true), (ObjectClass::PUBLIC_KEY, false)]
        {
            let found =
                self.session.find_objects(&[Attribute::Class(class), Attribute::Token(true)])?;
            for handle in found {
                let Some((id, label)) = self.name(handle)? else { continue };
                let object = all.entry(id).or_insert(KeyObject { id, label, has_private: false });
                object.has_private |= is_private;
            }
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by_key(|object| object.id);
        Ok(all)
    }

    fn name(&self, handle: ObjectHandle) -> Result<Option<(KeyId, String)>, Failure> {
        let (mut id, mut label) = (None, String::new());
        for attribute in
            self.session.get_attributes(handle, &[AttributeType::Id, AttributeType::Label])?
        {
            match attribute {
                Attribute::Id(bytes) => id = KeyId::from_bytes(&bytes),
                Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
                _ => {}
            }
        }
        Ok(id.map(|id| (id, label)))
    }

    pub(super) fn destroy(&mut self, id: KeyId) -> Result<bool, Failure> {
        self.require_login()?;
        self.handles.destroyed(id);
        let mut any = false;
        // The private half first: a crash in between leaves what harms nobody.
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            while let Some(handle) = self.find(class, id)? {
                self.session.destroy_object(handle)?;
                any = true;
            }
        }
        Ok(any)
    }

    pub(super) fn kek(&mut self) -> Result<Option<KekInfo>, Failure> {
        self.require_login()?;
        Ok(wrap::find_kek(&self.session)?.map(|(id, _)| KekInfo { id }))
    }

    /// Whether there is one: the one that is known, where it still is what it was.
    pub(super) fn has_kek(&mut self) -> Result<bool, Failure> {
        self.require_login()?;
        if let Some((id, handle)) = self.handles.kek()
            && self.name(handle).is_ok_and(|name| name.is_some_and(|(known, _)| known == id))
        {
            return Ok(true);
        }
        if self.handles.has_no_kek() {
            return Ok(false);
        }
        let epoch = self.handles.epoch();
        let found = wrap::find_kek(&self.session)?;
        self.handles.remember_kek(epoch, found);
        Ok(found.is_some())
    }

    pub(super) fn retire_kek(&mut self, id: KeyId) -> Result<bool, Failure> {
        self.require_login()?;
        wrap::retire_kek(&self.session, id)
    }

    /// Wraps one of many: all private keys are found in one go, where each alone would take as long.
    pub(super) fn wrap(&mut self, id: KeyId) -> Result<WrappedKey, Failure> {
        if self.handles.private(id).is_none() && !self.handles.is_scanned() {
            self.remember_all()?;
        }
        let key = self.private_key(id)?;
        if let Some(kek) = self.handles.kek()
            && let Ok(wrapped) = wrap::wrap(&self.session, kek, key.handle)
        {
            return Ok(wrapped);
        }
        // It may have been replaced since it was found.
        let epoch = self.handles.epoch();
        let kek = wrap::require_kek(&self.session)?;
        self.handles.remember_kek(epoch, Some(kek));
        wrap::wrap(&self.session, kek, key.handle)
    }

    /// Wraps one after the other; what the token or the session has against one is against all.
    pub(super) fn wrap_some(
        &mut self,
        ids: &[KeyId],
    ) -> Result<Vec<Result<WrappedKey, Error>>, Failure> {
        let one = |id: &KeyId| match self.wrap(*id) {
            Err(Failure::Ours(error)) => Ok(Err(error)),
            other => other.map(Ok),
        };
        ids.iter().map(one).collect()
    }

    fn remember_all(&self) -> Result<(), Failure> {
        self.require_login()?;
        let epoch = self.handles.epoch();
        let all = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)];
        for handle in self.session.find_objects(&all)? {
            if let Some((id, _)) = self.name(handle)?
                && self.handles.private(id).is_none()
            {
                self.remember(epoch, id, handle)?;
            }
        }
        self.handles.scanned(epoch);
        Ok(())
    }
}
