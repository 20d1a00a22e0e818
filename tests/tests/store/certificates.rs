//! Certificates as declared, and when they are due.

use std::slice;

use time::{Duration, OffsetDateTime};
use vault::{
    error::ErrorKind,
    keystore::Algorithm,
    store::{
        CertificateRecord, CertificateSettings, CertificateStatus, Certificates as _,
        ChallengeKind, Custody, DeploymentStatus, Identifier, KeyPurpose, KeyRecord, Keys as _,
        OrderRecord, OrderState, Placements as _, TlsUse, Turn,
    },
};

use super::{
    records::{
        certificate, key, name, order, put_account, put_agents, put_certificates, put_order, start,
        version,
    },
    world::{World, refused},
};

promises! {
    a_certificate_reads_back_as_it_was_written
    settings_are_changed_and_nothing_else
    settings_that_somebody_else_has_changed_are_not_changed
    a_certificate_is_declared_with_its_deployments_or_not_at_all
    a_certificate_s_name_is_unique
    what_is_planned_comes_soonest_first_and_with_its_order
    a_certificate_is_made_due_and_nothing_else_of_it_changes
    a_failed_attempt_is_recorded_and_nothing_else_changes
    a_certificate_is_forgotten_with_all_that_is_its
    a_certificate_that_is_deployed_is_not_forgotten
    a_certificate_that_cannot_be_forgotten_loses_nothing
}

async fn a_certificate_reads_back_as_it_was_written(world: World) {
    let store = &world.store;
    put_account(store).await;
    let key = KeyRecord { purpose: KeyPurpose::Certificate, ..key("shop") };
    store.insert_key(&key, None).await.unwrap();
    let first = certificate("shop");
    let other = CertificateRecord {
        name: name("shop-2"),
        account: first.account.clone(),
        identifiers: vec![Identifier::Ip("2001:db8::1".parse().unwrap())],
        challenge: ChallengeKind::Dns01,
        custody: Custody::Agent,
        algorithm: Algorithm::Rsa4096,
        profile: None,
        must_staple: false,
        tls_use: TlsUse::Message,
        rotate_key: false,
        fallback: vec![name("other-ca"), name("third-ca")],
        preferred_chain: None,
        windows: vec!["Sat 02:00-04:00".parse().unwrap()],
        turn: Turn::default(),
        status: CertificateStatus::Issued,
        current_version: u64::try_from(i64::MAX).unwrap(),
        key_id: Some(key.id),
        renew_at: start() + Duration::days(60),
        failed_attempts: u32::MAX,
        last_error: Some("the CA is \"away\"".to_owned()),
        created_at: start() + Duration::seconds(1),
    };
    for written in [&first, &other] {
        store.insert_certificate(written, &[]).await.unwrap();
        assert_eq!(store.certificate(&written.name).await.unwrap().as_ref(), Some(written));
    }
    assert_eq!(store.certificates().await.unwrap(), [first, other]);
    assert_eq!(store.certificate(&name("missing")).await.unwrap(), None);
}

/// Settings of every kind.
fn every_settings() -> Vec<CertificateSettings> {
    let mut all = Vec::new();
    let chains = [(Vec::new(), None), (vec![name("other"), name("third")], Some("X1".to_owned()))];
    for (tls_use, challenge) in TlsUse::ALL.iter().zip(ChallengeKind::ALL) {
        for profile in [None, Some("shortlived".to_owned()), Some("classic".to_owned())] {
            for rotate_key in [true, false] {
                for (fallback, preferred_chain) in chains.clone() {
                    all.push(CertificateSettings {
                        challenge: *challenge,
                        profile: profile.clone(),
                        tls_use: *tls_use,
                        rotate_key,
                        fallback,
                        preferred_chain,
                        windows: match rotate_key {
                            true => vec!["Sat 02:00-04:00".parse().unwrap()],
                            false => Vec::new(),
                        },
                    });
                }
            }
        }
    }
    all
}

async fn settings_are_changed_and_nothing_else(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let others = put_certificates(store, &["other"]).await;
    let mut now = shop.clone();
    for to in every_settings() {
        assert!(store.change_settings(&shop.name, &now.settings(), &to).await.unwrap(), "{to:?}");
        let CertificateSettings {
            challenge,
            profile,
            tls_use,
            rotate_key,
            fallback,
            preferred_chain,
            windows,
        } = to;
        now = CertificateRecord {
            challenge,
            profile,
            tls_use,
            rotate_key,
            fallback,
            preferred_chain,
            windows,
            ..now
        };
        assert_eq!(store.certificate(&shop.name).await.unwrap().as_ref(), Some(&now));
    }
    assert_eq!(store.certificate(&others[0]).await.unwrap(), Some(certificate("other")));
    assert_eq!(store.open_order(&shop.name).await.unwrap(), Some(order));
}

