//! A key of the agent's list.

use cryptoki_sys::{CK_KEY_TYPE, CKK_EC, CKK_EC_EDWARDS, CKK_RSA};
use vault_proto::local::v1::{self, KeyType};

/// Which mechanisms a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CKK_RSA.
    Rsa,
    /// CKK_EC.
    Ec,
    /// CKK_EC_EDWARDS.
    Edwards,
}

/// A key that can be shown and signed with.
#[derive(Debug, PartialEq)]
pub(crate) struct Key {
    /// What it is.
    pub(crate) kind: Kind,
    /// How long its signatures are, in bytes; each of them.
    pub(crate) signature_length: usize,
    /// What the agent says of it.
    pub(crate) said: v1::Key,
}

impl Key {
    /// None where the agent says too little of it to sign with it.
    pub(crate) fn new(said: v1::Key) -> Option<Self> {
        let (kind, signature_length) = match said.r#type() {
            KeyType::Rsa => (Kind::Rsa, said.modulus.len()),
            // r‖s, each as long as a coordinate; the point is 04, x, y.
            KeyType::Ec => (Kind::Ec, octets(&said.ec_point)?.strip_prefix(&[4])?.len()),
            // R‖S, each as long as the public key (RFC 8032 section 3.3).
            KeyType::EcEdwards => (Kind::Edwards, octets(&said.ec_point)?.len() * 2),
            KeyType::Unspecified => return None,
        };
        let usable = signature_length > 0 && !said.id.is_empty();
        usable.then_some(Self { kind, signature_length, said })
    }

    /// CKA_MODULUS_BITS.
    pub(crate) fn modulus_bits(&self) -> usize {
        let zeros = self.said.modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        self.said.modulus.len() * 8 - zeros
    }
}

impl Kind {
    /// CKA_KEY_TYPE.
    pub(crate) fn code(self) -> CK_KEY_TYPE {
        match self {
            Self::Rsa => CKK_RSA,
            Self::Ec => CKK_EC,
            Self::Edwards => CKK_EC_EDWARDS,
        }
    }
}

/// What a DER OCTET STRING holds; no point of any curve is longer than 255 bytes.
fn octets(der: &[u8]) -> Option<&[u8]> {
    match der {
        [4, 0x81, length, value @ ..] | [4, length @ ..=0x7f, value @ ..] => {
            (value.len() == usize::from(*length)).then_some(value)
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key as an agent would list it.
    pub(crate) fn listed(kind: KeyType, id: u8, label: &str) -> v1::Key {
        let mut key = v1::Key {
            id: vec![id; 16],
            label: label.to_owned(),
            r#type: kind.into(),
            certificate: vec![0x30, 0],
            ..v1::Key::default()
        };
        match kind {
            KeyType::Rsa => {
                key.modulus = vec![0xc5; 256];
                key.public_exponent = vec![1, 0, 1];
            }
            KeyType::Ec => key.ec_point = [&[4, 65, 4][..], &[7; 64]].concat(),
            KeyType::EcEdwards => key.ec_point = [&[4, 32][..], &[7; 32]].concat(),
            KeyType::Unspecified => {}
        }
        key
    }

    #[test]
    fn the_length_of_a_signature_comes_from_the_public_key() {
        let length = |said| Key::new(said).map(|key| key.signature_length);
        assert_eq!(length(listed(KeyType::Rsa, 1, "")), Some(256));
        assert_eq!(length(listed(KeyType::Ec, 1, "")), Some(64));
        assert_eq!(length(listed(KeyType::EcEdwards, 1, "")), Some(64));
        let mut p521 = listed(KeyType::Ec, 1, "");
        p521.ec_point = [&[4, 0x81, 133, 4][..], &[7; 132]].concat();
        assert_eq!(length(p521), Some(132));
    }

    #[test]
    fn a_key_that_says_too_little_is_none() {
        let broken = |change: fn(&mut v1::Key)| {
            let mut key = listed(KeyType::Ec, 1, "");
            change(&mut key);
            Key::new(key)
        };
        assert!(broken(|_| ()).is_some());
        assert_eq!(broken(|key| key.id.clear()), None);
        assert_eq!(broken(|key| key.ec_point.clear()), None);
        assert_eq!(broken(|key| key.ec_point.truncate(40)), None);
        assert_eq!(broken(|key| key.ec_point[2] = 2), None);
        assert_eq!(broken(|key| key.ec_point = vec![4, 1, 4]), None);
        assert_eq!(broken(|key| key.r#type = 0), None);
        assert_eq!(broken(|key| key.r#type = 9), None);
        assert_eq!(broken(|key| key.r#type = 1), None);
    }

    #[test]
    fn the_bits_of_a_modulus_begin_at_its_first_one() {
        let mut said = listed(KeyType::Rsa, 1, "");
        said.modulus[0] = 0x1f;
        assert_eq!(Key::new(said).unwrap().modulus_bits(), 2045);
    }
}
