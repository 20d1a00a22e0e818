//! Who can open a backup: age recipients and identities (X25519).

use std::collections::BTreeSet;

use age::{Encryptor, IdentityFile, x25519};

use crate::Fault;

/// Whom a backup is encrypted to; at least one.
#[derive(Clone)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// Checks a list.
    ///
    /// # Errors
    /// Where it is empty, and naming one that is malformed or there twice.
    pub fn parse(list: &[String]) -> Result<Self, Fault> {
        if list.is_empty() {
            return Err(Fault::given("there is no recipient"));
        }
        let (mut seen, mut parsed) = (BTreeSet::new(), Vec::new());
        for text in list {
            let wrong = |why: &str| Fault::given(format!("recipient {text:?}: {why}"));
            if !seen.insert(text.as_str()) {
                return Err(wrong("it is there twice"));
            }
            parsed.push(text.parse().map_err(wrong)?);
        }
        Ok(Self(parsed))
    }

    /// As they are written: `age1...`.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn encryptor(&self) -> std::io::Result<Encryptor> {
        let all = self.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        Encryptor::with_recipients(all).map_err(std::io::Error::other)
    }
}

/// What opens backups.
#[derive(Default)]
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

impl Identities {
    /// Adds those of an identity file, as `age-keygen` writes it.
    ///
    /// # Errors
    /// Where it is none.
    pub fn add(&mut self, text: &str) -> Result<(), Fault> {
        let none = || Fault::given("it is no file of age identities (AGE-SECRET-KEY-1...)");
        let file = IdentityFile::from_buffer(text.as_bytes()).map_err(|_| none())?;
        let identities = file.into_identities().map_err(|_| none())?;
        if identities.is_empty() {
            return Err(none());
        }
        self.0.extend(identities);
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| &**identity as &dyn age::Identity)
    }
}
