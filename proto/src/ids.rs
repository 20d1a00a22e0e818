//! Ids and names: parsed once at the edge, then carried as types that cannot be mixed up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is no name or id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {why}")]
pub struct InvalidId {
    /// What it should have been, for example "key name".
    pub what: &'static str,
    /// The text.
    pub text: String,
    /// The rule it breaks.
    pub why: &'static str,
}

/// Names are labels of HSM objects, parts of SPIFFE ids (SPIFFE-ID section 2.2) and file names, so
/// they keep to what all three take.
fn check_name(what: &'static str, text: &str) -> Result<(), InvalidId> {
    let invalid = |why| InvalidId { what, text: text.chars().take(80).collect(), why };
    if text.is_empty() || text.len() > 63 {
        return Err(invalid("it must have 1 to 63 characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)) {
        return Err(invalid("only a-z, 0-9, '-', '_' and '.' are allowed"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(invalid("it must begin with a letter or digit"));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check_name($what, text)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// An operator's name for a key.
    KeyName, "key name"
);
name_type!(
    /// A certificate's name.
    CertificateName, "certificate name"
);
name_type!(
    /// An ACME account's name.
    AccountName, "account name"
);
name_type!(
    /// An agent's name, one per web server.
    AgentName, "agent name"
);
name_type!(
    /// The name of a person or program that operates or audits the vault.
    OperatorName, "operator name"
);

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, ordered by time (UUID version 7, RFC 9562).
            pub fn random() -> Self {
                Self(Uuid::now_v7())
            }
            /// Its 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
            /// The id whose 16 bytes these are.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = |_| InvalidId {
                    what: $what,
                    text: text.chars().take(80).collect(),
                    why: "it must be a UUID",
                };
                text.parse().map(Self).map_err(invalid)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id_type!(
    /// A key's id; its 16 bytes are the CKA_ID of the HSM objects (PKCS#11 v3.1 section 4.9).
    KeyId, "key id"
);
id_type!(
    /// An ACME order of the vault's (not the CA's URL for it).
    OrderId, "order id"
);
id_type!(
    /// Ties an audited intent to its result.
    OperationId, "operation id"
);
id_type!(
    /// A backup that the vault has made.
    BackupId, "backup id"
);
id_type!(
    /// A drill.
    DrillId, "drill id"
);

/// Who a caller is, by the path of its SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// `/operator/NAME`: may change things.
    Operator(OperatorName),
    /// `/auditor/NAME`: may look and verify.
    Auditor(OperatorName),
    /// `/agent/NAME`: a web server.
    Agent(AgentName),
    /// `/vault/server`: a vault itself.
    Vault,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => write!(f, "operator/{name}"),
            Self::Auditor(name) => write!(f, "auditor/{name}"),
            Self::Agent(name) => write!(f, "agent/{name}"),
            Self::Vault => f.write_str("vault/server"),
        }
    }
}

/// A SPIFFE id (SPIFFE-ID section 2): `spiffe://TRUST-DOMAIN/KIND/NAME`.
///
/// ```
/// use vault_proto::ids::{Identity, SpiffeId};
///
/// let id: SpiffeId = "spiffe://example.org/agent/web1".parse()?;
/// assert_eq!(id.trust_domain(), "example.org");
/// assert_eq!(id.identity(), &Identity::Agent("web1".parse()?));
/// assert!("spiffe://example.org/root/web1".parse::<SpiffeId>().is_err());
/// # Ok::<(), vault_proto::ids::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    trust_domain: String,
    identity: Identity,
}

impl SpiffeId {
    /// The id of `identity` in `trust_domain`.
    ///
    /// # Errors
    /// Where the trust domain has other characters than SPIFFE-ID section 2.1 allows.
    pub fn new(trust_domain: &str, identity: Identity) -> Result<Self, InvalidId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.bytes().all(allowed)
        {
            return Err(InvalidId {
                what: "trust domain",
                text: trust_domain.chars().take(80).collect(),
                why: "it must have 1 to 255 characters of a-z, 0-9, '-', '_' and '.'",
            });
        }
        Ok(Self { trust_domain: trust_domain.to_owned(), identity })
    }

    /// The part between `spiffe://` and the first slash.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}", self.trust_domain, self.identity)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid =
            |why| InvalidId { what: "SPIFFE id", text: text.chars().take(120).collect(), why };
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| invalid("it must begin with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or_else(|| invalid("it has no path"))?;
        let identity = match path.split_once('/') {
            Some(("operator", name)) => Identity::Operator(name.parse()?),
            Some(("auditor", name)) => Identity::Auditor(name.parse()?),
            Some(("agent", name)) => Identity::Agent(name.parse()?),
            Some(("vault", "server")) => Identity::Vault,
            _ => return Err(invalid("its path is none of this vault's kinds")),
        };
        Self::new(domain, identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_file_or_spiffe_id_takes_is_refused() {
        for text in ["", "A", "a b", "../x", ".x", "-x", "ü", "a/b", &"a".repeat(64)] {
            assert!(text.parse::<KeyName>().is_err(), "{text:?}");
        }
        for text in ["a", "web1", "shop.example.org", "a-b_c"] {
            assert!(text.parse::<KeyName>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_spiffe_id_reads_back_as_it_was_written() {
        for text in [
            "spiffe://example.org/operator/ada",
            "spiffe://example.org/auditor/eve",
            "spiffe://example.org/agent/web1",
            "spiffe://example.org/vault/server",
        ] {
            let id: SpiffeId = text.parse().expect(text);
            assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn a_foreign_spiffe_id_is_refused() {
        for text in [
            "https://example.org/operator/ada",
            "spiffe://example.org",
            "spiffe://example.org/root/ada",
            "spiffe://example.org/operator/ada/x",
            "spiffe:///operator/ada",
            "spiffe://EXAMPLE.org/operator/ada",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_id_reads_back_from_its_bytes() {
        let id = KeyId::random();
        assert_eq!(KeyId::from_bytes(id.as_bytes()), Some(id));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(KeyId::from_bytes(&[0; 15]), None);
    }
}