async fn settings_that_somebody_else_has_changed_are_not_changed(world: World) {
    let store = &world.store;
    put_account(store).await;
    let shop = certificate("shop");
    store.insert_certificate(&shop, &[]).await.unwrap();
    let now = shop.settings();
    let mut stale = 0;
    for from in every_settings().into_iter().filter(|from| *from != now) {
        assert!(!store.change_settings(&shop.name, &from, &from).await.unwrap(), "{from:?}");
        stale += 1;
    }
    assert!(stale > 10, "{stale}");
    assert!(!store.change_settings(&name("missing"), &now, &now).await.unwrap());
    assert_eq!(store.certificates().await.unwrap(), slice::from_ref(&shop));
    // Of two at once, one.
    let change = |rotate_key| CertificateSettings { rotate_key, ..now.clone() };
    let (one, two) =
        (change(false), CertificateSettings { tls_use: TlsUse::Digest, ..change(true) });
    let changed = tokio::join!(
        store.change_settings(&shop.name, &now, &one),
        store.change_settings(&shop.name, &now, &two),
    );
    let changed = (changed.0.unwrap(), changed.1.unwrap());
    let after = store.certificate(&shop.name).await.unwrap().unwrap().settings();
    let expected = match changed {
        (true, false) => one,
        (false, true) => two,
        _ => panic!("{changed:?}"),
    };
    assert_eq!(after, expected);
}

async fn a_certificate_is_declared_with_its_deployments_or_not_at_all(world: World) {
    let store = &world.store;
    put_account(store).await;
    let agents = put_agents(store, &["web1", "web2"]).await;
    let shop = certificate("shop");
    let to = [agents[0].clone(), name("unknown")];
    refused(ErrorKind::Conflict, store.insert_certificate(&shop, &to).await);
    let orphan = CertificateRecord { account: name("unknown"), ..shop.clone() };
    refused(ErrorKind::Conflict, store.insert_certificate(&orphan, &agents).await);
    assert_eq!(store.certificates().await.unwrap(), []);
    assert_eq!(store.deployments_on(&agents[0]).await.unwrap(), []);

    store.insert_certificate(&shop, &agents).await.unwrap();
    let deployments = store.deployments_of(&shop.name).await.unwrap();
    assert_eq!(deployments.len(), 2);
    for (deployment, agent) in deployments.iter().zip(&agents) {
        assert_eq!(deployment.agent, *agent);
        assert_eq!(deployment.held_version, 0);
        assert_eq!(deployment.status, DeploymentStatus::Pending);
        assert_eq!(deployment.updated_at, shop.created_at);
    }
}

async fn a_certificate_s_name_is_unique(world: World) {
    let store = &world.store;
    put_account(store).await;
    let agents = put_agents(store, &["web1"]).await;
    let first = certificate("shop");
    store.insert_certificate(&first, &[]).await.unwrap();
    let other = CertificateRecord { must_staple: false, ..first.clone() };
    let error = refused(ErrorKind::Conflict, store.insert_certificate(&other, &agents).await);
    assert!(error.to_string().contains("certificate shop"), "{error}");
    assert_eq!(store.certificates().await.unwrap(), slice::from_ref(&first));
    assert_eq!(store.deployments_of(&first.name).await.unwrap(), []);
}

async fn what_is_planned_comes_soonest_first_and_with_its_order(world: World) {
    let store = &world.store;
    put_account(store).await;
    let now = start();
    for (name, microseconds) in [("c", -1), ("e", 1), ("a", -3), ("d", 0), ("b", -2)] {
        let renew_at = now + Duration::microseconds(microseconds);
        let due = CertificateRecord { renew_at, ..certificate(name) };
        store.insert_certificate(&due, &[]).await.unwrap();
    }
    let due = async |by: Option<OffsetDateTime>| {
        let due = store.planned(by).await.unwrap();
        due.iter().map(|one| one.certificate.name.to_string()).collect::<String>()
    };
    assert_eq!(due(Some(now)).await, "abcd", "d is due at this very microsecond, e is not");
    assert_eq!(due(Some(now - Duration::seconds(1))).await, "");
    assert_eq!(due(None).await, "abcde");
    for state in OrderState::ALL {
        let due = certificate(&format!("one-{state}"));
        store.insert_certificate(&due, &[]).await.unwrap();
        store.insert_order(&OrderRecord { state: *state, ..order(&due) }).await.unwrap();
        let planned = store.planned(None).await.unwrap();
        let planned = planned.iter().find(|one| one.certificate.name == due.name).unwrap();
        let over = matches!(state, OrderState::Issued | OrderState::Failed);
        assert_eq!(planned.order.map(|(state, _)| state), (!over).then_some(*state));
    }
}

