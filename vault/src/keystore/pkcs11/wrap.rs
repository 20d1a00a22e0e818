//! Wrapping a private key with the KEK, inside the token. Tokens differ in what they offer, so the
//! ways are tried in order of preference.

use cryptoki::{
    mechanism::Mechanism as Ck,
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::Session,
};
use vault_proto::ids::KeyId;

use super::rv::Failure;
use crate::error::Error;
use crate::keystore::{WrapMechanism, WrappedKey};

/// The trusted, wrap-only KEK and its id; while one replaces another, the newest: ids are ordered
/// by time.
pub(super) fn find_kek(session: &Session) -> Result<Option<(KeyId, ObjectHandle)>, Failure> {
    Ok(find_keks(session)?.into_iter().max_by_key(|(id, _)| *id))
}

fn find_keks(session: &Session) -> Result<Vec<(KeyId, ObjectHandle)>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Trusted(true),
        Attribute::Wrap(true),
    ];
    let mut found = Vec::new();
    for handle in session.find_objects(&template)? {
        let attributes = session.get_attributes(handle, &[AttributeType::Id])?;
        if let Some(Attribute::Id(bytes)) = attributes.first()
            && let Some(id) = KeyId::from_bytes(bytes)
        {
            found.push((id, handle));
        }
    }
    Ok(found)
}

/// Destroys a KEK that is not the newest.
pub(super) fn retire_kek(session: &Session, id: KeyId) -> Result<bool, Failure> {
    let all = find_keks(session)?;
    if all.iter().map(|(other, _)| *other).max() == Some(id) {
        let why = "it is the newest, which wraps";
        return Err(Error::denied("destroy", format!("KEK {id}"), why).into());
    }
    let mut any = false;
    for (_, handle) in all.into_iter().filter(|(other, _)| *other == id) {
        session.destroy_object(handle)?;
        any = true;
    }
    Ok(any)
}

/// Wraps a private key with a KEK that was found.
pub(super) fn wrap(
    session: &Session,
    (kek, handle): (KeyId, ObjectHandle),
    key: ObjectHandle,
) -> Result<WrappedKey, Failure> {
    match session.wrap_key(&Ck::AesKeyWrapPad, handle, key) {
        Ok(blob) => {
            let mechanism = WrapMechanism::AesKeyWrapPad;
            return Ok(WrappedKey { kek, mechanism, iv: Vec::new(), blob });
        }
        Err(error) => {
            let failure = Failure::from(error);
            if !failure.refuses_wrap() {
                return Err(failure);
            }
        }
    }
    let mut iv = [0u8; 16];
    aws_lc_rs::rand::fill(&mut iv)
        .map_err(|_| Error::unavailable("wrap", "a key", "no random numbers"))?;
    let blob = session.wrap_key(&Ck::AesCbcPad(iv), handle, key)?;
    Ok(WrappedKey { kek, mechanism: WrapMechanism::AesCbcPad, iv: iv.to_vec(), blob })
}

/// The KEK, where there must be one.
pub(super) fn require_kek(session: &Session) -> Result<(KeyId, ObjectHandle), Failure> {
    find_kek(session)?.ok_or_else(|| {
        Failure::Ours(
            Error::denied("wrap", "a key", "the token has no KEK")
                .hint("a vault initialised without custodians escrows nothing"),
        )
    })
}
