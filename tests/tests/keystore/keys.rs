//! A key's life: born, shown, used, destroyed.

use bytes::Bytes;
use cryptoki::object::Attribute;
use vault::{
    error::ErrorKind,
    keystore::{Algorithm, Escrow, KeyStore, Mechanism},
};
use vault_proto::ids::KeyId;

use super::{
    verify::{MECHANISMS, verifies},
    world::{World, spec},
};

promises! {
    every_algorithm_is_generated_read_back_listed_and_destroyed
    a_key_is_two_objects_of_the_token_and_none_of_a_session
    an_algorithm_that_the_token_lacks_is_refused_and_leaves_nothing
    every_fitting_mechanism_makes_signatures_that_verify
    a_mechanism_that_does_not_fit_the_key_is_invalid
    an_unknown_key_is_not_found
    an_id_that_is_taken_is_refused_and_its_key_stays
    the_public_key_of_many_keys_reads_back
}

async fn every_algorithm_is_generated_read_back_listed_and_destroyed(world: World) {
    let store = world.store();
    for algorithm in world.token.algorithms() {
        lives_and_dies(&*store, algorithm).await;
    }
    assert!(store.list().await.unwrap().is_empty());
}

async fn lives_and_dies(store: &dyn KeyStore, algorithm: Algorithm) {
    let spec = spec(algorithm, Escrow::None);
    let born = store.generate(&spec).await.unwrap();
    assert_eq!(born.algorithm, algorithm);
    assert_eq!(store.public_key(spec.id).await.unwrap().as_ref(), Some(&born));

    let listed = store.list().await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].id, listed[0].has_private), (spec.id, true));
    assert_eq!(listed[0].label, spec.label);

    assert!(store.destroy(spec.id).await.unwrap());
    assert!(!store.destroy(spec.id).await.unwrap(), "destroyed twice");
    assert_eq!(store.public_key(spec.id).await.unwrap(), None);
    let error = store.sign(spec.id, algorithm.default_mechanism(), b"m"[..].into()).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::NotFound);
}

async fn a_key_is_two_objects_of_the_token_and_none_of_a_session(world: World) {
    let store = world.store();
    let session = world.session(&world.uri);
    for algorithm in world.token.algorithms() {
        let spec = spec(algorithm, Escrow::None);
        store.generate(&spec).await.unwrap();
        let id = Attribute::Id(spec.id.as_bytes().to_vec());
        let count = |token| {
            let found = session.find_objects(&[id.clone(), Attribute::Token(token)]);
            found.unwrap().len()
        };
        assert_eq!((count(true), count(false)), (2, 0), "{algorithm}");
    }
}

async fn an_algorithm_that_the_token_lacks_is_refused_and_leaves_nothing(world: World) {
    let store = world.store();
    for algorithm in world.token.nature().refused {
        let error = store.generate(&spec(*algorithm, Escrow::None)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(!error.hint.is_empty());
    }
    assert!(store.list().await.unwrap().is_empty());
}

async fn every_fitting_mechanism_makes_signatures_that_verify(world: World) {
    let store = world.store();
    // A signature over a whole message: none at all, and more than one block of any hash.
    let messages = [Vec::new(), b"a message".to_vec(), vec![0x20; 5000]];
    for algorithm in world.token.algorithms() {
        let spec = spec(algorithm, Escrow::None);
        let key = store.generate(&spec).await.unwrap();
        for mechanism in MECHANISMS.into_iter().filter(|one| one.fits(algorithm)) {
            for message in &messages {
                let signature =
                    store.sign(spec.id, mechanism, Bytes::from(message.clone())).await.unwrap();
                let about = format!("{algorithm} {mechanism} {} bytes", message.len());
                assert_eq!(signature.mechanism(), mechanism);
                assert!(verifies(&key, message, &signature), "{about}");
                assert!(!verifies(&key, b"another message", &signature), "{about}");
            }
        }
    }
}

async fn a_mechanism_that_does_not_fit_the_key_is_invalid(world: World) {
    let store = world.store();
    let few = [Algorithm::EcP256, Algorithm::EcP384, Algorithm::Rsa2048, Algorithm::Ed25519];
    for algorithm in world.token.algorithms().filter(|one| few.contains(one)) {
        let spec = spec(algorithm, Escrow::None);
        let key = store.generate(&spec).await.unwrap();
        for mechanism in MECHANISMS.into_iter().filter(|one| !one.fits(algorithm)) {
            let refused = store.sign(spec.id, mechanism, b"m"[..].into()).await;
            let error = refused.expect_err(&format!("{algorithm} signed {mechanism}"));
            assert_eq!(error.kind, ErrorKind::Invalid, "{algorithm} {mechanism}: {error}");
        }
        let signature = store.sign(spec.id, algorithm.default_mechanism(), b"m"[..].into());
        assert!(verifies(&key, b"m", &signature.await.unwrap()), "{algorithm} after refusals");
    }
}

async fn an_unknown_key_is_not_found(world: World) {
    let store = world.store();
    let id = KeyId::random();
    let error = store.sign(id, Mechanism::EcdsaSha256, b"m"[..].into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert!(error.subject.contains(&id.to_string()), "{error}");
    assert!(!error.hint.is_empty());
    assert_eq!(store.wrap(id).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.public_key(id).await.unwrap(), None);
    assert!(!store.destroy(id).await.unwrap());
}

async fn an_id_that_is_taken_is_refused_and_its_key_stays(world: World) {
    let store = world.store();
    let first = spec(Algorithm::EcP256, Escrow::None);
    let key = store.generate(&first).await.unwrap();
    let mut second = spec(Algorithm::Rsa2048, Escrow::None);
    second.id = first.id;
    let error = store.generate(&second).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
    assert_eq!(store.list().await.unwrap().len(), 1);
    assert_eq!(store.public_key(first.id).await.unwrap().as_ref(), Some(&key));
    let signature = store.sign(first.id, Mechanism::EcdsaSha256, b"m"[..].into()).await.unwrap();
    assert!(verifies(&key, b"m", &signature));
}

/// One point in 256 begins like a DER header of its own length, so a few keys prove little.
async fn the_public_key_of_many_keys_reads_back(world: World) {
    let store = world.store();
    for _ in 0..200 {
        let spec = spec(Algorithm::EcP256, Escrow::None);
        let born = store.generate(&spec).await.unwrap();
        assert_eq!(store.public_key(spec.id).await.unwrap(), Some(born));
        store.destroy(spec.id).await.unwrap();
    }
}
