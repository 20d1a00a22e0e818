//! A thief with the user PIN and a session of its own: everything that PKCS#11 offers is tried on
//! the live KEK and on what it protects, past the key store.

use cryptoki::{
    error::Result as CkResult,
    mechanism::{Mechanism as Ck, ekdf::AesCbcDeriveParams, misc::KeyDerivationStringData},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use vault::{
    error::ErrorKind,
    keystore::{Algorithm, Escrow, KeyStore, WrapMechanism, WrappedKey},
};
use vault_proto::ids::KeyId;

use super::world::{Trust, World, object, spec};

promises! {
    the_live_kek_opens_nothing_that_it_has_wrapped
    the_live_kek_signs_derives_and_digests_nothing
    the_live_kek_leaves_its_token_by_no_way
    the_live_kek_takes_no_other_attributes
    no_key_of_a_thief_opens_or_wraps_what_is_escrowed
    an_escrowed_key_takes_no_weaker_attributes_and_has_no_weaker_copy
    a_thief_makes_no_trusted_key_where_the_officer_alone_may
    a_key_that_only_looks_like_the_kek_wraps_nothing
}

const VALUE: [u8; 32] = [0x5a; 32];

/// A token with a KEK, an escrowed key and what the KEK has made of it, and a thief's session.
struct Scene {
    store: std::sync::Arc<dyn KeyStore>,
    session: Session,
    kek: ObjectHandle,
    escrowed: ObjectHandle,
    wrapped: WrappedKey,
}

async fn scene(world: &World) -> Scene {
    let id = world.install_kek(VALUE);
    let store = world.store();
    let spec = spec(Algorithm::EcP256, Escrow::Wrapped);
    store.generate(&spec).await.unwrap();
    let wrapped = store.wrap(spec.id).await.unwrap();
    let session = world.session(&world.uri);
    let kek = object(&session, ObjectClass::SECRET_KEY, id);
    let escrowed = object(&session, ObjectClass::PRIVATE_KEY, spec.id);
    Scene { store, session, kek, escrowed, wrapped }
}

/// Every way to wrap, unwrap, encrypt or decrypt with an AES key, the token's own first.
fn ways(wrapped: &WrappedKey) -> Vec<Ck<'static>> {
    let own = match wrapped.mechanism {
        WrapMechanism::AesKeyWrapPad => Ck::AesKeyWrapPad,
        WrapMechanism::AesCbcPad => Ck::AesCbcPad(wrapped.iv.as_slice().try_into().unwrap()),
    };
    let others = [Ck::AesKeyWrap, Ck::AesKeyWrapPad, Ck::AesCbcPad([7; 16]), Ck::AesCbc([7; 16])];
    [own].into_iter().chain(others).chain([Ck::AesEcb]).collect()
}

/// What a thief would have a private key unwrapped as.
fn readable() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

/// What a thief would have a secret key be, to read it.
fn readable_secret() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::ValueLen(16.into()),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ]
}

/// A key of the thief's own that does everything.
fn own_key(session: &Session) -> ObjectHandle {
    let template = [
        Attribute::Token(false),
        Attribute::ValueLen(32.into()),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Derive(true),
        Attribute::Sign(true),
    ];
    session.generate_key(&Ck::AesKeyGen, &template).unwrap()
}

async fn the_live_kek_opens_nothing_that_it_has_wrapped(world: World) {
    let Scene { session, kek, wrapped, store, .. } = scene(&world).await;
    for way in ways(&wrapped) {
        for template in [readable(), readable_secret()] {
            let opened = session.unwrap_key(&way, kek, &wrapped.blob, &template);
            assert!(opened.is_err(), "unwraps by {way:?}");
        }
        assert!(session.decrypt(&way, kek, &wrapped.blob).is_err(), "decrypts by {way:?}");
        assert!(session.encrypt(&way, kek, &[0; 32]).is_err(), "encrypts by {way:?}");
    }
    // The blob is a good one, and a key of the same value that may unwrap opens it.
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Unwrap(true),
        Attribute::Value(VALUE.to_vec()),
    ];
    let quorum = session.create_object(&template).unwrap();
    session.unwrap_key(&ways(&wrapped)[0], quorum, &wrapped.blob, &readable()).unwrap();
    assert!(store.kek().await.unwrap().is_some());
}

