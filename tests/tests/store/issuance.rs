//! How an order ends: as a version, or as a failure; and how a version ends.

use time::Duration;
use vault::{
    error::ErrorKind,
    store::{
        CertificateRecord, CertificateStatus, Certificates as _, DeploymentRecord,
        DeploymentStatus, KeyPurpose, KeyRecord, Keys as _, OrderRecord, OrderState, Turn,
        VersionRecord,
    },
};
use vault_proto::ids::{CertificateName, OrderId};

use super::{
    records::{
        certificate, challenge, key, name, order, put_agents, put_certificates, put_order, start,
        version,
    },
    world::{World, refused},
};

promises! {
    an_issuance_is_recorded_whole
    an_issuance_that_cannot_be_recorded_changes_nothing
    a_new_version_is_awaited_where_the_last_was_refused
    versions_come_newest_first
    a_failed_order_ends_and_its_certificate_knows_why_and_until_when
    a_failure_that_cannot_be_recorded_changes_nothing
    a_revoked_version_revokes_its_certificate_while_it_is_in_force
    a_revocation_that_cannot_be_recorded_changes_nothing
}

/// Everything that an issuance may change.
async fn everything(
    world: &World,
    certificate: &CertificateRecord,
    order: &OrderRecord,
) -> impl PartialEq + std::fmt::Debug + use<> {
    let store = &world.store;
    (
        store.certificate(&certificate.name).await.unwrap(),
        store.versions(&certificate.name).await.unwrap(),
        store.order(order.id).await.unwrap(),
        store.challenges_of(order.id).await.unwrap(),
    )
}

/// [`put_order`] on an agent, which shows the challenges.
async fn put_deployed_order(world: &World) -> (CertificateRecord, OrderRecord) {
    let (shop, order) = put_order(&world.store).await;
    let agents = put_agents(&world.store, &["web1"]).await;
    world.store.insert_deployment(&shop.name, &agents[0], start()).await.unwrap();
    (shop, order)
}

async fn an_issuance_is_recorded_whole(world: World) {
    let store = &world.store;
    let (shop, order) = put_deployed_order(&world).await;
    let key = KeyRecord { purpose: KeyPurpose::Certificate, ..key("shop") };
    store.insert_key(&key, None).await.unwrap();
    world
        .sql("UPDATE certificates SET failed_attempts = 3, last_error = 'x', status = 'revoked'")
        .await;
    let version = VersionRecord { key_id: Some(key.id), ..version(&order) };
    let renew_at = start() + Duration::days(60);
    store.record_issuance(order.id, &version, renew_at).await.unwrap();

    assert_eq!(store.version(&shop.name, 1).await.unwrap().as_ref(), Some(&version));
    assert_eq!(store.version(&shop.name, 2).await.unwrap(), None);
    let issued = CertificateRecord {
        status: CertificateStatus::Issued,
        current_version: 1,
        key_id: Some(key.id),
        renew_at,
        // Its own account's turn is next.
        turn: Turn::default(),
        ..shop.clone()
    };
    assert_eq!(store.certificate(&shop.name).await.unwrap(), Some(issued));
    let ended =
        OrderRecord { state: OrderState::Issued, updated_at: version.issued_at, ..order.clone() };
    assert_eq!(store.order(order.id).await.unwrap(), Some(ended));
    assert_eq!(store.open_order(&shop.name).await.unwrap(), None);
    // Not only hidden behind the order's end, but gone: it is open again.
    store.update_order(&order).await.unwrap();
    assert_eq!(store.challenges_of(order.id).await.unwrap(), []);
}

