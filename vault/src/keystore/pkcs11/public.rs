//! From CKO_PUBLIC_KEY attributes to SubjectPublicKeyInfo.

use const_oid::db::{
    rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION},
    rfc8410::ID_ED_25519,
};
use cryptoki::{
    object::{Attribute, AttributeType, KeyType, ObjectHandle},
    session::Session,
};
use der::{
    Decode as _, Encode as _,
    asn1::{AnyRef, BitStringRef, OctetStringRef, UintRef},
};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{mechanism, rv::Failure, template};
use crate::error::Error;
use crate::keystore::{Algorithm, KeySpec, PublicKey};

#[derive(der::Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn bad(why: impl std::fmt::Display) -> Failure {
    Failure::Ours(Error::internal("read", "a public key of the token", why))
}

/// Reads a public key object.
pub(super) fn read(session: &Session, handle: ObjectHandle) -> Result<PublicKey, Failure> {
    let kinds = session.get_attributes(handle, &[AttributeType::KeyType])?;
    let Some(Attribute::KeyType(kind)) = kinds.into_iter().next() else {
        return Err(bad("it has no CKA_KEY_TYPE"));
    };
    match kind {
        KeyType::EC | KeyType::EC_EDWARDS => elliptic(session, handle, kind),
        KeyType::RSA => rsa(session, handle),
        other => Err(bad(format!("its type {other} is not known"))),
    }
}

fn elliptic(session: &Session, handle: ObjectHandle, kind: KeyType) -> Result<PublicKey, Failure> {
    let (mut params, mut point) = (Vec::new(), Vec::new());
    for attribute in
        session.get_attributes(handle, &[AttributeType::EcParams, AttributeType::EcPoint])?
    {
        match attribute {
            Attribute::EcParams(value) => params = value,
            Attribute::EcPoint(value) => point = value,
            _ => {}
        }
    }
    let edwards = kind == KeyType::EC_EDWARDS;
    let (algorithm, bits) = bare_point(edwards, &point)
        .ok_or_else(|| bad(format!("its point has {} bytes", point.len())))?;
    let identifier = if edwards {
        AlgorithmIdentifierRef { oid: ID_ED_25519, parameters: None }
    } else {
        let curve = AnyRef::from_der(&params).map_err(bad)?;
        AlgorithmIdentifierRef { oid: ID_EC_PUBLIC_KEY, parameters: Some(curve) }
    };
    encode(algorithm, identifier, bits)
}

/// CKA_EC_POINT is a DER OCTET STRING, but some tokens give the bare point. The length tells: a
/// bare point may well begin like the DER header of its own length (0x04 is both an uncompressed
/// point and an OCTET STRING).
fn bare_point(edwards: bool, point: &[u8]) -> Option<(Algorithm, &[u8])> {
    let known = |bits: &[u8]| match (edwards, bits.len()) {
        (true, 32) => Some(Algorithm::Ed25519),
        (false, 65) => Some(Algorithm::EcP256),
        (false, 97) => Some(Algorithm::EcP384),
        _ => None,
    };
    if let Some(algorithm) = known(point) {
        return Some((algorithm, point));
    }
    let bits = <&OctetStringRef>::from_der(point).ok()?.as_bytes();
    Some((known(bits)?, bits))
}

fn rsa(session: &Session, handle: ObjectHandle) -> Result<PublicKey, Failure> {
    let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
    for attribute in
        session.get_attributes(handle, &[AttributeType::Modulus, AttributeType::PublicExponent])?
    {
        match attribute {
            Attribute::Modulus(value) => modulus = value,
            Attribute::PublicExponent(value) => exponent = value,
            _ => {}
        }
    }
    let key = RsaPublicKey {
        modulus: UintRef::new(&modulus).map_err(bad)?,
        exponent: UintRef::new(&exponent).map_err(bad)?,
    };
    let algorithm = match key.modulus.as_bytes().len() {
        256 => Algorithm::Rsa2048,
        384 => Algorithm::Rsa3072,
        512 => Algorithm::Rsa4096,
        length => return Err(bad(format!("its modulus has {length} bytes"))),
    };
    let bits = key.to_der().map_err(bad)?;
    let parameters = Some(AnyRef::NULL);
    encode(algorithm, AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters }, &bits)
}

/// Creates the public key object of a key that is restored.
pub(super) fn create(
    session: &Session,
    spec: &KeySpec,
    key: &PublicKey,
    lasts: bool,
) -> Result<ObjectHandle, Failure> {
    let malformed = |e: &dyn std::fmt::Display| {
        Failure::Ours(Error::invalid("read", format!("the public key of {}", spec.id), e))
    };
    let parsed = SubjectPublicKeyInfoRef::try_from(key.spki_der.as_slice());
    let parsed = parsed.map_err(|e| malformed(&e))?;
    let bits = parsed.subject_public_key.raw_bytes();
    let point = || OctetStringRef::new(bits).and_then(|point| point.to_der());
    let (kind, variants) = match key.algorithm {
        Algorithm::EcP256 | Algorithm::EcP384 => {
            let curve = parsed.algorithm.parameters.and_then(|curve| curve.to_der().ok());
            (KeyType::EC, vec![curve.unwrap_or_default()])
        }
        Algorithm::Ed25519 => (KeyType::EC_EDWARDS, mechanism::edwards_params()),
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => (KeyType::RSA, vec![]),
    };
    let mut common = template::public(spec, lasts);
    common.push(Attribute::KeyType(kind));
    if kind == KeyType::RSA {
        let rsa = RsaPublicKey::from_der(bits).map_err(|e| malformed(&e))?;
        common.push(Attribute::Modulus(rsa.modulus.as_bytes().to_vec()));
        common.push(Attribute::PublicExponent(rsa.exponent.as_bytes().to_vec()));
        return Ok(session.create_object(&common)?);
    }
    common.push(Attribute::EcPoint(point().map_err(|e| malformed(&e))?));
    let mut last = bad("no way to try");
    for params in variants {
        let template = [common.as_slice(), &[Attribute::EcParams(params)]].concat();
        match session.create_object(&template) {
            Ok(created) => return Ok(created),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn encode(
    algorithm: Algorithm,
    identifier: AlgorithmIdentifierRef<'_>,
    bits: &[u8],
) -> Result<PublicKey, Failure> {
    let subject_public_key = BitStringRef::from_bytes(bits).map_err(bad)?;
    let spki = SubjectPublicKeyInfoRef { algorithm: identifier, subject_public_key };
    Ok(PublicKey { algorithm, spki_der: spki.to_der().map_err(bad)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_bare_and_in_der_whatever_it_begins_with() {
        for (edwards, algorithm, length) in [
            (false, Algorithm::EcP256, 65u8),
            (false, Algorithm::EcP384, 97),
            (true, Algorithm::Ed25519, 32),
        ] {
            for second in 0..=255 {
                let mut bare = vec![0x11; length.into()];
                bare[..2].copy_from_slice(&[0x04, second]);
                assert_eq!(bare_point(edwards, &bare), Some((algorithm, bare.as_slice())));
                let der = [&[0x04, length], bare.as_slice()].concat();
                assert_eq!(bare_point(edwards, &der), Some((algorithm, bare.as_slice())));
            }
        }
    }

    #[test]
    fn a_point_of_another_length_is_refused() {
        assert_eq!(bare_point(false, &[0x04; 64]), None);
        assert_eq!(bare_point(true, &[0x04; 65]), None);
        assert_eq!(bare_point(false, &[]), None);
    }
}