async fn the_live_kek_signs_derives_and_digests_nothing(world: World) {
    let Scene { session, kek, .. } = scene(&world).await;
    assert!(session.sign(&Ck::AesCMac, kek, b"message").is_err(), "signs");
    assert!(session.verify(&Ck::AesCMac, kek, b"message", &[0; 16]).is_err(), "verifies");
    let data = [0u8; 32];
    let derivations = [
        Ck::AesCbcEncryptData(AesCbcDeriveParams::new([0; 16], &data)),
        Ck::ConcatenateBaseAndData(KeyDerivationStringData::new(&data)),
        Ck::ConcatenateDataAndBase(KeyDerivationStringData::new(&data)),
        Ck::XorBaseAndData(KeyDerivationStringData::new(&data)),
        Ck::ConcatenateBaseAndKey(own_key(&session)),
    ];
    for way in &derivations {
        let derived = session.derive_key(way, kek, &readable_secret());
        assert!(derived.is_err(), "derives by {way:?}");
    }
    // As the other half of a key of the thief's own.
    let own = own_key(&session);
    let joined = session.derive_key(&Ck::ConcatenateBaseAndKey(kek), own, &readable_secret());
    match world.token.nature().trust {
        Trust::Officer => assert!(joined.is_err(), "is joined to another key"),
        // It joins any two, which gives nothing to read, but something to compute with: one more
        // reason why no vault is initialised with custodians on such a token.
        Trust::UnwrappedOnly => {
            let joined = joined.unwrap();
            for (kind, value) in [
                (AttributeType::Sensitive, Attribute::Sensitive(true)),
                (AttributeType::Extractable, Attribute::Extractable(false)),
            ] {
                assert_eq!(session.get_attributes(joined, &[kind]).unwrap(), [value]);
            }
        }
    }
}

async fn the_live_kek_leaves_its_token_by_no_way(world: World) {
    let Scene { session, kek, wrapped, .. } = scene(&world).await;
    let own = own_key(&session);
    for way in ways(&wrapped) {
        assert!(session.wrap_key(&way, own, kek).is_err(), "wrapped by a thief's key, {way:?}");
        assert!(session.wrap_key(&way, kek, kek).is_err(), "wrapped by itself, {way:?}");
    }
    let read = session.get_attributes(kek, &[AttributeType::Value]).unwrap_or_default();
    assert!(read.is_empty(), "read");
    for weaker in [
        vec![Attribute::Token(false)],
        vec![Attribute::Sensitive(false)],
        vec![Attribute::Extractable(true)],
        vec![Attribute::Token(false), Attribute::Unwrap(true), Attribute::Decrypt(true)],
        vec![Attribute::Copyable(true), Attribute::Modifiable(true)],
    ] {
        assert!(session.copy_object(kek, &weaker).is_err(), "copied with {weaker:?}");
    }
}

