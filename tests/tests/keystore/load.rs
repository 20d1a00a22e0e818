//! Many callers at once, and more than there is room for.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use vault::{
    error::ErrorKind,
    keystore::{Algorithm, Escrow, Mechanism, pkcs11::Options},
};

use super::{
    verify::verifies,
    world::{OPTIONS, World, spec},
};

promises! {
    many_tasks_sign_at_once_each_with_its_own_key_and_message
    a_full_queue_answers_exhausted_and_loses_nothing_it_took
    what_outlasts_its_deadline_is_unavailable
}

async fn many_tasks_sign_at_once_each_with_its_own_key_and_message(world: World) {
    let store = world.store_with(Options { workers: 4, ..OPTIONS });
    let mut keys = Vec::new();
    for algorithm in [Algorithm::EcP256, Algorithm::EcP384, Algorithm::Rsa2048] {
        let spec = spec(algorithm, Escrow::None);
        keys.push((spec.id, store.generate(&spec).await.unwrap()));
    }
    let mut tasks = JoinSet::new();
    for number in 0..150u32 {
        let (id, key) = keys[number as usize % keys.len()].clone();
        let store = store.clone();
        tasks.spawn(async move {
            let message = Bytes::from(number.to_be_bytes().to_vec());
            let mechanism = key.algorithm.default_mechanism();
            let signature = store.sign(id, mechanism, message.clone()).await.unwrap();
            assert!(verifies(&key, &message, &signature), "{number}");
        });
    }
    tasks.join_all().await;
}

async fn a_full_queue_answers_exhausted_and_loses_nothing_it_took(world: World) {
    let store = world.store_with(Options { workers: 1, queue: 1, ..OPTIONS });
    let mut tasks = JoinSet::new();
    for _ in 0..24 {
        let store = store.clone();
        tasks.spawn(async move { store.generate(&spec(Algorithm::Rsa4096, Escrow::None)).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert!(!made.is_empty(), "nothing was made");
    assert!(!refused.is_empty(), "nothing was refused");
    for error in refused.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind, ErrorKind::Exhausted, "{error}");
        assert!(error.retry_after.is_some(), "{error}");
    }
    assert_eq!(store.list().await.unwrap().len(), made.len());
}

async fn what_outlasts_its_deadline_is_unavailable(world: World) {
    // The token must be open within the deadline too, so it is the key that is slow: RSA-4096
    // takes hundreds of prime tests on any machine.
    let patient = world.store();
    let hasty =
        world.store_with(Options { workers: 1, queue: 8, deadline: Duration::from_millis(1) });
    let error = hasty.generate(&spec(Algorithm::Rsa4096, Escrow::None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.hint.contains("deadline"), "{}", error.hint);

    let spec = spec(Algorithm::EcP256, Escrow::None);
    let key = patient.generate(&spec).await.unwrap();
    let signature = patient.sign(spec.id, Mechanism::EcdsaSha256, b"m"[..].into()).await.unwrap();
    assert!(verifies(&key, b"m", &signature));
}
