//! The exchange of files, undone by a journal: whatever happens in between, either the new files
//! are proven or the last good ones are back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    owner::{group, user},
    target::{Access, Content, Target},
    verify::Chain,
};
use crate::config::Install;
use crate::durable;
use crate::error::{Error, Result};
use crate::keys::{self, LocalKey};
use crate::signer::uri;

/// What is held of a certificate: the last version that was proven here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    /// The vault's version.
    pub version: u64,
    /// SHA-256 over the leaf's DER, lower-case hex.
    pub fingerprint: String,
    /// The leaf's serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 over its key (SubjectPublicKeyInfo, DER), lower-case hex.
    pub key_fingerprint: String,
    /// The leaf's start.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// The leaf's end.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Whether a handshake has shown it.
    pub served: bool,
    /// How it was proven.
    pub proof: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// What was there before, written before anything is touched.
#[derive(Serialize, Deserialize)]
struct Journal {
    version: u64,
    /// SHA-256 over the new leaf's DER: tells the new chain from the last good one.
    fingerprint: String,
    /// `None`: there was no file.
    chain: Option<Access>,
    key: Option<Access>,
    /// A chain of custody `vault` leaves the key's file alone.
    with_key: bool,
    /// As `chain`, of the staple.
    #[serde(default)]
    staple: Option<Access>,
    /// An exchange without a new staple leaves the staple's file alone.
    #[serde(default)]
    with_staple: bool,
}

/// An exchange that a crash left open.
pub struct Interrupted {
    /// The version that was to be installed.
    pub version: u64,
    /// Its chain, where all of its files are in place.
    pub chain: Option<Chain>,
    /// Whether a key was exchanged, too.
    pub with_key: bool,
}

/// Who keeps a certificate's private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// This server.
    Agent,
    /// The vault; the key's URI where it may be used here.
    Vault(Option<String>),
}

/// One certificate's files and records.
pub struct Files {
    dir: PathBuf,
    chain: Target,
    key: Option<Target>,
    staple: Option<Target>,
    chain_access: Access,
    key_access: Access,
    state_dir: PathBuf,
    certificate: String,
}

impl Files {
    /// Opens the directories of the files.
    ///
    /// # Errors
    /// `Invalid` where a path or an owner of `agent.toml` is not there.
    pub fn open(state_dir: &Path, install: &Install) -> Result<Self> {
        let certificate = install.certificate.to_string();
        let dir = keys::directory(state_dir, &certificate);
        durable::create_dir(&dir)?;
        let uid = install.owner.as_deref().map(user).transpose()?;
        let gid = install.group.as_deref().map(group).transpose()?;
        Ok(Self {
            dir,
            chain: Target::open(&install.chain)?,
            key: install.key.as_deref().map(Target::open).transpose()?,
            staple: install.staple.as_deref().map(Target::open).transpose()?,
            chain_access: Access { mode: install.mode, uid, gid },
            key_access: Access { mode: install.key_mode, uid, gid },
            state_dir: state_dir.to_owned(),
            certificate,
        })
    }

    fn journal(&self) -> PathBuf {
        self.dir.join("journal.json")
    }
    fn backup(&self, of: &str) -> PathBuf {
        self.dir.join(format!("last-good-{of}.pem"))
    }
    fn held_key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// What is held.
    ///
    /// # Errors
    /// Where the state directory is damaged.
    pub fn held(&self) -> Result<Option<Held>> {
        held(&self.state_dir, &self.certificate)
    }

    /// What goes into the key's file with a chain: the agent's own key, be it the one that waits
    /// for the chain or the one in use, or where the vault keeps the key, its URI. `None` where no
    /// key's file is configured for the latter.
    ///
    /// # Errors
    /// `Verification` where the agent keeps the key and has none that fits.
    pub fn key_for(&self, chain: &Chain, keeper: &Keeper) -> Result<Option<LocalKey>> {
        let subject = || format!("certificate {}", self.certificate);
        match (keeper, &self.key) {
            (Keeper::Vault(Some(uri)), Some(_)) => {
                let pem = Zeroizing::new(uri::pem(uri)?);
                return Ok(Some(LocalKey { pem, spki_der: chain.spki_der.clone() }));
            }
            (Keeper::Vault(_), _) => return Ok(None),
            (Keeper::Agent, None) => {
                return Err(Error::invalid("install", subject(), "agent.toml names no key file"));
            }
            (Keeper::Agent, Some(_)) => {}
        }
        let waiting = keys::pending(&self.state_dir, &self.certificate)?;
        let kept = self.kept_key()?;
        let fitting = [waiting, kept].into_iter().flatten().find(|k| k.spki_der == chain.spki_der);
        let none = || {
            Error::verification("install", subject(), "no key of this server belongs to the chain")
                .hint("`vaultctl cert renew NAME --force` orders one for a new key")
        };
        Ok(Some(fitting.ok_or_else(none)?))
    }