async fn the_live_kek_takes_no_other_attributes(world: World) {
    let Scene { session, kek, store, .. } = scene(&world).await;
    for change in [
        Attribute::Unwrap(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Sign(true),
        Attribute::Verify(true),
        Attribute::Derive(true),
        Attribute::Wrap(false),
        Attribute::Trusted(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Modifiable(true),
        Attribute::Copyable(true),
        Attribute::Id(b"another".to_vec()),
        Attribute::Value(vec![0; 32]),
    ] {
        let changed = session.update_attributes(kek, std::slice::from_ref(&change));
        assert!(changed.is_err(), "changed: {change:?}");
    }
    assert!(store.kek().await.unwrap().is_some(), "it is not what it was");
}

async fn no_key_of_a_thief_opens_or_wraps_what_is_escrowed(world: World) {
    let Scene { session, escrowed, wrapped, .. } = scene(&world).await;
    let own = own_key(&session);
    let mut asked = 0;
    for way in ways(&wrapped) {
        assert!(session.wrap_key(&way, own, escrowed).is_err(), "wrapped by {way:?}");
        let opened = session.unwrap_key(&way, own, &wrapped.blob, &readable());
        assert!(opened.is_err(), "opened by {way:?}");
        asked += 1;
    }
    assert!(asked > 4);
    // An RSA key of the thief's own, whose private half is at home with the thief.
    let public = [
        Attribute::Token(false),
        Attribute::ModulusBits(2048.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Wrap(true),
        Attribute::Encrypt(true),
    ];
    let private = [Attribute::Token(false), Attribute::Unwrap(true)];
    let pair = session.generate_key_pair(&Ck::RsaPkcsKeyPairGen, &public, &private).unwrap();
    assert!(session.wrap_key(&Ck::RsaPkcs, pair.0, escrowed).is_err(), "wrapped by RSA");
}

async fn an_escrowed_key_takes_no_weaker_attributes_and_has_no_weaker_copy(world: World) {
    let Scene { session, escrowed, .. } = scene(&world).await;
    for change in [
        Attribute::Sensitive(false),
        Attribute::WrapWithTrusted(false),
        Attribute::Decrypt(true),
        Attribute::Unwrap(true),
        Attribute::Derive(true),
        Attribute::Modifiable(true),
        Attribute::Copyable(true),
    ] {
        let changed = session.update_attributes(escrowed, std::slice::from_ref(&change));
        assert!(changed.is_err(), "changed: {change:?}");
        let copied = session.copy_object(escrowed, &[Attribute::Token(false), change.clone()]);
        assert!(copied.is_err(), "copied with {change:?}");
    }
    let read = session.get_attributes(escrowed, &[AttributeType::Value]).unwrap_or_default();
    assert!(read.is_empty(), "read");
    let public = vec![4; 65];
    let params = cryptoki::mechanism::elliptic_curve::Ecdh1DeriveParams::new(
        cryptoki::mechanism::elliptic_curve::EcKdf::null(),
        &public,
    );
    let derived = session.derive_key(&Ck::Ecdh1Derive(params), escrowed, &readable_secret());
    assert!(derived.is_err(), "derives");
}

async fn a_thief_makes_no_trusted_key_where_the_officer_alone_may(world: World) {
    let Scene { session, kek, wrapped, .. } = scene(&world).await;
    let own = own_key(&session);
    let trusted = |mut template: Vec<Attribute>| {
        template.extend([Attribute::Trusted(true), Attribute::Wrap(true), Attribute::Token(false)]);
        template
    };
    let aes = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    let created = trusted([&aes[..], &[Attribute::Value(vec![1; 32])]].concat());
    let plain = session.wrap_key(&Ck::AesKeyWrap, own, own).unwrap_or_default();
    let ways: Vec<(&str, CkResult<()>)> = vec![
        ("created", session.create_object(&created).map(drop)),
        ("set", session.update_attributes(own, &[Attribute::Trusted(true)])),
        ("copied", session.copy_object(own, &[Attribute::Trusted(true)]).map(drop)),
        ("copied from the KEK", session.copy_object(kek, &[Attribute::Trusted(true)]).map(drop)),
        ("unwrapped", {
            let template = trusted(aes.to_vec());
            session.unwrap_key(&Ck::AesKeyWrap, own, &plain, &template).map(drop)
        }),
        ("generated", {
            let template = trusted(vec![Attribute::ValueLen(32.into())]);
            session.generate_key(&Ck::AesKeyGen, &template).map(drop)
        }),
    ];
    let anybody = world.token.nature().trust == Trust::UnwrappedOnly;
    for (way, made) in &ways {
        // Where a token lets anybody, that is why no vault is initialised with custodians on it.
        let open = anybody && matches!(*way, "unwrapped" | "generated" | "copied" | "set");
        assert!(made.is_err() || open, "{way}: {made:?}");
    }
    if anybody {
        let refused = world.try_install_kek(KeyId::random(), VALUE).unwrap_err();
        assert!(!refused.hint.is_empty());
    }
    assert!(!wrapped.blob.is_empty());
}

async fn a_key_that_only_looks_like_the_kek_wraps_nothing(world: World) {
    let Scene { session, kek, store, .. } = scene(&world).await;
    let spec = spec(Algorithm::EcP256, Escrow::Wrapped);
    store.generate(&spec).await.unwrap();
    session.destroy_object(kek).unwrap();
    let forged = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Id(KeyId::random().as_bytes().to_vec()),
        Attribute::Label(b"kek".to_vec()),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Value(vec![1; 32]),
    ];
    session.create_object(&forged).unwrap();
    assert!(store.kek().await.unwrap().is_none(), "the forged one is taken for the KEK");
    let error = store.wrap(spec.id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
}
