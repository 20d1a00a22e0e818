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

/// The trusted, wrap-only KEK and its id.
pub(super) fn find_kek(session: &Session) -> Result<Option<(KeyId, ObjectHandle)>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Trusted(true),
        Attribute::Wrap(true),
    ];
    for handle in session.find_objects(&template)? {
        let attributes = session.get_attributes(handle, &[AttributeType::Id])?;
        if let Some(Attribute::Id(bytes)) = attributes.first()
            && let Some(id) = KeyId::from_bytes(bytes)
        {
            return Ok(Some((id, handle)));
        }
    }
    Ok(None)
}

/// Wraps a private key with the KEK.
pub(super) fn wrap(session: &Session, key: ObjectHandle) -> Result<WrappedKey, Failure> {
    let Some((_, kek)) = find_kek(session)? else {
        return Err(Failure::Ours(
            Error::denied("wrap", "a key", "the token has no KEK")
                .hint("a vault initialised without custodians escrows nothing"),
        ));
    };
    match session.wrap_key(&Ck::AesKeyWrapPad, kek, key) {
        Ok(blob) => {
            return Ok(WrappedKey {
                mechanism: WrapMechanism::AesKeyWrapPad,
                iv: Vec::new(),
                blob,
            });
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
    let blob = session.wrap_key(&Ck::AesCbcPad(iv), kek, key)?;
    Ok(WrappedKey { mechanism: WrapMechanism::AesCbcPad, iv: iv.to_vec(), blob })
}
