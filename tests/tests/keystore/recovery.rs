//! The token of a drill or a restore: a KEK that unwraps and does nothing else, and keys that come
//! back with every restriction that they were born with.

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use vault::{
    error::ErrorKind,
    keystore::{
        Algorithm, Escrow, KeySpec, KeyStore, PublicKey, WrappedKey,
        pkcs11::{KekSpec, Lasting, Recovery},
    },
};
use vault_custody::locked::Locked;
use vault_proto::ids::KeyId;

use super::{
    verify::verifies,
    world::{OPTIONS, PIN, World, object, spec},
};

promises! {
    a_kek_for_recovery_unwraps_and_does_nothing_else
    a_kek_that_lasts_as_long_as_its_session_is_in_no_token
    a_kek_that_unwraps_never_comes_into_a_token_whose_kek_wraps
    a_drill_s_keys_sign_and_are_gone_with_their_session
    a_restored_key_serves_like_the_one_that_was_lost
    a_blob_that_is_not_what_the_kek_wrapped_is_refused
    a_kek_for_recovery_is_destroyed_when_its_work_is_done
    the_newest_kek_wraps_and_one_that_it_replaces_can_go
}

const VALUE: [u8; 32] = [0x5a; 32];

fn kek(id: KeyId, value: [u8; 32]) -> KekSpec {
    KekSpec { id, value: Locked::copy_of(&value).unwrap() }
}

/// A live token with a KEK, and a second one where a quorum has put the same for unwrapping.
fn pair(world: &World) -> (KeyId, std::sync::Arc<dyn KeyStore>, Recovery) {
    let second = world.second_token();
    let id = world.install_kek(VALUE);
    let store = world.store();
    let recovery = Recovery::open(&world.module, &second, &PIN.into()).unwrap();
    recovery.install_kek(&kek(id, VALUE), Lasting::Token).unwrap();
    (id, store, recovery)
}

async fn escrowed(store: &dyn KeyStore, algorithm: Algorithm) -> (KeySpec, PublicKey, WrappedKey) {
    let spec = spec(algorithm, Escrow::Wrapped);
    let key = store.generate(&spec).await.unwrap();
    let wrapped = store.wrap(spec.id).await.unwrap();
    (spec, key, wrapped)
}

