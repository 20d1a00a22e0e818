//! The module and its tokens before anybody is logged in: loading, finding, and what the security
//! officer does once (initialise, install the KEK).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11},
    error::{Error as CkError, RvError},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use secrecy::{ExposeSecret as _, SecretString};
use vault_custody::locked::Locked;
use vault_proto::ids::KeyId;

use super::{
    TokenUri,
    rv::{Describe as _, Failure},
    template,
};
use crate::error::{Error, Result};
use crate::keystore::TokenInfo;

/// Modules of this process: C_Initialize is for once.
static LOADED: LazyLock<Mutex<HashMap<PathBuf, Module>>> = LazyLock::new(Mutex::default);

/// A loaded PKCS#11 module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    context: Pkcs11,
    name: String,
    life: Arc<RwLock<Life>>,
}

/// How often a module was initialised. What it gave out in one life, it may give to others in the
/// next: a handle from before would be somebody else's session, or another key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Life(u64);

/// What there is of a token.
#[derive(Debug, Clone)]
pub enum TokenState {
    /// No token has the label; a free slot can take it.
    Absent,
    /// It is there and initialised.
    Ready(TokenInfo),
}

/// A KEK to install. Its value exists in this form during a ceremony only.
pub struct KekSpec {
    /// Becomes its CKA_ID.
    pub id: KeyId,
    /// AES-256.
    pub value: Locked,
}

impl Module {
    /// Loads a module and initialises it, once per process.
    ///
    /// # Errors
    /// `Invalid` where the file is missing or no PKCS#11 module, `Unavailable` where it does not
    /// initialise.
    pub fn load(path: &Path) -> Result<Self> {
        let name = format!("PKCS#11 module {}", path.display());
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(path) {
            return Ok(module.clone());
        }
        let context = Pkcs11::new(path).map_err(|e| {
            Error::invalid("load", &name, e)
                .hint("check module-path in [hsm] uri; Debian's SoftHSM is in package softhsm2")
        })?;
        let module = Self { context, name, life: Arc::default() };
        module.initialize().describe("initialise", &module.name)?;
        loaded.insert(path.to_owned(), module.clone());
        Ok(module)
    }

