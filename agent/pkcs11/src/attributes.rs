//! What is known of each object: PKCS#11 v2.40 sections 4.4 to 4.9, and the current mechanisms'
//! sections 2.1.2, 2.1.3, 2.3.3 and 2.3.4.

use std::borrow::Cow;

use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_CERTIFICATE_CATEGORY_TOKEN_USER, CK_FALSE, CK_OBJECT_CLASS,
    CK_TRUE, CK_ULONG, CK_UNAVAILABLE_INFORMATION, CKA_ALLOWED_MECHANISMS, CKA_ALWAYS_AUTHENTICATE,
    CKA_ALWAYS_SENSITIVE, CKA_CERTIFICATE_CATEGORY, CKA_CERTIFICATE_TYPE, CKA_CLASS,
    CKA_COEFFICIENT, CKA_COPYABLE, CKA_DECRYPT, CKA_DERIVE, CKA_DESTROYABLE, CKA_EC_PARAMS,
    CKA_EC_POINT, CKA_ENCRYPT, CKA_END_DATE, CKA_EXPONENT_1, CKA_EXPONENT_2, CKA_EXTRACTABLE,
    CKA_ID, CKA_ISSUER, CKA_KEY_GEN_MECHANISM, CKA_KEY_TYPE, CKA_LABEL, CKA_LOCAL, CKA_MODIFIABLE,
    CKA_MODULUS, CKA_MODULUS_BITS, CKA_NEVER_EXTRACTABLE, CKA_PRIME_1, CKA_PRIME_2, CKA_PRIVATE,
    CKA_PRIVATE_EXPONENT, CKA_PUBLIC_EXPONENT, CKA_PUBLIC_KEY_INFO, CKA_SENSITIVE,
    CKA_SERIAL_NUMBER, CKA_SIGN, CKA_SIGN_RECOVER, CKA_START_DATE, CKA_SUBJECT, CKA_TOKEN,
    CKA_TRUSTED, CKA_UNWRAP, CKA_VALUE, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_WRAP,
    CKA_WRAP_WITH_TRUSTED, CKC_X_509, CKO_CERTIFICATE, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY,
};

use crate::{
    key::{Key, Kind},
    mechanism::allowed,
};

/// An attribute of an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attribute<'a> {
    /// It may be read.
    Value(Cow<'a, [u8]>),
    /// It is there and nobody may read it.
    Sensitive,
    /// The object has none.
    Unknown,
}

/// The objects of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// CKO_PRIVATE_KEY.
    Private,
    /// CKO_PUBLIC_KEY.
    Public,
    /// CKO_CERTIFICATE.
    Certificate,
}

impl Class {
    /// All of them, in the order in which they are found: who takes the first wants to sign.
    pub(crate) const ALL: [Self; 3] = [Self::Private, Self::Public, Self::Certificate];

    fn code(self) -> CK_OBJECT_CLASS {
        match self {
            Self::Private => CKO_PRIVATE_KEY,
            Self::Public => CKO_PUBLIC_KEY,
            Self::Certificate => CKO_CERTIFICATE,
        }
    }
}

/// One attribute of one of a key's objects.
pub(crate) fn attribute(key: &Key, class: Class, type_: CK_ATTRIBUTE_TYPE) -> Attribute<'_> {
    match type_ {
        CKA_CLASS => number(class.code()),
        CKA_TOKEN => flag(true),
        // Not private: who reaches the socket is logged in already.
        CKA_PRIVATE | CKA_MODIFIABLE | CKA_COPYABLE | CKA_DESTROYABLE => flag(false),
        CKA_LABEL => bytes(key.said.label.as_bytes()),
        CKA_ID => bytes(&key.said.id),
        CKA_SUBJECT => bytes(&key.said.subject),
        CKA_PUBLIC_KEY_INFO => bytes(&key.said.public_key_info),
        CKA_START_DATE | CKA_END_DATE => bytes(&[]),
        _ => match class {
            Class::Certificate => of_certificate(key, type_),
            Class::Public => of_public_key(key, type_),
            Class::Private => of_private_key(key, type_),
        },
    }
}

fn of_certificate(key: &Key, type_: CK_ATTRIBUTE_TYPE) -> Attribute<'_> {
    match type_ {
        CKA_CERTIFICATE_TYPE => number(CKC_X_509),
        CKA_CERTIFICATE_CATEGORY => number(CK_CERTIFICATE_CATEGORY_TOKEN_USER),
        CKA_TRUSTED => flag(false),
        CKA_VALUE => bytes(&key.said.certificate),
        CKA_ISSUER => bytes(&key.said.issuer),
        CKA_SERIAL_NUMBER => bytes(&key.said.serial_number),
        _ => Attribute::Unknown,
    }
}

fn of_public_key(key: &Key, type_: CK_ATTRIBUTE_TYPE) -> Attribute<'_> {
    match type_ {
        CKA_VERIFY => flag(true),
        CKA_ENCRYPT | CKA_VERIFY_RECOVER | CKA_WRAP | CKA_TRUSTED => flag(false),
        _ => of_either_key(key, type_),
    }
}

