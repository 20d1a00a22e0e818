//! Getting in, being thrown out, and other hands on the same token.

use std::{path::Path, process::Command};

use cryptoki::types::AuthPin;
use testkit::programs::run;
use vault::{
    error::ErrorKind,
    keystore::{
        Algorithm, Escrow, KeyStore, Mechanism,
        pkcs11::{Module, Options, TokenState, TokenUri},
    },
};
use vault_proto::ids::KeyId;

use super::{
    verify::verifies,
    world::{OPTIONS, PIN, SO_PIN, World, spec},
};

promises! {
    a_wrong_pin_is_denied_and_the_right_one_still_opens
    a_pin_that_was_refused_is_not_tried_again_by_any_worker
    a_missing_module_is_invalid
    an_unknown_token_is_not_found
    a_token_that_exists_is_not_initialised_over
    a_token_is_wiped_only_on_purpose_and_then_wholly
    a_store_that_was_logged_out_logs_in_again_and_signs
    everything_else_recovers_from_a_logout_too
    a_key_destroyed_by_another_process_is_not_found
    a_key_made_by_another_worker_is_found_by_all
}

async fn a_wrong_pin_is_denied_and_the_right_one_still_opens(world: World) {
    let error = world.open(&world.uri, "wrong-pin", OPTIONS).err().expect("refused");
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(!error.hint.is_empty());
    assert!(!format!("{error:?}").contains("wrong-pin"), "the PIN is repeated: {error:?}");
    let store = world.store();
    assert_eq!(store.token_info().await.unwrap().label, world.uri.label());
}

/// The PIN is changed under a running store, whose workers are then logged out: one of them finds
/// that it is wrong, and thirty more calls cost no further try, which a token that counts (Kryoptic
/// locks after ten) would not forgive.
async fn a_pin_that_was_refused_is_not_tried_again_by_any_worker(world: World) {
    let store = world.store_with(Options { workers: 4, ..OPTIONS });
    let spec = spec(Algorithm::EcP256, Escrow::None);
    let key = store.generate(&spec).await.unwrap();
    let session = world.session(&world.uri);
    session.set_pin(&AuthPin::new(PIN.into()), &AuthPin::new("5678-new".into())).unwrap();
    session.logout().unwrap();

    for number in 0..30 {
        let refused = store.sign(spec.id, Mechanism::EcdsaSha256, b"m"[..].into()).await;
        let error = refused.expect_err("signed without a PIN");
        assert_eq!(error.kind, ErrorKind::Denied, "{number}: {error}");
        let again = error.why.contains("not tried again");
        assert_eq!(again, number > 0, "{number}: {error}");
    }
    let other = world.open(&world.uri, "5678-new", OPTIONS).expect("not locked");
    let signature = other.sign(spec.id, Mechanism::EcdsaSha256, b"m"[..].into()).await.unwrap();
    assert!(verifies(&key, b"m", &signature));
}

async fn a_missing_module_is_invalid(world: World) {
    // libm is a library and no module; the token's own configuration is no library.
    let config = std::env::var("SOFTHSM2_CONF").or_else(|_| std::env::var("KRYOPTIC_CONF"));
    for path in ["/nonexistent/module.so", "libm.so.6", &config.unwrap()] {
        let error = Module::load(Path::new(path)).err().expect(path);
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.subject.contains(path), "{error}");
        assert!(error.hint.contains("module-path"), "{}", error.hint);
    }
    world.store().token_info().await.unwrap();
}

async fn an_unknown_token_is_not_found(world: World) {
    let path = world.uri.module_path().display();
    for label in ["other", "vaul", "vault2", "vault;serial=0"] {
        let uri: TokenUri = format!("pkcs11:token={label}?module-path={path}").parse().unwrap();
        assert!(matches!(world.module.token(&uri).unwrap(), TokenState::Absent), "{label}");
        let error = world.open(&uri, PIN, OPTIONS).err().expect(label);
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        assert!(!error.hint.is_empty());
    }
    let TokenState::Ready(info) = world.module.token(&world.uri).unwrap() else {
        panic!("the token is not there");
    };
    let exact = format!("pkcs11:token=vault;serial={}?module-path={path}", info.serial);
    world.open(&exact.parse().unwrap(), PIN, OPTIONS).expect("label and serial number");
}