    fn initialize(&self) -> Result<(), Failure> {
        match self.context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(CkError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The life that the module is in. It begins no other one while this is held, so hold it through
    /// every call with a handle.
    pub(super) fn life(&self) -> RwLockReadGuard<'_, Life> {
        self.life.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Initialises a module that says it is not: somebody has finalised it, or its own other half was
    /// started anew. Only the first who has seen the end of `ended` does it.
    pub(super) fn revive(&self, ended: Life) -> Result<(), Failure> {
        // Not waited for: a call that hangs would take those with it that come after.
        let Ok(mut life) = self.life.try_write() else {
            let rv = RvError::CryptokiNotInitialized;
            return Err(Failure::Token(CkError::Pkcs11(rv, Function::Initialize)));
        };
        if *life == ended {
            self.initialize()?;
            life.0 += 1;
            tracing::warn!(module = self.name, "the PKCS#11 module was initialised anew");
        }
        Ok(())
    }

    pub(super) fn context(&self) -> &Pkcs11 {
        &self.context
    }

    /// What there is of the token.
    ///
    /// # Errors
    /// `Unavailable` where the module does not answer, `Conflict` where two tokens match.
    pub fn token(&self, uri: &TokenUri) -> Result<TokenState> {
        match self.find(uri).describe("list tokens", &self.name)? {
            Some(slot) => self.info(slot).map(TokenState::Ready).describe("ask", &self.name),
            None => Ok(TokenState::Absent),
        }
    }

    /// The slot of the token, looked up anew since slots move.
    fn find(&self, uri: &TokenUri) -> Result<Option<Slot>, Failure> {
        let slots = self.context.get_slots_with_token()?;
        let mut found = None;
        for slot in slots {
            // A slot may lose its token between the two calls.
            let Ok(info) = self.context.get_token_info(slot) else { continue };
            if info.token_initialized()
                && uri.matches(info.label().trim(), info.serial_number().trim())
            {
                if found.is_some() {
                    return Err(Error::conflict(
                        "find",
                        format!("token {}", uri.label()),
                        "two tokens have this label",
                    )
                    .hint("add serial=... to [hsm] uri")
                    .into());
                }
                found = Some(slot);
            }
        }
        Ok(found)
    }

    /// The slot of a token that must be there.
    pub(super) fn require(&self, uri: &TokenUri) -> Result<Slot, Failure> {
        self.find(uri)?.ok_or_else(|| {
            Failure::Absent(
                Error::not_found(
                    "find",
                    format!("token {}", uri.label()),
                    "no token has this label",
                )
                .hint("check token= in [hsm] uri and the module's own configuration"),
            )
        })
    }

    pub(super) fn info(&self, slot: Slot) -> Result<TokenInfo, Failure> {
        let info = self.context.get_token_info(slot)?;
        let model = format!("{} {}", info.manufacturer_id().trim(), info.model().trim());
        Ok(TokenInfo {
            label: info.label().trim().to_owned(),
            model: model.trim().to_owned(),
            serial: info.serial_number().trim().to_owned(),
        })
    }

    /// Initialises a free slot with the label and sets the user PIN. With `wipe`, a token that has
    /// the label already is initialised anew and loses everything: for a ceremony that was
    /// interrupted, whose token nobody was told of.
    ///
    /// Must come before any login of this process.
    ///
    /// # Errors
    /// `Conflict` where the token exists and `wipe` is not set, `Exhausted` where no slot is free,
    /// `Denied` where the token refuses a PIN.
    pub fn initialize_token(
        &self,
        uri: &TokenUri,
        so_pin: &SecretString,
        user_pin: &SecretString,
        wipe: bool,
    ) -> Result<()> {
        let subject = format!("token {}", uri.label());
        let slot = match self.find(uri).describe("list tokens", &self.name)? {
            Some(slot) if wipe => slot,
            Some(_) => return Err(Error::conflict("initialise", subject, "it exists already")),
            None => self.free_slot(&subject)?,
        };
        let init = self.context.init_token(slot, &auth_pin(so_pin), uri.label());
        init.describe("initialise", &subject)?;
        let session = self.officer_session(uri, so_pin)?;
        let set = session.init_pin(&auth_pin(user_pin)).describe("set the user PIN", &subject);
        end(session, set)
    }

    /// Creates the trusted, wrap-only KEK as the security officer, who alone can set CKA_TRUSTED.
    ///
    /// Must come before any login of this process.
    ///
    /// # Errors
    /// `Denied` for a wrong SO PIN, tried once; `Verification` where the token does not keep the
    /// KEK's restrictions.
    pub fn install_kek(&self, uri: &TokenUri, so_pin: &SecretString, kek: &KekSpec) -> Result<()> {
        let subject = format!("the KEK of token {}", uri.label());
        let session = self.officer_session(uri, so_pin)?;
        let install = || -> Result<()> {
            let handle = template::create_secret(&session, template::kek(kek.id), &kek.value)
                .describe("create", &subject)?;
            let kept = template::check_kek(&session, handle);
            if kept.is_err() {
                session.destroy_object(handle).describe("destroy", &subject)?;
            }
            kept
        };
        let done = install();
        end(session, done)
    }

    fn free_slot(&self, subject: &str) -> Result<Slot> {
        let slots = self.context.get_slots_with_token().describe("list tokens", &self.name)?;
        let free = |slot: &Slot| {
            self.context.get_token_info(*slot).is_ok_and(|info| !info.token_initialized())
        };
        slots.into_iter().find(free).ok_or_else(|| {
            Error::exhausted("initialise", subject, "no slot of the module is free")
                .hint("initialise the token with the HSM's own tools, or free a slot")
        })
    }

    fn officer_session(&self, uri: &TokenUri, so_pin: &SecretString) -> Result<Session> {
        let subject = format!("token {}", uri.label());
        let slot = self.require(uri).describe("list tokens", &self.name)?;
        let session = self.context.open_rw_session(slot).describe("open a session", &subject)?;
        let login = session.login(UserType::So, Some(&auth_pin(so_pin)));
        login.describe("log in the security officer", &subject)?;
        Ok(session)
    }
}

/// Logs out and closes, whatever came before; the first error is the one that counts.
fn end(session: Session, done: Result<()>) -> Result<()> {
    let out = session.logout().describe("log out", "the token");
    done.and(out)
}

/// A PIN as cryptoki takes it.
pub(super) fn auth_pin(pin: &SecretString) -> AuthPin {
    AuthPin::new(pin.expose_secret().into())
}