fn of_private_key(key: &Key, type_: CK_ATTRIBUTE_TYPE) -> Attribute<'_> {
    match type_ {
        CKA_SIGN | CKA_SENSITIVE => flag(true),
        // CKA_EXTRACTABLE is what this token can do: here no key comes out, wrapped or not.
        CKA_EXTRACTABLE
        | CKA_DECRYPT
        | CKA_SIGN_RECOVER
        | CKA_UNWRAP
        | CKA_WRAP_WITH_TRUSTED
        | CKA_ALWAYS_AUTHENTICATE => flag(false),
        CKA_ALWAYS_SENSITIVE | CKA_NEVER_EXTRACTABLE => flag(true),
        CKA_PRIVATE_EXPONENT | CKA_PRIME_1 | CKA_PRIME_2 | CKA_EXPONENT_1 | CKA_EXPONENT_2
        | CKA_COEFFICIENT
            if key.kind == Kind::Rsa =>
        {
            Attribute::Sensitive
        }
        CKA_VALUE if key.kind != Kind::Rsa => Attribute::Sensitive,
        _ => of_either_key(key, type_),
    }
}

/// The public half stands on the private key too: pkcs11-provider looks for it there first.
fn of_either_key(key: &Key, type_: CK_ATTRIBUTE_TYPE) -> Attribute<'_> {
    match (type_, key.kind) {
        (CKA_KEY_TYPE, _) => number(key.kind.code()),
        (CKA_ALLOWED_MECHANISMS, kind) => Attribute::Value(Cow::Owned(allowed(kind))),
        (CKA_LOCAL, _) => flag(true),
        (CKA_KEY_GEN_MECHANISM, _) => number(CK_UNAVAILABLE_INFORMATION),
        (CKA_DERIVE, _) => flag(false),
        (CKA_MODULUS, Kind::Rsa) => bytes(&key.said.modulus),
        (CKA_PUBLIC_EXPONENT, Kind::Rsa) => bytes(&key.said.public_exponent),
        (CKA_MODULUS_BITS, Kind::Rsa) => number(key.modulus_bits() as CK_ULONG),
        (CKA_EC_PARAMS, Kind::Ec | Kind::Edwards) => bytes(&key.said.ec_params),
        (CKA_EC_POINT, Kind::Ec | Kind::Edwards) => bytes(&key.said.ec_point),
        _ => Attribute::Unknown,
    }
}

fn bytes(value: &[u8]) -> Attribute<'_> {
    Attribute::Value(Cow::Borrowed(value))
}

fn number(value: CK_ULONG) -> Attribute<'static> {
    Attribute::Value(Cow::Owned(value.to_ne_bytes().to_vec()))
}

fn flag(value: bool) -> Attribute<'static> {
    const TRUE: &[CK_BBOOL] = &[CK_TRUE];
    const FALSE: &[CK_BBOOL] = &[CK_FALSE];
    Attribute::Value(Cow::Borrowed(if value { TRUE } else { FALSE }))
}

#[cfg(test)]
mod tests {
    use vault_proto::local::v1::KeyType;

    use super::*;
    use crate::key::tests::listed;

    fn key(kind: KeyType) -> Key {
        Key::new(listed(kind, 7, "shop")).unwrap()
    }

    #[test]
    fn no_part_of_a_private_key_is_readable() {
        let rsa = [
            CKA_PRIVATE_EXPONENT,
            CKA_PRIME_1,
            CKA_PRIME_2,
            CKA_EXPONENT_1,
            CKA_EXPONENT_2,
            CKA_COEFFICIENT,
        ];
        let (with_primes, without) = (key(KeyType::Rsa), key(KeyType::Ec));
        for type_ in rsa {
            assert_eq!(attribute(&with_primes, Class::Private, type_), Attribute::Sensitive);
            assert_eq!(attribute(&without, Class::Private, type_), Attribute::Unknown);
            assert_eq!(attribute(&with_primes, Class::Public, type_), Attribute::Unknown);
        }
        for kind in [KeyType::Ec, KeyType::EcEdwards] {
            assert_eq!(attribute(&key(kind), Class::Private, CKA_VALUE), Attribute::Sensitive);
        }
        assert_eq!(attribute(&with_primes, Class::Private, CKA_VALUE), Attribute::Unknown);
    }

    #[test]
    fn what_a_key_is_for_is_signing_alone() {
        let key = key(KeyType::Ec);
        for type_ in [CKA_DECRYPT, CKA_UNWRAP, CKA_DERIVE, CKA_SIGN_RECOVER, CKA_EXTRACTABLE] {
            assert_eq!(attribute(&key, Class::Private, type_), flag(false));
        }
        assert_eq!(attribute(&key, Class::Private, CKA_SIGN), flag(true));
    }

    #[test]
    fn the_public_half_stands_on_both_keys_and_its_name_on_all_three() {
        let (ec, rsa) = (key(KeyType::Ec), key(KeyType::Rsa));
        for class in [Class::Private, Class::Public] {
            assert_eq!(attribute(&ec, class, CKA_EC_POINT), bytes(&ec.said.ec_point));
            assert_eq!(attribute(&ec, class, CKA_MODULUS), Attribute::Unknown);
            assert_eq!(attribute(&rsa, class, CKA_MODULUS_BITS), number(2048));
            assert_eq!(attribute(&rsa, class, CKA_EC_POINT), Attribute::Unknown);
        }
        for class in Class::ALL {
            assert_eq!(attribute(&ec, class, CKA_LABEL), bytes(b"shop"));
            assert_eq!(attribute(&ec, class, CKA_ID), bytes(&[7; 16]));
        }
        assert_eq!(attribute(&ec, Class::Certificate, CKA_KEY_TYPE), Attribute::Unknown);
    }
}
