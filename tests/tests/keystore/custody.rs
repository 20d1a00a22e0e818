//! What the token itself says and refuses about private keys, asked past the key store.

use cryptoki::{
    mechanism::Mechanism as Ck,
    object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
};
use vault::keystore::{Algorithm, Escrow};

use super::world::{Trust, World, object, spec};

promises! {
    the_token_says_that_every_private_key_is_what_its_escrow_promises
    a_private_value_cannot_be_read
    an_untrusted_key_wraps_no_private_key
    a_private_key_can_neither_be_changed_nor_copied
    who_may_make_a_trusted_key_is_as_stated
}

const ESCROWS: [Escrow; 2] = [Escrow::None, Escrow::Wrapped];

async fn the_token_says_that_every_private_key_is_what_its_escrow_promises(world: World) {
    let store = world.store();
    let session = world.session(&world.uri);
    for algorithm in world.token.algorithms() {
        for escrow in ESCROWS {
            let spec = spec(algorithm, escrow);
            store.generate(&spec).await.unwrap();
            let key = object(&session, ObjectClass::PRIVATE_KEY, spec.id);
            let escrowed = escrow == Escrow::Wrapped;
            for (kind, value) in [
                (AttributeType::Token, Attribute::Token(true)),
                (AttributeType::Private, Attribute::Private(true)),
                (AttributeType::Sensitive, Attribute::Sensitive(true)),
                (AttributeType::AlwaysSensitive, Attribute::AlwaysSensitive(true)),
                (AttributeType::Extractable, Attribute::Extractable(escrowed)),
                (AttributeType::NeverExtractable, Attribute::NeverExtractable(!escrowed)),
                (AttributeType::WrapWithTrusted, Attribute::WrapWithTrusted(escrowed)),
                (AttributeType::Local, Attribute::Local(true)),
                (AttributeType::Sign, Attribute::Sign(true)),
                (AttributeType::Decrypt, Attribute::Decrypt(false)),
                (AttributeType::Unwrap, Attribute::Unwrap(false)),
                (AttributeType::Derive, Attribute::Derive(false)),
            ] {
                let read = session.get_attributes(key, &[kind]).unwrap();
                assert_eq!(read, [value], "{algorithm}, escrow {escrow}");
            }
            store.destroy(spec.id).await.unwrap();
        }
    }
}

async fn a_private_value_cannot_be_read(world: World) {
    let store = world.store();
    let session = world.session(&world.uri);
    for algorithm in world.token.algorithms() {
        let secret: &[AttributeType] = match algorithm.rsa_bits() {
            Some(_) => &[
                AttributeType::PrivateExponent,
                AttributeType::Prime1,
                AttributeType::Prime2,
                AttributeType::Exponent1,
                AttributeType::Exponent2,
                AttributeType::Coefficient,
            ],
            None => &[AttributeType::Value],
        };
        for escrow in ESCROWS {
            let spec = spec(algorithm, escrow);
            store.generate(&spec).await.unwrap();
            let key = object(&session, ObjectClass::PRIVATE_KEY, spec.id);
            for kind in secret {
                let about = format!("{kind} of {algorithm}, escrow {escrow}");
                let info = session.get_attribute_info(key, &[*kind]).unwrap();
                assert!(matches!(info[..], [AttributeInfo::Sensitive]), "{about}: {info:?}");
                let read = session.get_attributes(key, &[*kind]).unwrap_or_default();
                assert!(read.is_empty(), "{about}");
            }
            store.destroy(spec.id).await.unwrap();
        }
    }
}

async fn an_untrusted_key_wraps_no_private_key(world: World) {
    let store = world.store();
    let session = world.session(&world.uri);
    let untrusted = wrapping_key(&session, None);
    for algorithm in [Algorithm::EcP256, Algorithm::Rsa2048] {
        for escrow in ESCROWS {
            let spec = spec(algorithm, escrow);
            store.generate(&spec).await.unwrap();
            let key = object(&session, ObjectClass::PRIVATE_KEY, spec.id);
            for way in [Ck::AesKeyWrapPad, Ck::AesKeyWrap, Ck::AesCbcPad([7; 16])] {
                let wrapped = session.wrap_key(&way, untrusted, key);
                assert!(wrapped.is_err(), "{algorithm}, escrow {escrow}, {way:?}");
            }
        }
    }
    // The same key wraps what the token lets go, so it is the private keys that refuse.
    let open = exportable(&session);
    let way = match world.token.nature().wrap {
        vault::keystore::WrapMechanism::AesKeyWrapPad => Ck::AesKeyWrapPad,
        vault::keystore::WrapMechanism::AesCbcPad => Ck::AesCbcPad([7; 16]),
    };
    assert!(!session.wrap_key(&way, untrusted, open).unwrap().is_empty());
}

async fn a_private_key_can_neither_be_changed_nor_copied(world: World) {
    let store = world.store();
    let session = world.session(&world.uri);
    for escrow in ESCROWS {
        let spec = spec(Algorithm::EcP256, escrow);
        store.generate(&spec).await.unwrap();
        let key = object(&session, ObjectClass::PRIVATE_KEY, spec.id);
        for change in [
            Attribute::Extractable(true),
            Attribute::Sensitive(false),
            Attribute::WrapWithTrusted(false),
            Attribute::Decrypt(true),
            Attribute::Label(b"another".to_vec()),
        ] {
            let changed = session.update_attributes(key, std::slice::from_ref(&change));
            // What is so already may be set to the same.
            let same = escrow == Escrow::Wrapped && change == Attribute::Extractable(true);
            assert!(changed.is_err() || same, "escrow {escrow}: {change:?}");
        }
        let copy = session.copy_object(key, &[Attribute::Token(false)]);
        assert!(copy.is_err(), "escrow {escrow}: copied");
    }
}

async fn who_may_make_a_trusted_key_is_as_stated(world: World) {
    let session = world.session(&world.uri);
    let made = session.generate_key(&Ck::AesKeyGen, &wrapping_template(Some(true)));
    let anybody = world.token.nature().trust == Trust::UnwrappedOnly;
    assert_eq!(made.is_ok(), anybody, "{made:?}");
}

fn wrapping_template(trusted: Option<bool>) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(false),
        Attribute::ValueLen(32.into()),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Sensitive(true),
    ];
    template.extend(trusted.map(Attribute::Trusted));
    template
}

/// What a thief with the user PIN would wrap with.
fn wrapping_key(session: &Session, trusted: Option<bool>) -> ObjectHandle {
    session.generate_key(&Ck::AesKeyGen, &wrapping_template(trusted)).unwrap()
}

/// A private key that nobody protects.
fn exportable(session: &Session) -> ObjectHandle {
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let public = [Attribute::Token(false), Attribute::EcParams(p256)];
    let private = [
        Attribute::Token(false),
        Attribute::KeyType(KeyType::EC),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Sign(true),
    ];
    session.generate_key_pair(&Ck::EccKeyPairGen, &public, &private).unwrap().1
}