async fn an_issuance_that_cannot_be_recorded_changes_nothing(world: World) {
    let store = &world.store;
    let (shop, order) = put_deployed_order(&world).await;
    let before = everything(&world, &shop, &order).await;
    let version = version(&order);
    // The order is not there: it is the last of the changes.
    let unknown = store.record_issuance(OrderId::random(), &version, start()).await;
    refused(ErrorKind::NotFound, unknown);
    assert_eq!(everything(&world, &shop, &order).await, before);
    // The certificate is not.
    let foreign = VersionRecord { certificate: name("other"), ..version.clone() };
    refused(ErrorKind::Conflict, store.record_issuance(order.id, &foreign, start()).await);
    // The key is not.
    let keyless = VersionRecord { key_id: Some(key("no").id), ..version.clone() };
    refused(ErrorKind::Conflict, store.record_issuance(order.id, &keyless, start()).await);
    assert_eq!(everything(&world, &shop, &order).await, before);

    store.record_issuance(order.id, &version, start()).await.unwrap();
    // The version is there already.
    let second = super::records::order(&shop);
    store.insert_order(&second).await.unwrap();
    store.put_challenges(&[challenge(&second, "three")]).await.unwrap();
    let before = everything(&world, &shop, &second).await;
    let again = VersionRecord { serial: "ff".to_owned(), ..version };
    refused(ErrorKind::Conflict, store.record_issuance(second.id, &again, start()).await);
    assert_eq!(everything(&world, &shop, &second).await, before);
}

async fn a_new_version_is_awaited_where_the_last_was_refused(world: World) {
    let store = &world.store;
    let (shop, order) = put_deployed_order(&world).await;
    put_certificates(store, &["other"]).await;
    let agents = put_agents(store, &["serving", "refused", "elsewhere"]).await;
    let put = async |certificate: &CertificateName, agent: usize, status: DeploymentStatus| {
        let deployment = DeploymentRecord {
            certificate: certificate.clone(),
            agent: agents[agent].clone(),
            held_version: 1,
            status,
            detail: "said".to_owned(),
            updated_at: start(),
        };
        store.insert_deployment(certificate, &agents[agent], start()).await.unwrap();
        store.update_deployment(&deployment).await.unwrap();
        deployment
    };
    let serving = put(&shop.name, 0, DeploymentStatus::Serving).await;
    let refused = put(&shop.name, 1, DeploymentStatus::Failed).await;
    let elsewhere = put(&name("other"), 2, DeploymentStatus::Failed).await;
    let version = version(&order);
    store.record_issuance(order.id, &version, start()).await.unwrap();
    let on = async |agent: usize| store.deployments_on(&agents[agent]).await.unwrap();
    assert_eq!(on(0).await, [serving]);
    let awaited = DeploymentRecord {
        status: DeploymentStatus::Pending,
        detail: String::new(),
        updated_at: version.issued_at,
        ..refused
    };
    assert_eq!(on(1).await, [awaited]);
    assert_eq!(on(2).await, [elsewhere]);
}

async fn versions_come_newest_first(world: World) {
    let store = &world.store;
    let (shop, first) = put_deployed_order(&world).await;
    store.record_issuance(first.id, &version(&first), start()).await.unwrap();
    for number in 2..=11 {
        let next = OrderRecord { version: number, ..order(&shop) };
        store.insert_order(&next).await.unwrap();
        store.record_issuance(next.id, &version(&next), start()).await.unwrap();
        let now = store.certificate(&shop.name).await.unwrap().unwrap();
        assert_eq!(now.current_version, number);
    }
    let versions = store.versions(&shop.name).await.unwrap();
    let numbers: Vec<_> = versions.iter().map(|version| version.version).collect();
    assert_eq!(numbers, (1..=11).rev().collect::<Vec<_>>());
    assert_eq!(store.versions(&name("other")).await.unwrap(), []);
}

