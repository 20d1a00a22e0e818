//! Orders and their challenges.

use time::Duration;
use vault::{
    error::ErrorKind,
    store::{
        CertificateRecord, Certificates as _, ChallengeKind, ChallengeRecord, Identifier,
        OrderRecord, OrderState,
    },
};
use vault_proto::ids::OrderId;

use super::{
    records::{
        certificate, challenge, name, order, put_account, put_certificates, put_order, start,
    },
    world::{World, refused},
};

promises! {
    an_order_reads_back_as_it_was_written_and_as_it_was_moved_on
    an_order_is_found_by_the_url_that_its_ca_gave_it
    a_certificate_has_one_open_order_at_most
    an_order_needs_its_certificate_and_account
    open_orders_come_oldest_first
    the_orders_of_an_account_come_newest_first
    challenges_are_put_together_or_not_at_all
    a_known_token_is_replaced
    an_order_s_challenges_are_its_own
}

async fn an_order_reads_back_as_it_was_written_and_as_it_was_moved_on(world: World) {
    let store = &world.store;
    let (shop, first) = put_order(store).await;
    assert_eq!(store.order(first.id).await.unwrap().as_ref(), Some(&first));
    for (minutes, state) in (1..).zip(OrderState::ALL) {
        let moved = OrderRecord {
            state: *state,
            url: None,
            csr_der: None,
            error: Some(format!("was {state}")),
            updated_at: start() + Duration::minutes(minutes),
            ..first.clone()
        };
        store.update_order(&moved).await.unwrap();
        assert_eq!(store.order(first.id).await.unwrap().as_ref(), Some(&moved));
        let open = !matches!(state, OrderState::Issued | OrderState::Failed);
        let found = store.open_order(&shop.name).await.unwrap();
        assert_eq!(found, open.then_some(moved), "{state}");
    }
    let missing = order(&shop);
    refused(ErrorKind::NotFound, store.update_order(&missing).await);
    assert_eq!(store.order(missing.id).await.unwrap(), None);
}

async fn an_order_is_found_by_the_url_that_its_ca_gave_it(world: World) {
    let store = &world.store;
    let (_, first) = put_order(store).await;
    let url = "https://ca.example/order/by-url".parse().unwrap();
    assert_eq!(store.order_by_url(&url).await.unwrap(), None);
    // Whatever became of it.
    for state in OrderState::ALL {
        let placed = OrderRecord { url: Some(url.clone()), state: *state, ..first.clone() };
        store.update_order(&placed).await.unwrap();
        assert_eq!(store.order_by_url(&url).await.unwrap(), Some(placed));
    }
    let other = "https://ca.example/order/by-url2".parse().unwrap();
    assert_eq!(store.order_by_url(&other).await.unwrap(), None);
}

async fn a_certificate_has_one_open_order_at_most(world: World) {
    let store = &world.store;
    let (shop, first) = put_order(store).await;
    for state in [OrderState::AwaitingCsr, OrderState::Ready, OrderState::Finalizing] {
        store.update_order(&OrderRecord { state, ..first.clone() }).await.unwrap();
        let second = store.insert_order(&order(&shop)).await;
        let error = refused(ErrorKind::Conflict, second);
        assert!(error.to_string().contains("certificate shop"), "{error}");
    }
    assert_eq!(store.open_orders().await.unwrap().len(), 1);
    for state in [OrderState::Issued, OrderState::Failed] {
        let ended = OrderRecord { id: OrderId::random(), state, ..first.clone() };
        store.insert_order(&ended).await.unwrap();
        // What has ended does not come back beside the open one.
        let reopened = OrderRecord { state: OrderState::Ready, ..ended };
        refused(ErrorKind::Conflict, store.update_order(&reopened).await);
    }
    refused(ErrorKind::Conflict, store.insert_order(&first).await);
    let ended = OrderRecord { state: OrderState::Failed, ..first };
    store.update_order(&ended).await.unwrap();
    store.insert_order(&order(&shop)).await.unwrap();
}

async fn an_order_needs_its_certificate_and_account(world: World) {
    let store = &world.store;
    put_account(store).await;
    let shop = certificate("shop");
    refused(ErrorKind::Conflict, store.insert_order(&order(&shop)).await);
    store.insert_certificate(&shop, &[]).await.unwrap();
    let foreign = CertificateRecord { account: name("other"), ..shop.clone() };
    refused(ErrorKind::Conflict, store.insert_order(&order(&foreign)).await);
    assert_eq!(store.open_orders().await.unwrap(), []);
    assert_eq!(store.open_order(&name("none")).await.unwrap(), None);
}

