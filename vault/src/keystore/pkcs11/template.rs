//! What keys are made as, and the proof that the token keeps it (PKCS#11 v3.1 section 4.9).

use cryptoki::{
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use vault_custody::locked::Locked;
use vault_proto::ids::KeyId;
use zeroize::Zeroize as _;

use super::rv::{Describe as _, Failure};
use crate::error::{Error, Result};
use crate::keystore::{Escrow, KeySpec};

fn common(class: ObjectClass, id: KeyId, label: &str, lasts: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(class),
        Attribute::Token(lasts),
        Attribute::Id(id.as_bytes().to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
    ]
}

/// The public half: readable by all, verifies, is nothing else.
pub(super) fn public(spec: &KeySpec, lasts: bool) -> Vec<Attribute> {
    let mut all = common(ObjectClass::PUBLIC_KEY, spec.id, &spec.label, lasts);
    all.extend([Attribute::Private(false), Attribute::Verify(true)]);
    all
}

/// The private half: signs and does nothing else. Escrowed, it leaves the token wrapped by a
/// trusted KEK only; without escrow not at all. CKA_EXTRACTABLE never goes without
/// CKA_WRAP_WITH_TRUSTED. Where one is unwrapped, SoftHSM sets one attribute after the other and obeys
/// CKA_MODIFIABLE at once, so that comes last.
pub(super) fn private(spec: &KeySpec, lasts: bool) -> Vec<Attribute> {
    let mut all = common(ObjectClass::PRIVATE_KEY, spec.id, &spec.label, lasts);
    all.extend(private_guarantees(spec.escrow).map(|(_, attribute)| attribute));
    all.extend([Attribute::Copyable(false), Attribute::Modifiable(false)]);
    all
}

fn private_guarantees(escrow: Escrow) -> impl Iterator<Item = (AttributeType, Attribute)> {
    let escrowed = escrow == Escrow::Wrapped;
    let mut all = vec![
        (AttributeType::Private, Attribute::Private(true)),
        (AttributeType::Sensitive, Attribute::Sensitive(true)),
        (AttributeType::Extractable, Attribute::Extractable(escrowed)),
        (AttributeType::Sign, Attribute::Sign(true)),
        (AttributeType::Decrypt, Attribute::Decrypt(false)),
        (AttributeType::Unwrap, Attribute::Unwrap(false)),
        (AttributeType::Derive, Attribute::Derive(false)),
    ];
    if escrowed {
        all.push((AttributeType::WrapWithTrusted, Attribute::WrapWithTrusted(true)));
    }
    all.into_iter()
}

/// Reads back what the token made of the private template.
pub(super) fn check_private(
    session: &Session,
    handle: ObjectHandle,
    escrow: Escrow,
    lasts: bool,
) -> Result<(), Failure> {
    let wanted: Vec<_> = private_guarantees(escrow)
        .chain([(AttributeType::Token, Attribute::Token(lasts))])
        .collect();
    Ok(check(session, handle, &wanted, "private key")?)
}

/// The KEK: wraps, and nothing else, for ever. CKA_PRIVATE is false because the security officer
/// can create no other; it is unusable without login all the same.
pub(super) fn kek(id: KeyId) -> Vec<Attribute> {
    let mut all = common(ObjectClass::SECRET_KEY, id, "kek", true);
    all.extend([Attribute::KeyType(KeyType::AES), Attribute::Private(false)]);
    all.extend(kek_guarantees().map(|(_, attribute)| attribute));
    all
}

/// Creates a secret key of this value. The copy that the call needs is locked while it lives, and
/// zeroized.
pub(super) fn create_secret(
    session: &Session,
    mut template: Vec<Attribute>,
    value: &Locked,
) -> Result<ObjectHandle, Failure> {
    let copy = value.bytes().to_vec();
    let locked = region::lock(copy.as_ptr(), copy.len()).map_err(|e| {
        Error::exhausted("lock", "memory for the KEK", e)
            .hint("let the process lock a few pages: LimitMEMLOCK= in its unit, or `ulimit -l`")
    })?;
    template.push(Attribute::Value(copy));
    let created = session.create_object(&template);
    if let Some(Attribute::Value(copy)) = template.last_mut() {
        copy.zeroize();
    }
    drop(locked);
    Ok(created?)
}

/// The same KEK for unwrapping alone, in the token of a drill or a restore.
pub(super) fn unwrapping_kek(id: KeyId, lasts: bool) -> Vec<Attribute> {
    let mut all = common(ObjectClass::SECRET_KEY, id, "kek", lasts);
    all.extend([Attribute::KeyType(KeyType::AES), Attribute::Private(true)]);
    all.extend(unwrapping_kek_guarantees().map(|(_, attribute)| attribute));
    all
}

fn unwrapping_kek_guarantees() -> impl Iterator<Item = (AttributeType, Attribute)> {
    kek_guarantees().filter_map(|(kind, attribute)| match kind {
        // Only the security officer could say so, and nobody asks it of a key that unwraps.
        AttributeType::Trusted => None,
        AttributeType::Wrap => Some((kind, Attribute::Wrap(false))),
        AttributeType::Unwrap => Some((kind, Attribute::Unwrap(true))),
        _ => Some((kind, attribute)),
    })
}

/// Reads back what the token made of the template of a KEK that unwraps.
pub(super) fn check_unwrapping_kek(session: &Session, handle: ObjectHandle) -> Result<()> {
    let wanted: Vec<_> = unwrapping_kek_guarantees().collect();
    check(session, handle, &wanted, "KEK")
}

/// A private key that is unwrapped: as it was born, but for how long it lasts.
pub(super) fn recovered(spec: &KeySpec, kind: KeyType, lasts: bool) -> Vec<Attribute> {
    let mut all = vec![Attribute::KeyType(kind)];
    all.extend(private(spec, lasts));
    all
}

fn kek_guarantees() -> impl Iterator<Item = (AttributeType, Attribute)> {
    [
        (AttributeType::Trusted, Attribute::Trusted(true)),
        (AttributeType::Wrap, Attribute::Wrap(true)),
        (AttributeType::Unwrap, Attribute::Unwrap(false)),
        (AttributeType::Encrypt, Attribute::Encrypt(false)),
        (AttributeType::Decrypt, Attribute::Decrypt(false)),
        (AttributeType::Sign, Attribute::Sign(false)),
        (AttributeType::Verify, Attribute::Verify(false)),
        (AttributeType::Derive, Attribute::Derive(false)),
        (AttributeType::Sensitive, Attribute::Sensitive(true)),
        (AttributeType::Extractable, Attribute::Extractable(false)),
        (AttributeType::Modifiable, Attribute::Modifiable(false)),
        (AttributeType::Copyable, Attribute::Copyable(false)),
    ]
    .into_iter()
}

/// Reads back what the token made of the KEK's template.
pub(super) fn check_kek(session: &Session, handle: ObjectHandle) -> Result<()> {
    let wanted: Vec<_> = kek_guarantees().collect();
    check(session, handle, &wanted, "KEK")
}

fn check(
    session: &Session,
    handle: ObjectHandle,
    wanted: &[(AttributeType, Attribute)],
    subject: &str,
) -> Result<()> {
    // In one call: SoftHSM looks at the object's file anew for each.
    let kinds: Vec<_> = wanted.iter().map(|(kind, _)| *kind).collect();
    let read = session.get_attributes(handle, &kinds).describe("read back", subject)?;
    for (kind, value) in wanted {
        if !read.contains(value) {
            let made = read.iter().find(|attribute| attribute.attribute_type() == *kind);
            let why = format!("the token made it with {made:?} where {value:?} was asked");
            return Err(Error::verification("generate", format!("a {subject}"), why)
                .hint("the token does not keep what this vault promises: use another"));
        }
    }
    Ok(())
}