async fn a_failed_order_ends_and_its_certificate_knows_why_and_until_when(world: World) {
    let store = &world.store;
    let (shop, order) = put_deployed_order(&world).await;
    put_certificates(store, &["other"]).await;
    let (now, retry) = (start() + Duration::minutes(1), start() + Duration::hours(1));
    store.fail_order(order.id, "the CA said no", 4, retry, now).await.unwrap();
    let ended = OrderRecord {
        state: OrderState::Failed,
        error: Some("the CA said no".to_owned()),
        updated_at: now,
        ..order.clone()
    };
    assert_eq!(store.order(order.id).await.unwrap(), Some(ended));
    let failing = CertificateRecord {
        failed_attempts: 4,
        last_error: Some("the CA said no".to_owned()),
        renew_at: retry,
        ..shop.clone()
    };
    assert_eq!(store.certificate(&shop.name).await.unwrap(), Some(failing));
    let other = store.certificate(&name("other")).await.unwrap();
    assert_eq!(other, Some(certificate("other")));
    store.update_order(&order).await.unwrap();
    assert_eq!(store.challenges_of(order.id).await.unwrap(), []);
    // The next attempt is another order.
    store.fail_order(order.id, "again", 5, retry, now).await.unwrap();
    store.insert_order(&super::records::order(&shop)).await.unwrap();
}

async fn a_failure_that_cannot_be_recorded_changes_nothing(world: World) {
    let store = &world.store;
    let (shop, order) = put_deployed_order(&world).await;
    let other = CertificateRecord { last_error: Some("no".to_owned()), ..certificate("other") };
    store.insert_certificate(&other, &[]).await.unwrap();
    // The certificate's change, which is the last, is refused.
    world.sql("CREATE UNIQUE INDEX once ON certificates (last_error)").await;
    let before = everything(&world, &shop, &order).await;
    let failed = store.fail_order(order.id, "no", 1, start(), start()).await;
    refused(ErrorKind::Conflict, failed);
    let unknown = store.fail_order(OrderId::random(), "x", 1, start(), start()).await;
    refused(ErrorKind::NotFound, unknown);
    assert_eq!(everything(&world, &shop, &order).await, before);
}

async fn a_revoked_version_revokes_its_certificate_while_it_is_in_force(world: World) {
    let store = &world.store;
    let (shop, first) = put_deployed_order(&world).await;
    store.record_issuance(first.id, &version(&first), start()).await.unwrap();
    let second = OrderRecord { version: 2, ..order(&shop) };
    store.insert_order(&second).await.unwrap();
    store.record_issuance(second.id, &version(&second), start()).await.unwrap();
    let status = async || store.certificate(&shop.name).await.unwrap().unwrap().status;
    let reason =
        async |version: u64| store.version(&shop.name, version).await.unwrap().unwrap().revoked;
    let later = start() + time::Duration::days(1);
    let due = async || store.certificate(&shop.name).await.unwrap().unwrap().renew_at;
    store.revoke_version(&shop.name, 1, "superseded", Some(later)).await.unwrap();
    assert_eq!((status().await, due().await), (CertificateStatus::Issued, start()));
    assert_eq!((reason(1).await, reason(2).await), (Some("superseded".into()), None));
    store.revoke_version(&shop.name, 2, "key-compromise", Some(later)).await.unwrap();
    assert_eq!((status().await, due().await), (CertificateStatus::Revoked, later));
    assert_eq!(reason(2).await, Some("key-compromise".into()));
    refused(ErrorKind::NotFound, store.revoke_version(&shop.name, 3, "superseded", None).await);
    refused(ErrorKind::NotFound, store.revoke_version(&name("other"), 1, "superseded", None).await);
}

async fn a_revocation_that_cannot_be_recorded_changes_nothing(world: World) {
    let store = &world.store;
    let (shop, order) = put_deployed_order(&world).await;
    store.record_issuance(order.id, &version(&order), start()).await.unwrap();
    let revoked = CertificateRecord { status: CertificateStatus::Revoked, ..certificate("other") };
    store.insert_certificate(&revoked, &[]).await.unwrap();
    // The certificate's change, which is the last, is refused.
    world.sql("CREATE UNIQUE INDEX once ON certificates (status)").await;
    let before = everything(&world, &shop, &order).await;
    refused(ErrorKind::Conflict, store.revoke_version(&shop.name, 1, "superseded", None).await);
    assert_eq!(everything(&world, &shop, &order).await, before);
}