    /// The key that an exchange has put in place, which a crash has left open.
    ///
    /// # Errors
    /// As [`Files::key_for`].
    pub fn key_in_place(&self, chain: &Chain, with_key: bool) -> Result<Option<LocalKey>> {
        let Some(target) = self.key.as_ref().filter(|_| with_key) else { return Ok(None) };
        match target.read()? {
            Some(content) if uri::is_uri(&content.bytes) => {
                let pem = String::from_utf8_lossy(&content.bytes).into_owned();
                let pem = Zeroizing::new(pem);
                Ok(Some(LocalKey { pem, spki_der: chain.spki_der.clone() }))
            }
            _ => self.key_for(chain, &Keeper::Agent),
        }
    }

    fn kept_key(&self) -> Result<Option<LocalKey>> {
        let Some(bytes) = durable::read(&self.held_key())? else { return Ok(None) };
        if uri::is_uri(&bytes) {
            return Ok(None);
        }
        let pem = String::from_utf8(bytes).map_err(|e| {
            Error::local("read", self.held_key().display().to_string(), e.utf8_error())
        })?;
        LocalKey::parse(Zeroizing::new(pem)).map(Some)
    }

    /// Whether the files are as they were proven.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn intact(&self, chain: &Chain, key: Option<&LocalKey>) -> Result<bool> {
        let same = |target: &Target, bytes: &[u8]| -> Result<bool> {
            Ok(target.read()?.is_some_and(|content| *content.bytes == bytes))
        };
        let key_intact = match (&self.key, key) {
            (Some(target), Some(key)) => same(target, key.pem.as_bytes())?,
            _ => true,
        };
        Ok(key_intact && same(&self.chain, chain.pem.as_bytes())?)
    }

    fn is_in_place(&self, target: &Target, key: &LocalKey) -> Result<bool> {
        Ok(target.read()?.is_some_and(|content| {
            *content.bytes == key.pem.as_bytes() && self.key_access.is_met_by(content.access)
        }))
    }

    /// Remembers the last good files, then puts the new ones in place.
    ///
    /// # Errors
    /// Where any of it is refused; [`Files::roll_back`] is right after any outcome.
    pub fn swap(
        &self,
        version: u64,
        chain: &Chain,
        key: Option<&LocalKey>,
        staple: Option<&[u8]>,
    ) -> Result<()> {
        // One that could not be undone is undone first: what is in place now is not the last good.
        self.roll_back()?;
        let remember = |target: &Target, name: &str| -> Result<Option<Access>> {
            let Some(content) = target.read()? else { return Ok(None) };
            // It lasts once the journal does, which is beside it.
            durable::put(&self.backup(name), &content.bytes, 0o600)?;
            Ok(Some(content.access))
        };
        let key_target = match self.key.as_ref().zip(key) {
            // A renewal with the key that is in place exchanges the chain alone.
            Some((target, key)) if self.is_in_place(target, key)? => None,
            other => other,
        };
        let staple_target = self.staple.as_ref().zip(staple);
        let journal = Journal {
            version,
            fingerprint: chain.fingerprint(),
            chain: remember(&self.chain, "chain")?,
            key: key_target.map(|(target, _)| remember(target, "key")).transpose()?.flatten(),
            with_key: key_target.is_some(),
            staple: staple_target.map(|(t, _)| remember(t, "staple")).transpose()?.flatten(),
            with_staple: staple_target.is_some(),
        };
        durable::write_json(&self.journal(), &journal)?;
        if let Some((target, key)) = key_target {
            let bytes = Zeroizing::new(key.pem.as_bytes().to_vec());
            target.replace(&Content { bytes, access: self.key_access })?;
        }
        if let Some((target, staple)) = staple_target {
            let bytes = Zeroizing::new(staple.to_vec());
            target.replace(&Content { bytes, access: self.chain_access })?;
        }
        let bytes = Zeroizing::new(chain.pem.as_bytes().to_vec());
        self.chain.replace(&Content { bytes, access: self.chain_access })
    }

    /// Puts the last good files back. Does nothing where no exchange is open.
    ///
    /// # Errors
    /// Where a file cannot be written; the journal stays, so that it is tried again.
    pub fn roll_back(&self) -> Result<()> {
        let Some(journal) = durable::read_json::<Journal>(&self.journal())? else { return Ok(()) };
        let restore = |target: &Target, name: &str, access: Option<Access>| -> Result<()> {
            let Some(access) = access else { return target.remove() };
            let bytes = durable::read(&self.backup(name))?.ok_or_else(|| {
                Error::local("restore", self.backup(name).display().to_string(), "it is gone")
            })?;
            target.replace(&Content { bytes: Zeroizing::new(bytes), access })
        };
        if let Some(key) = self.key.as_ref().filter(|_| journal.with_key) {
            restore(key, "key", journal.key)?;
        }
        if let Some(staple) = self.staple.as_ref().filter(|_| journal.with_staple) {
            restore(staple, "staple", journal.staple)?;
        }
        restore(&self.chain, "chain", journal.chain)?;
        self.close()
    }

    /// Makes the new files the last good ones.
    ///
    /// # Errors
    /// Where the state directory cannot be written.
    pub fn commit(&self, held: &Held, key: Option<&LocalKey>) -> Result<()> {
        if let Some(key) = key
            && durable::read(&self.held_key())?.map(Zeroizing::new).as_deref().map(Vec::as_slice)
                != Some(key.pem.as_bytes())
        {
            durable::put(&self.held_key(), key.pem.as_bytes(), 0o600)?;
        }
        // Both last from here on.
        durable::write_json(&self.dir.join("held.json"), held)?;
        if key.is_some_and(|key| self.waits(key)) {
            keys::forget_pending(&self.state_dir, &self.certificate)?;
        }
        self.close()
    }

    fn waits(&self, key: &LocalKey) -> bool {
        let waiting = keys::pending(&self.state_dir, &self.certificate);
        waiting.is_ok_and(|waiting| waiting.is_some_and(|w| w.spki_der == key.spki_der))
    }

    fn close(&self) -> Result<()> {
        durable::remove(&self.journal())?;
        // Without a journal they mean nothing: the next exchange makes them anew.
        for of in ["key", "staple", "chain"] {
            durable::unlink(&self.backup(of))?;
        }
        Ok(())
    }

    /// The staple in place.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn present_staple(&self) -> Result<Option<Vec<u8>>> {
        let content = self.staple.as_ref().map(Target::read).transpose()?.flatten();
        Ok(content.map(|content| content.bytes.to_vec()))
    }

    /// Puts a staple in place, or takes it away, and nothing else.
    ///
    /// # Errors
    /// Where that is refused.
    pub fn put_staple(&self, staple: Option<&[u8]>) -> Result<()> {
        match (&self.staple, staple) {
            (Some(target), Some(staple)) => {
                let bytes = Zeroizing::new(staple.to_vec());
                target.replace(&Content { bytes, access: self.chain_access })
            }
            (Some(target), None) => target.remove(),
            (None, _) => Ok(()),
        }
    }

    /// The exchange that a crash left open.
    ///
    /// # Errors
    /// Where the state directory is damaged.
    pub fn interrupted(&self) -> Result<Option<Interrupted>> {
        let Some(journal) = durable::read_json::<Journal>(&self.journal())? else {
            return Ok(None);
        };
        // The chain comes after the key: where it is the new one, both are.
        let chain = self.chain.read()?.and_then(|content| {
            let pem = String::from_utf8(content.bytes.to_vec()).ok()?;
            Chain::parse(&pem).ok().filter(|chain| chain.fingerprint() == journal.fingerprint)
        });
        Ok(Some(Interrupted { version: journal.version, chain, with_key: journal.with_key }))
    }
}

