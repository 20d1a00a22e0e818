//! Records to messages, where operators' and agents' messages have the same.

use vault_proto::v1;

use crate::keystore::Algorithm;
use crate::store::{Custody, Identifier};

impl From<Algorithm> for v1::KeyAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::EcP256 => Self::EcP256,
            Algorithm::EcP384 => Self::EcP384,
            Algorithm::Rsa2048 => Self::Rsa2048,
            Algorithm::Rsa3072 => Self::Rsa3072,
            Algorithm::Rsa4096 => Self::Rsa4096,
            Algorithm::Ed25519 => Self::Ed25519,
        }
    }
}

impl From<Custody> for v1::Custody {
    fn from(custody: Custody) -> Self {
        match custody {
            Custody::Vault => Self::Vault,
            Custody::Agent => Self::Agent,
        }
    }
}

/// Identifiers as the two lists that messages have: DNS names and IP addresses.
pub fn identifiers(identifiers: &[Identifier]) -> (Vec<String>, Vec<String>) {
    let (mut domains, mut ips) = (Vec::new(), Vec::new());
    for identifier in identifiers {
        match identifier {
            Identifier::Dns(name) => domains.push(name.clone()),
            Identifier::Ip(address) => ips.push(address.to_string()),
        }
    }
    (domains, ips)
}
