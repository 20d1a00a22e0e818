//! The trusted, wrap-only key-encryption key: what it does, and all that it refuses.

use cryptoki::{
    mechanism::Mechanism as Ck,
    object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use vault::{
    error::ErrorKind,
    keystore::{Algorithm, Escrow, KeyStore, PublicKey, WrapMechanism, WrappedKey},
};
use vault_proto::ids::KeyId;

use super::{
    verify::verifies,
    world::{OPTIONS, PIN, Trust, World, object, spec},
};

promises! {
    the_ceremony_installs_a_kek_that_keeps_every_restriction_or_none_at_all
    the_kek_is_found_and_wraps_escrowed_keys_as_the_token_can
    a_token_without_a_kek_wraps_nothing
    a_key_without_escrow_is_not_wrapped
    the_kek_neither_unwraps_nor_encrypts_nor_decrypts
    the_kek_can_neither_be_changed_nor_copied_nor_read
    a_wrapped_key_signs_again_in_a_second_token_with_the_same_aes_key
    a_wrapped_key_that_was_tampered_with_or_meets_another_aes_key_is_refused
}

const VALUE: [u8; 32] = [0x5a; 32];

async fn the_ceremony_installs_a_kek_that_keeps_every_restriction_or_none_at_all(world: World) {
    let id = KeyId::random();
    let installed = world.try_install_kek(id, VALUE);
    let kek = world.store().kek().await.unwrap().map(|kek| kek.id);
    match world.token.nature().trust {
        Trust::Officer => {
            installed.unwrap();
            assert_eq!(kek, Some(id));
        }
        Trust::UnwrappedOnly => {
            let error = installed.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(!error.hint.is_empty());
            assert_eq!(kek, None);
        }
    }
}

async fn the_kek_is_found_and_wraps_escrowed_keys_as_the_token_can(world: World) {
    let id = world.install_kek(VALUE);
    let store = world.store();
    assert_eq!(store.kek().await.unwrap().map(|kek| kek.id), Some(id));
    assert!(store.list().await.unwrap().is_empty(), "the KEK is no key pair");
    let nature = world.token.nature();
    for algorithm in world.token.algorithms() {
        if nature.not_wrapped.contains(&algorithm) {
            let spec = spec(algorithm, Escrow::Wrapped);
            store.generate(&spec).await.unwrap();
            let error = store.wrap(spec.id).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{algorithm}: {error}");
            continue;
        }
        let (id, _, wrapped) = escrowed(&*store, algorithm).await;
        assert_eq!(wrapped.mechanism, nature.wrap, "{algorithm}");
        let iv = if wrapped.mechanism == WrapMechanism::AesCbcPad { 16 } else { 0 };
        assert_eq!(wrapped.iv.len(), iv);
        assert!(!wrapped.blob.is_empty());
        store.destroy(id).await.unwrap();
    }
}

async fn a_token_without_a_kek_wraps_nothing(world: World) {
    let store = world.store();
    assert!(store.kek().await.unwrap().is_none());
    let spec = spec(Algorithm::EcP256, Escrow::Wrapped);
    store.generate(&spec).await.unwrap();
    let error = store.wrap(spec.id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(!error.hint.is_empty());
}

async fn a_key_without_escrow_is_not_wrapped(world: World) {
    world.install_kek(VALUE);
    let store = world.store();
    for algorithm in [Algorithm::EcP256, Algorithm::Rsa2048] {
        let spec = spec(algorithm, Escrow::None);
        store.generate(&spec).await.unwrap();
        let error = store.wrap(spec.id).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied, "{algorithm}: {error}");
    }
}

async fn the_kek_neither_unwraps_nor_encrypts_nor_decrypts(world: World) {
    let id = world.install_kek(VALUE);
    let store = world.store();
    let (_, _, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    let session = world.session(&world.uri);
    let kek = object(&session, ObjectClass::SECRET_KEY, id);
    // The classic attack: the user's own unwrapping, with attributes that let the value be read.
    let readable = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    for way in [ck(&wrapped), Ck::AesKeyWrap, Ck::AesCbc([0; 16]), Ck::AesEcb] {
        let unwrapped = session.unwrap_key(&way, kek, &wrapped.blob, &readable);
        assert!(unwrapped.is_err(), "unwraps by {way:?}");
        assert!(session.decrypt(&way, kek, &wrapped.blob).is_err(), "decrypts by {way:?}");
        assert!(session.encrypt(&way, kek, &[0; 32]).is_err(), "encrypts by {way:?}");
    }
    // A refusal leaves no operation behind that would disturb the next call.
    store.wrap(escrowed(&*store, Algorithm::EcP256).await.0).await.unwrap();
}

async fn the_kek_can_neither_be_changed_nor_copied_nor_read(world: World) {
    let id = world.install_kek(VALUE);
    let session = world.session(&world.uri);
    let kek = object(&session, ObjectClass::SECRET_KEY, id);
    for change in [
        Attribute::Unwrap(true),
        Attribute::Decrypt(true),
        Attribute::Encrypt(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Modifiable(true),
        Attribute::Copyable(true),
        Attribute::Label(b"another".to_vec()),
    ] {
        let changed = session.update_attributes(kek, std::slice::from_ref(&change));
        assert!(changed.is_err(), "changed: {change:?}");
    }
    for template in [vec![Attribute::Token(false)], vec![Attribute::Unwrap(true)]] {
        assert!(session.copy_object(kek, &template).is_err(), "copied with {template:?}");
    }
    let info = session.get_attribute_info(kek, &[AttributeType::Value]).unwrap();
    assert!(matches!(info[..], [AttributeInfo::Sensitive]), "{info:?}");
    assert!(session.get_attributes(kek, &[AttributeType::Value]).unwrap_or_default().is_empty());
    for (kind, value) in [
        (AttributeType::Trusted, Attribute::Trusted(true)),
        (AttributeType::Wrap, Attribute::Wrap(true)),
        (AttributeType::Unwrap, Attribute::Unwrap(false)),
        (AttributeType::Decrypt, Attribute::Decrypt(false)),
        (AttributeType::Extractable, Attribute::Extractable(false)),
        (AttributeType::Modifiable, Attribute::Modifiable(false)),
    ] {
        assert_eq!(session.get_attributes(kek, &[kind]).unwrap(), [value]);
    }
}

async fn a_wrapped_key_signs_again_in_a_second_token_with_the_same_aes_key(world: World) {
    let second = world.second_token();
    world.install_kek(VALUE);
    let store = world.store();
    let restored = world.open(&second, PIN, OPTIONS).unwrap();
    let session = world.session(&second);
    let kek = unwrapping_key(&session, VALUE);
    let not_wrapped = world.token.nature().not_wrapped;
    for algorithm in world.token.algorithms().filter(|one| !not_wrapped.contains(one)) {
        let (id, key, wrapped) = escrowed(&*store, algorithm).await;
        let unwrapped = unwrap(&session, kek, &wrapped, id, algorithm);
        assert!(unwrapped.is_ok(), "{algorithm}: {unwrapped:?}");
        let mechanism = algorithm.default_mechanism();
        let signature = restored.sign(id, mechanism, b"restored"[..].into()).await.unwrap();
        assert!(verifies(&key, b"restored", &signature), "{algorithm}");
    }
}

async fn a_wrapped_key_that_was_tampered_with_or_meets_another_aes_key_is_refused(world: World) {
    let second = world.second_token();
    world.install_kek(VALUE);
    let store = world.store();
    let (id, _, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    let session = world.session(&second);
    let wrong = unwrapping_key(&session, [0x5b; 32]);
    assert!(unwrap(&session, wrong, &wrapped, id, Algorithm::EcP256).is_err(), "another key");
    let right = unwrapping_key(&session, VALUE);
    let mut tampered = wrapped.clone();
    tampered.blob[0] ^= 1;
    assert!(unwrap(&session, right, &tampered, id, Algorithm::EcP256).is_err(), "tampered");
    tampered.blob.truncate(16);
    assert!(unwrap(&session, right, &tampered, id, Algorithm::EcP256).is_err(), "truncated");
    unwrap(&session, right, &wrapped, id, Algorithm::EcP256).expect("untouched");
}

async fn escrowed(store: &dyn KeyStore, algorithm: Algorithm) -> (KeyId, PublicKey, WrappedKey) {
    let spec = spec(algorithm, Escrow::Wrapped);
    let key = store.generate(&spec).await.unwrap();
    let wrapped = store.wrap(spec.id).await;
    (spec.id, key, wrapped.unwrap_or_else(|error| panic!("{algorithm}: {error}")))
}

fn ck(wrapped: &WrappedKey) -> Ck<'static> {
    match wrapped.mechanism {
        WrapMechanism::AesKeyWrapPad => Ck::AesKeyWrapPad,
        WrapMechanism::AesCbcPad => Ck::AesCbcPad(wrapped.iv.as_slice().try_into().unwrap()),
    }
}

/// As a quorum of custodians has it in the token of a restore: the same AES key, for unwrapping.
fn unwrapping_key(session: &Session, value: [u8; 32]) -> ObjectHandle {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Sensitive(true),
        Attribute::Unwrap(true),
        Attribute::Value(value.to_vec()),
    ];
    session.create_object(&template).unwrap()
}

fn unwrap(
    session: &Session,
    kek: ObjectHandle,
    wrapped: &WrappedKey,
    id: KeyId,
    algorithm: Algorithm,
) -> cryptoki::error::Result<ObjectHandle> {
    let kind = match algorithm {
        Algorithm::EcP256 | Algorithm::EcP384 => KeyType::EC,
        Algorithm::Ed25519 => KeyType::EC_EDWARDS,
        Algorithm::Rsa2048 | Algorithm::Rsa3072 | Algorithm::Rsa4096 => KeyType::RSA,
    };
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(kind),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Id(id.as_bytes().to_vec()),
    ];
    session.unwrap_key(&ck(wrapped), kek, &wrapped.blob, &template)
}