async fn a_token_that_exists_is_not_initialised_over(world: World) {
    let store = world.store();
    let spec = spec(Algorithm::EcP256, Escrow::None);
    store.generate(&spec).await.unwrap();
    let again =
        world.module.initialize_token(&world.uri, &"x-1234".into(), &"y-1234".into(), false);
    assert_eq!(again.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(store.list().await.unwrap().len(), 1);
}

async fn a_token_is_wiped_only_on_purpose_and_then_wholly(world: World) {
    let store = world.store();
    store.generate(&spec(Algorithm::EcP256, Escrow::None)).await.unwrap();
    // A dropped store has closed its sessions, without which no token is initialised.
    drop(store);
    let wipe = |officer: &str| {
        world.module.initialize_token(&world.uri, &officer.into(), &PIN.into(), true)
    };
    assert_eq!(wipe("not-the-officer").unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(world.store().list().await.unwrap().len(), 1);
    wipe(SO_PIN).unwrap();
    assert!(world.store().list().await.unwrap().is_empty());
}

async fn a_store_that_was_logged_out_logs_in_again_and_signs(world: World) {
    let store = world.store_with(Options { workers: 3, ..OPTIONS });
    let spec = spec(Algorithm::EcP256, Escrow::None);
    let key = store.generate(&spec).await.unwrap();
    for round in 0..5 {
        // More signatures than workers, so that some meet the logout with a remembered handle.
        for _ in 0..6 {
            let signature = store.sign(spec.id, Mechanism::EcdsaSha256, b"m"[..].into()).await;
            let signature = signature.unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert!(verifies(&key, b"m", &signature), "round {round}");
        }
        world.session(&world.uri).logout().unwrap();
    }
}

async fn everything_else_recovers_from_a_logout_too(world: World) {
    world.install_kek([7; 32]);
    let store = world.store_with(Options { workers: 1, ..OPTIONS });
    let log_out = || world.session(&world.uri).logout().unwrap();
    let spec = spec(Algorithm::EcP256, Escrow::Wrapped);
    log_out();
    let key = store.generate(&spec).await.expect("generate");
    log_out();
    assert_eq!(store.public_key(spec.id).await.expect("read"), Some(key));
    log_out();
    assert!(store.list().await.expect("list")[0].has_private);
    log_out();
    store.wrap(spec.id).await.expect("wrap");
    log_out();
    store.token_info().await.expect("ask");
    log_out();
    assert!(store.kek().await.expect("ask").is_some());
    log_out();
    assert!(store.destroy(spec.id).await.expect("destroy"));
    log_out();
    assert!(store.list().await.expect("list").is_empty());
}

async fn a_key_destroyed_by_another_process_is_not_found(world: World) {
    let store = world.store();
    let spec = spec(Algorithm::EcP256, Escrow::None);
    let other = super::world::spec(Algorithm::EcP256, Escrow::None);
    let key = store.generate(&other).await.unwrap();
    store.generate(&spec).await.unwrap();
    // Every worker remembers the handle.
    for _ in 0..4 {
        store.sign(spec.id, Mechanism::EcdsaSha256, b"m"[..].into()).await.unwrap();
    }
    for class in ["privkey", "pubkey"] {
        destroy_elsewhere(&world, class, spec.id);
    }
    for _ in 0..4 {
        let signed = store.sign(spec.id, Mechanism::EcdsaSha256, b"m"[..].into()).await;
        assert_eq!(signed.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(store.public_key(spec.id).await.unwrap(), None);
    assert!(!store.destroy(spec.id).await.unwrap());
    let listed = store.list().await.unwrap();
    assert_eq!(listed.iter().map(|object| object.id).collect::<Vec<_>>(), [other.id]);
    let signature = store.sign(other.id, Mechanism::EcdsaSha256, b"m"[..].into()).await.unwrap();
    assert!(verifies(&key, b"m", &signature));
}

/// By OpenSC's tool, which has the module's configuration from this process.
fn destroy_elsewhere(world: &World, class: &str, id: KeyId) {
    let mut tool = Command::new("pkcs11-tool");
    tool.arg("--module").arg(world.uri.module_path());
    tool.args(["--token-label", world.uri.label(), "--login", "--pin", PIN]);
    tool.args(["--delete-object", "--type", class, "--id", &hex::encode(id.as_bytes())]);
    let ended = run(tool);
    assert_eq!(ended.code, 0, "{ended:?}");
}

async fn a_key_made_by_another_worker_is_found_by_all(world: World) {
    let store = world.store_with(Options { workers: 4, ..OPTIONS });
    let spec = spec(Algorithm::EcP256, Escrow::None);
    let key = store.generate(&spec).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, id) = (store.clone(), spec.id);
        tasks.spawn(async move { store.sign(id, Mechanism::EcdsaSha256, b"m"[..].into()).await });
    }
    for signature in tasks.join_all().await {
        assert!(verifies(&key, b"m", &signature.unwrap()));
    }
}
