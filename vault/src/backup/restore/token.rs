//! The token of a restore: made ready, filled with the backup's keys, given its KEK. Everything here
//! blocks.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, json};
use vault_backup::{Entry, Manifest, Table};
use vault_custody::shares::Kek;
use vault_proto::ids::KeyId;

use super::{
    keys::Escrowed,
    log::Copy,
    source::{Source, fault},
};
use crate::audit::{AuditLog, Entry as Said, Outcome};
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::pkcs11::{Halves, KekSpec, Lasting, Module, Recovery, TokenState, TokenUri};
use crate::policy::{Action, Principal};
use crate::signing::MOST_WRAPPED;

/// A token and who may do what with it.
#[derive(Clone)]
pub(super) struct Token {
    module: Module,
    uri: TokenUri,
    pin: SecretString,
    so_pin: SecretString,
}

impl Token {
    pub(super) fn new(uri: TokenUri, pin: SecretString, so_pin: SecretString) -> Result<Self> {
        Ok(Self { module: Module::load(uri.module_path())?, uri, pin, so_pin })
    }

    pub(super) fn label(&self) -> &str {
        self.uri.label()
    }

    fn subject(&self) -> String {
        format!("token {}", self.label())
    }

    pub(super) fn is_there(&self) -> Result<bool> {
        Ok(matches!(self.module.token(&self.uri)?, TokenState::Ready(_)))
    }

    /// Initialises it, anew where it is there.
    pub(super) fn initialize(&self, wipe: bool) -> Result<()> {
        self.module.initialize_token(&self.uri, &self.so_pin, &self.pin, wipe)
    }

    fn open(&self) -> Result<Recovery> {
        Recovery::open(&self.module, &self.uri, &self.pin)
    }

    /// A token that holds anything is somebody's.
    pub(super) fn refuse_used(&self) -> Result<()> {
        match self.open()?.is_empty()? {
            true => Ok(()),
            false => Err(Error::conflict("restore into", self.subject(), "it is in use").hint(
                "a restore needs a token of its own: another token= in [hsm] uri, which is made \
                 where it is not there",
            )),
        }
    }

    /// The wrap-only KEK goes in, unless it is there already; answers the token's serial number once
    /// everything was read back.
    pub(super) fn complete(&self, kek: &Kek) -> Result<String> {
        let has = self.open()?.wrapping_kek()?;
        if has.is_none() {
            let spec = KekSpec { id: kek.id, value: kek.copy()? };
            self.module.install_kek(&self.uri, &self.so_pin, &spec)?;
        }
        crash_point!("restore.kek");
        let mut recovery = self.open()?;
        let (wraps, unwraps) = (recovery.wrapping_kek()?, recovery.keks()?);
        if wraps != Some(kek.id) || !unwraps.is_empty() {
            let why = format!("its KEK is {wraps:?}, and {} unwrap", unwraps.len());
            return Err(Error::verification("restore into", self.subject(), why)
                .hint("delete the token with the HSM's own tools, and begin again"));
        }
        Ok(recovery.token_info()?.serial)
    }
}

/// One pass over the backup: every wrapped key into the token, every record of its audit log into a
/// copy.
pub(super) struct Unwrapping<'a> {
    pub(super) token: &'a Token,
    pub(super) kek: &'a Kek,
    pub(super) audit: &'a AuditLog,
    pub(super) who: &'a Principal,
    /// Hears how many keys are there.
    pub(super) progress: &'a dyn Fn(u64),
}

/// The token in the middle of it.
struct Filling {
    recovery: Recovery,
    /// What was there when it began.
    before: BTreeMap<KeyId, Halves>,
    /// Whether the KEK that unwraps is there: not in a token that has its wrap-only one.
    unwraps: bool,
    done: u64,
}

impl Unwrapping<'_> {
    /// Does it; answers how many keys there are, and the manifest that was read at the end.
    ///
    /// # Errors
    /// `Verification` where a key is not what its row says, and those of the token.
    pub(super) fn run(&self, source: &Source, copy: &mut Copy) -> Result<(u64, Manifest)> {
        let mut filling = self.begin()?;
        let mut reader = source.open()?;
        let mut batch = Vec::new();
        while let Some(row) = reader.row().map_err(fault)? {
            if let Entry::Key(entry) = &row.entry {
                batch.extend(Escrowed::of(entry)?);
            }
            if batch.len() >= MOST_WRAPPED || row.table != Table::Keys {
                self.batch(&mut filling, std::mem::take(&mut batch))?;
            }
            if row.table == Table::Audit {
                copy.line(&row.line)?;
            }
        }
        self.batch(&mut filling, batch)?;
        let unread = || Error::internal("restore", "the backup", "its end was not reached");
        Ok((filling.done, reader.manifest().cloned().ok_or_else(unread)?))
    }

    /// Looks at what is there, once, and puts the KEK beside it for as long as the session lasts.
    fn begin(&self) -> Result<Filling> {
        let recovery = self.token.open()?;
        let before = recovery.pairs()?;
        let unwraps = recovery.wrapping_kek()?.is_none();
        if unwraps {
            let spec = KekSpec { id: self.kek.id, value: self.kek.copy()? };
            recovery.install_kek(&spec, Lasting::Session)?;
        }
        Ok(Filling { recovery, before, unwraps, done: 0 })
    }

    /// Some keys are one operation: they are named before the token is asked.
    fn batch(&self, filling: &mut Filling, keys: Vec<Escrowed>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let names: Map<_, _> =
            keys.iter().map(|key| (key.spec.id.to_string(), json!(key.name))).collect();
        let operation = self.audit.intent_blocking(Said {
            principal: self.who.to_string(),
            action: Action::KeyUnwrap.as_str().to_owned(),
            resource: format!("keys/{}", keys.len()),
            detail: json!({ "keys": names, "kek": self.kek.id }).into(),
            grouped: false,
        })?;
        let done = keys.iter().try_for_each(|key| self.one(filling, key));
        let (outcome, detail) = Outcome::of(&done, |()| json!({}));
        self.audit.finish_blocking(operation, outcome, detail)?;
        (self.progress)(filling.done);
        done
    }

    fn one(&self, filling: &mut Filling, key: &Escrowed) -> Result<()> {
        let recovery = &mut filling.recovery;
        let mut halves = filling.before.remove(&key.spec.id).unwrap_or_default();
        // What an interrupted restore has left is not believed: it proves itself as a new one does.
        let right = |private| {
            recovery.check(&key.spec, private).and_then(|()| key.prove(recovery, private))
        };
        let kept = halves.private.as_ref().is_some_and(|private| right(private).is_ok());
        if !kept {
            if !filling.unwraps {
                let why = format!("it is complete but for key {} ({})", key.name, key.spec.id);
                return Err(Error::conflict("restore into", self.token.subject(), why).hint(
                    "somebody has changed it: delete it with the HSM's own tools, and begin again",
                ));
            }
            if halves.private.is_some() || halves.public {
                recovery.destroy_pair(key.spec.id)?;
                halves.public = false;
            }
            key.unwrap(recovery, Lasting::Token)?;
            crash_point!("restore.unwrapped");
        }
        if !halves.public {
            recovery.publish(&key.spec, &key.public)?;
            crash_point!("restore.published");
        }
        filling.done += 1;
        Ok(())
    }
}