async fn a_kek_for_recovery_unwraps_and_does_nothing_else(world: World) {
    let (id, store, recovery) = pair(&world);
    assert_eq!(recovery.keks().unwrap(), [id]);
    let (_, _, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    assert_eq!(wrapped.kek, id, "a wrapped key does not say by which KEK");
    let session = world.session(&world.second());
    let handle = object(&session, ObjectClass::SECRET_KEY, id);
    for (kind, value) in [
        (AttributeType::Unwrap, Attribute::Unwrap(true)),
        (AttributeType::Wrap, Attribute::Wrap(false)),
        (AttributeType::Encrypt, Attribute::Encrypt(false)),
        (AttributeType::Decrypt, Attribute::Decrypt(false)),
        (AttributeType::Derive, Attribute::Derive(false)),
        (AttributeType::Sensitive, Attribute::Sensitive(true)),
        (AttributeType::Extractable, Attribute::Extractable(false)),
        (AttributeType::Private, Attribute::Private(true)),
        (AttributeType::Trusted, Attribute::Trusted(false)),
    ] {
        assert_eq!(session.get_attributes(handle, &[kind]).unwrap(), [value]);
    }
    for change in [
        Attribute::Decrypt(true),
        Attribute::Encrypt(true),
        Attribute::Wrap(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ] {
        let changed = session.update_attributes(handle, std::slice::from_ref(&change));
        assert!(changed.is_err(), "changed: {change:?}");
        let copied = session.copy_object(handle, std::slice::from_ref(&change));
        assert!(copied.is_err(), "copied with {change:?}");
    }
    let read = session.get_attributes(handle, &[AttributeType::Value]).unwrap_or_default();
    assert!(read.is_empty(), "read");
    let again = recovery.install_kek(&kek(id, VALUE), Lasting::Token).unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict, "{again}");
}

async fn a_kek_that_lasts_as_long_as_its_session_is_in_no_token(world: World) {
    let second = world.second_token();
    let id = world.install_kek(VALUE);
    let store = world.store();
    let (spec, key, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    let recovery = Recovery::open(&world.module, &second, &PIN.into()).unwrap();
    assert!(recovery.is_empty().unwrap());
    recovery.install_kek(&kek(id, VALUE), Lasting::Session).unwrap();
    assert!(recovery.is_empty().unwrap(), "it is an object of the token");
    // It unwraps all the same, and what it unwraps for good stays.
    let recovered = recovery.unwrap(&spec, &wrapped, Lasting::Token).unwrap();
    let mechanism = spec.algorithm.default_mechanism();
    let signature = recovery.sign(&recovered, mechanism, b"challenge").unwrap();
    assert!(verifies(&key, b"challenge", &signature));
    drop(recovery);
    let again = Recovery::open(&world.module, &second, &PIN.into()).unwrap();
    assert_eq!(again.keks().unwrap(), [], "it has outlived its session");
    let pairs = again.pairs().unwrap();
    assert!(pairs[&spec.id].private.is_some() && !pairs[&spec.id].public);
    again.publish(&spec, &key).unwrap();
    assert!(again.pairs().unwrap()[&spec.id].public);
}

async fn a_kek_that_unwraps_never_comes_into_a_token_whose_kek_wraps(world: World) {
    let id = world.install_kek(VALUE);
    let live = Recovery::open(&world.module, &world.uri, &PIN.into()).unwrap();
    for id in [id, KeyId::random()] {
        let error = live.install_kek(&kek(id, VALUE), Lasting::Token).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
        assert!(error.why.contains("live vault"), "{error}");
    }
    assert_eq!(live.keks().unwrap(), []);
}

async fn a_drill_s_keys_sign_and_are_gone_with_their_session(world: World) {
    let (_, store, recovery) = pair(&world);
    let not_wrapped = world.token.nature().not_wrapped;
    for algorithm in world.token.algorithms().filter(|one| !not_wrapped.contains(one)) {
        let (spec, key, wrapped) = escrowed(&*store, algorithm).await;
        let recovered = recovery.unwrap(&spec, &wrapped, Lasting::Session).unwrap();
        let signature =
            recovery.sign(&recovered, algorithm.default_mechanism(), b"challenge").unwrap();
        assert!(verifies(&key, b"challenge", &signature), "{algorithm}");
        let session = world.session(&world.second());
        let private = object(&session, ObjectClass::PRIVATE_KEY, spec.id);
        as_born(&session, private, false);
        recovery.destroy(recovered).unwrap();
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
        assert!(session.find_objects(&template).unwrap().is_empty(), "{algorithm} is left");
    }
    let (spec, _, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    let _left = recovery.unwrap(&spec, &wrapped, Lasting::Session).unwrap();
    drop(recovery);
    let session = world.session(&world.second());
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
    assert!(session.find_objects(&template).unwrap().is_empty(), "it outlives its session");
}

fn as_born(
    session: &cryptoki::session::Session,
    private: cryptoki::object::ObjectHandle,
    lasts: bool,
) {
    for (kind, value) in [
        (AttributeType::Token, Attribute::Token(lasts)),
        (AttributeType::Private, Attribute::Private(true)),
        (AttributeType::Sensitive, Attribute::Sensitive(true)),
        (AttributeType::Extractable, Attribute::Extractable(true)),
        (AttributeType::WrapWithTrusted, Attribute::WrapWithTrusted(true)),
        (AttributeType::Sign, Attribute::Sign(true)),
        (AttributeType::Decrypt, Attribute::Decrypt(false)),
        (AttributeType::Unwrap, Attribute::Unwrap(false)),
        (AttributeType::Derive, Attribute::Derive(false)),
    ] {
        assert_eq!(session.get_attributes(private, &[kind]).unwrap(), [value]);
    }
    for change in [Attribute::Sensitive(false), Attribute::WrapWithTrusted(false)] {
        let changed = session.update_attributes(private, std::slice::from_ref(&change));
        assert!(changed.is_err(), "changed: {change:?}");
    }
    let secret = [AttributeType::Value, AttributeType::PrivateExponent];
    for kind in secret {
        let read = session.get_attributes(private, &[kind]).unwrap_or_default();
        assert!(read.is_empty(), "{kind} is read");
    }
}

async fn a_restored_key_serves_like_the_one_that_was_lost(world: World) {
    let (_, store, recovery) = pair(&world);
    let not_wrapped = world.token.nature().not_wrapped;
    let mut restored = Vec::new();
    for algorithm in world.token.algorithms().filter(|one| !not_wrapped.contains(one)) {
        let (spec, key, wrapped) = escrowed(&*store, algorithm).await;
        recovery.unwrap(&spec, &wrapped, Lasting::Token).unwrap();
        recovery.publish(&spec, &key).unwrap();
        restored.push((spec, key));
    }
    drop(recovery);
    let second = world.open(&world.second(), PIN, OPTIONS).unwrap();
    let listed = second.list().await.unwrap();
    assert_eq!(listed.len(), restored.len());
    for (spec, key) in restored {
        let mechanism = spec.algorithm.default_mechanism();
        let signature = second.sign(spec.id, mechanism, b"served"[..].into()).await.unwrap();
        assert!(verifies(&key, b"served", &signature), "{}", spec.algorithm);
        let public = second.public_key(spec.id).await.unwrap();
        assert_eq!(public, Some(key), "{}", spec.algorithm);
        let session = world.session(&world.second());
        as_born(&session, object(&session, ObjectClass::PRIVATE_KEY, spec.id), true);
        let found = listed.iter().find(|one| one.id == spec.id).expect("listed");
        assert_eq!((&found.label, found.has_private), (&spec.label, true));
    }
}

async fn a_blob_that_is_not_what_the_kek_wrapped_is_refused(world: World) {
    let (_, store, recovery) = pair(&world);
    let (spec, _, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    let other = KeyId::random();
    recovery.install_kek(&kek(other, [0x5b; 32]), Lasting::Token).unwrap();
    let changed = |change: &dyn Fn(&mut WrappedKey)| {
        let mut changed = wrapped.clone();
        change(&mut changed);
        changed
    };
    for (blob, why) in [
        (changed(&|key| key.blob[0] ^= 1), "changed"),
        (changed(&|key| key.blob.truncate(16)), "truncated"),
        (changed(&|key| key.blob.clear()), "empty"),
        (changed(&|key| key.kek = other), "by another KEK"),
    ] {
        let error = recovery.unwrap(&spec, &blob, Lasting::Session).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Verification, "{why}: {error}");
        assert!(error.subject.contains(&spec.id.to_string()), "{why}: {error}");
    }
    let absent = changed(&|key| key.kek = KeyId::random());
    let error = recovery.unwrap(&spec, &absent, Lasting::Session).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    // Nothing is left of what was refused, and the real one still opens.
    let session = world.session(&world.second());
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
    assert!(session.find_objects(&template).unwrap().is_empty());
    recovery.unwrap(&spec, &wrapped, Lasting::Session).unwrap();
}

async fn a_kek_for_recovery_is_destroyed_when_its_work_is_done(world: World) {
    let (id, store, recovery) = pair(&world);
    let (spec, _, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    assert!(recovery.destroy_kek(id).unwrap());
    assert!(!recovery.destroy_kek(id).unwrap(), "twice");
    assert_eq!(recovery.keks().unwrap(), []);
    let error = recovery.unwrap(&spec, &wrapped, Lasting::Session).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

async fn the_newest_kek_wraps_and_one_that_it_replaces_can_go(world: World) {
    let second = world.second_token();
    let old = world.install_kek(VALUE);
    let new = world.install_kek([0x5b; 32]);
    let store = world.store();
    assert_eq!(store.kek().await.unwrap().map(|kek| kek.id), Some(new));
    let error = store.retire_kek(new).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let (spec, key, wrapped) = escrowed(&*store, Algorithm::EcP256).await;
    assert_eq!(wrapped.kek, new);
    assert!(store.retire_kek(old).await.unwrap());
    assert!(!store.retire_kek(old).await.unwrap(), "twice");
    store.wrap(spec.id).await.unwrap();
    let recovery = Recovery::open(&world.module, &second, &PIN.into()).unwrap();
    recovery.install_kek(&kek(new, [0x5b; 32]), Lasting::Token).unwrap();
    let recovered = recovery.unwrap(&spec, &wrapped, Lasting::Session).unwrap();
    let mechanism = spec.algorithm.default_mechanism();
    let signature = recovery.sign(&recovered, mechanism, b"challenge").unwrap();
    assert!(verifies(&key, b"challenge", &signature));
}