/// What is held of a certificate.
///
/// # Errors
/// Where the state directory is damaged.
pub fn held(state_dir: &Path, certificate: &str) -> Result<Option<Held>> {
    durable::read_json(&keys::directory(state_dir, certificate).join("held.json"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    fn files(dir: &Path) -> Files {
        fs::create_dir_all(dir.join("state")).unwrap();
        let access = |mode| Access { mode, uid: None, gid: None };
        Files {
            dir: dir.join("state"),
            chain: Target::open(&dir.join("chain.pem")).unwrap(),
            key: Some(Target::open(&dir.join("key.pem")).unwrap()),
            staple: None,
            chain_access: access(0o644),
            key_access: access(0o600),
            state_dir: dir.join("state"),
            certificate: "shop".to_owned(),
        }
    }

    fn chain(key: &rcgen::KeyPair) -> Chain {
        let names = vec!["shop.example".to_owned()];
        let params = rcgen::CertificateParams::new(names).unwrap();
        Chain::parse(&params.self_signed(key).unwrap().pem()).unwrap()
    }

    #[test]
    fn a_key_that_is_in_place_is_left_alone_and_one_that_is_not_is_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let (files, pair) = (files(dir.path()), rcgen::KeyPair::generate().unwrap());
        let (one, two) = (chain(&pair), chain(&pair));
        let key = |pem: &str| LocalKey {
            pem: Zeroizing::new(pem.to_owned()),
            spki_der: one.spki_der.clone(),
        };
        let place = |chain: &Chain, key: &LocalKey| {
            files.swap(1, chain, Some(key), None).unwrap();
            let meta = fs::metadata(dir.path().join("key.pem")).unwrap();
            (meta.ino(), meta.mtime_nsec(), meta.mode() & 0o777)
        };
        let first = place(&one, &key("a key"));
        fs::remove_file(files.journal()).unwrap();
        assert_eq!(place(&two, &key("a key")), first);
        assert_eq!(fs::read_to_string(dir.path().join("chain.pem")).unwrap(), *two.pem);
        // What was exchanged is undone, and nothing else.
        files.roll_back().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("chain.pem")).unwrap(), *one.pem);
        assert_eq!(fs::read_to_string(dir.path().join("key.pem")).unwrap(), "a key");
        let other = place(&two, &key("another key"));
        assert_ne!(other, first);
        files.roll_back().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("key.pem")).unwrap(), "a key");
        // Whoever may read it counts, too.
        let wide = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(dir.path().join("key.pem"), wide).unwrap();
        assert_eq!(place(&two, &key("a key")).2, 0o600);
    }
}