async fn a_certificate_is_made_due_and_nothing_else_of_it_changes(world: World) {
    let store = &world.store;
    put_account(store).await;
    let later = start() + Duration::days(60);
    for (name, status, failed_attempts, wanted) in [
        ("pending", CertificateStatus::Pending, 0, true),
        ("issued", CertificateStatus::Issued, 0, false),
        ("failing", CertificateStatus::Issued, 1, true),
        ("revoked", CertificateStatus::Revoked, 0, true),
    ] {
        let stored =
            CertificateRecord { status, failed_attempts, renew_at: later, ..certificate(name) };
        store.insert_certificate(&stored, &[]).await.unwrap();
        let read = async || store.certificate(&stored.name).await.unwrap().unwrap();
        assert_eq!(store.make_due(&stored.name, start(), false).await.unwrap(), wanted, "{name}");
        let due = CertificateRecord { renew_at: start(), ..stored.clone() };
        assert_eq!(read().await, if wanted { due.clone() } else { stored.clone() });
        assert!(store.make_due(&stored.name, start(), true).await.unwrap(), "{name}");
        assert_eq!(read().await, due);
        // What is due already is not put off.
        assert!(store.make_due(&stored.name, later, true).await.unwrap(), "{name}");
        assert_eq!(read().await, due);
    }
    assert!(!store.make_due(&name("missing"), start(), true).await.unwrap());
}

async fn a_failed_attempt_is_recorded_and_nothing_else_changes(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let retry = start() + Duration::hours(1);
    store.fail_attempt(&shop.name, "away", 7, retry).await.unwrap();
    let failing = CertificateRecord {
        failed_attempts: 7,
        last_error: Some("away".to_owned()),
        renew_at: retry,
        ..shop.clone()
    };
    assert_eq!(store.certificates().await.unwrap(), [failing]);
    assert_eq!(store.open_order(&shop.name).await.unwrap(), Some(order));
    let missing = store.fail_attempt(&name("missing"), "away", 1, retry).await;
    refused(ErrorKind::NotFound, missing);
}

async fn a_certificate_is_forgotten_with_all_that_is_its(world: World) {
    let store = &world.store;
    let (shop, first) = put_order(store).await;
    store.record_issuance(first.id, &version(&first), start()).await.unwrap();
    let second = super::records::order(&CertificateRecord { current_version: 1, ..shop.clone() });
    store.insert_order(&second).await.unwrap();
    store.put_challenges(&[super::records::challenge(&second, "three")]).await.unwrap();
    let other = put_certificates(store, &["other"]).await;
    store.delete_certificate(&shop.name).await.unwrap();
    assert_eq!(store.certificate(&shop.name).await.unwrap(), None);
    assert_eq!(store.versions(&shop.name).await.unwrap(), []);
    assert_eq!(store.order(second.id).await.unwrap(), None);
    assert_eq!(store.open_orders().await.unwrap(), []);
    assert!(store.certificate(&other[0]).await.unwrap().is_some());
    refused(ErrorKind::NotFound, store.delete_certificate(&shop.name).await);
    // Its name is free.
    store.insert_certificate(&shop, &[]).await.unwrap();
}

async fn a_certificate_that_is_deployed_is_not_forgotten(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let agents = put_agents(store, &["web1"]).await;
    store.insert_deployment(&shop.name, &agents[0], start()).await.unwrap();
    let error = refused(ErrorKind::Conflict, store.delete_certificate(&shop.name).await);
    assert!(error.hint.contains("undeploy"), "{error:?}");
    assert_eq!(store.certificate(&shop.name).await.unwrap(), Some(shop.clone()));
    assert_eq!(store.open_order(&shop.name).await.unwrap(), Some(order));
    store.remove_deployment(&shop.name, &agents[0]).await.unwrap();
    store.delete_certificate(&shop.name).await.unwrap();
}

async fn a_certificate_that_cannot_be_forgotten_loses_nothing(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    store.record_issuance(order.id, &version(&order), start()).await.unwrap();
    // Something else refers to it, so that the last of four changes is refused.
    world.sql("CREATE TABLE held (name TEXT NOT NULL REFERENCES certificates (name))").await;
    world.sql("INSERT INTO held SELECT name FROM certificates").await;
    refused(ErrorKind::Conflict, store.delete_certificate(&shop.name).await);
    assert!(store.certificate(&shop.name).await.unwrap().is_some());
    assert_eq!(store.versions(&shop.name).await.unwrap().len(), 1);
    assert!(store.order(order.id).await.unwrap().is_some());
}