async fn open_orders_come_oldest_first(world: World) {
    let store = &world.store;
    put_account(store).await;
    put_certificates(store, &["a", "b", "c", "d"]).await;
    let begun = [("c", 3, OrderState::Ready), ("a", 1, OrderState::Finalizing)];
    let begun =
        begun.into_iter().chain([("d", 0, OrderState::Failed), ("b", 2, OrderState::AwaitingCsr)]);
    for (name, microseconds, state) in begun {
        let created_at = start() + Duration::microseconds(microseconds);
        let order = OrderRecord { created_at, state, ..order(&certificate(name)) };
        store.insert_order(&order).await.unwrap();
    }
    let open = store.open_orders().await.unwrap();
    let open: String = open.iter().map(|order| order.certificate.to_string()).collect();
    assert_eq!(open, "abc");
}

async fn the_orders_of_an_account_come_newest_first(world: World) {
    let store = &world.store;
    put_account(store).await;
    put_certificates(store, &["a", "b", "c"]).await;
    let url = |name: &str| format!("https://ca.example/order/{name}").parse().ok();
    for (name, minutes, url) in [("a", 1, url("a")), ("b", 3, None), ("c", 2, url("c"))] {
        let created_at = start() + Duration::minutes(minutes);
        let order = OrderRecord { created_at, url, ..order(&certificate(name)) };
        store.insert_order(&order).await.unwrap();
    }
    let found = async |account: &str, limit| -> String {
        let found = store.orders_with(&name(account), limit).await.unwrap();
        found.iter().map(|order| order.certificate.to_string()).collect()
    };
    assert_eq!(found("ca", 10).await, "ca", "what the CA does not know is not there");
    assert_eq!(found("ca", 1).await, "c");
    assert_eq!(found("other", 10).await, "");
}

async fn challenges_are_put_together_or_not_at_all(world: World) {
    let store = &world.store;
    let (_, order) = put_order(store).await;
    let before = store.challenges_of(order.id).await.unwrap();
    assert_eq!(before, [challenge(&order, "one"), challenge(&order, "two")]);
    let unknown = ChallengeRecord { order_id: OrderId::random(), ..challenge(&order, "four") };
    let put = store.put_challenges(&[challenge(&order, "three"), unknown]).await;
    refused(ErrorKind::Conflict, put);
    assert_eq!(store.challenges_of(order.id).await.unwrap(), before);
    store.remove_challenges(order.id).await.unwrap();
    assert_eq!(store.challenges_of(order.id).await.unwrap(), []);
    store.remove_challenges(order.id).await.unwrap();
}

async fn a_known_token_is_replaced(world: World) {
    let store = &world.store;
    let (_, order) = put_order(store).await;
    let replaced = ChallengeRecord {
        kind: ChallengeKind::TlsAlpn01,
        identifier: Identifier::Ip([192, 0, 2, 1].into()),
        key_authorization: "one.other".to_owned(),
        ..challenge(&order, "one")
    };
    store.put_challenges(std::slice::from_ref(&replaced)).await.unwrap();
    let after = store.challenges_of(order.id).await.unwrap();
    assert_eq!(after, [replaced, challenge(&order, "two")]);
}

async fn an_order_s_challenges_are_its_own(world: World) {
    let store = &world.store;
    let (_, shop_order) = put_order(store).await;
    put_certificates(store, &["mail"]).await;
    let mail_order = order(&certificate("mail"));
    store.insert_order(&mail_order).await.unwrap();
    store.put_challenges(&[challenge(&mail_order, "mail")]).await.unwrap();
    let tokens = async |order: &OrderRecord| {
        let seen = store.challenges_of(order.id).await.unwrap();
        seen.into_iter().map(|challenge| challenge.token).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&shop_order).await, ["one", "two"]);
    assert_eq!(tokens(&mail_order).await, ["mail"]);
    store.remove_challenges(shop_order.id).await.unwrap();
    assert_eq!(tokens(&shop_order).await, [""; 0]);
    assert_eq!(tokens(&mail_order).await, ["mail"]);
}
