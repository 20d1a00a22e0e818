//! Where a PIN comes from: never from the configuration itself.

use std::{env, fmt, fs, path::PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// A file, an environment variable or a systemd credential that holds a secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, remote = "Self")]
pub enum SecretSource {
    /// A file; a newline at its end is not part of the secret.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential (systemd.exec, `LoadCredential=`), by its name.
    Credential(String),
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Source)
    }
}

/// Takes a table. For anything else, a PIN most likely, the usual error would repeat it.
struct Source;

impl Source {
    fn refuse<E: de::Error>() -> Result<SecretSource, E> {
        Err(E::custom("a secret is not written here: say where it is, as { file = \"...\" }"))
    }
}

impl<'de> de::Visitor<'de> for Source {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table: { file = ... }, { env = ... } or { credential = ... }")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretSource, E> {
        Self::refuse()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretSource, E> {
        Self::refuse()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretSource, E> {
        Self::refuse()
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SecretSource, A::Error> {
        SecretSource::deserialize(de::value::MapAccessDeserializer::new(map))
    }
}

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    /// `Invalid` where it is missing, unreadable or empty.
    pub fn read(&self) -> Result<SecretString> {
        let bad = |why: String| {
            Error::invalid("read a PIN", self.to_string(), why)
                .hint("check pin and so_pin in [hsm] of vault.toml")
        };
        let from_file = |path: PathBuf| {
            fs::read_to_string(path).map(Zeroizing::new).map_err(|e| bad(e.to_string()))
        };
        let text = match self {
            Self::File(path) => from_file(path.clone())?,
            Self::Env(name) => Zeroizing::new(env::var(name).map_err(|e| bad(e.to_string()))?),
            Self::Credential(name) => {
                let dir = env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    bad("CREDENTIALS_DIRECTORY is not set: not started by systemd".to_owned())
                })?;
                from_file(PathBuf::from(dir).join(name))?
            }
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        if text.is_empty() {
            return Err(bad("it is empty".to_owned()));
        }
        Ok(SecretString::from(text))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}
