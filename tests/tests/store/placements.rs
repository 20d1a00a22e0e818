//! What counts against what CAs allow outlives what it was for; what decides when certificates are ordered
//! is read at once.

use time::Duration;
use vault::store::{
    Agents as _, Certificates as _, Identifier, MaintenanceWindow, OrderKind, OrderRecord,
    OrderState, PlacementRecord, PlacementState, Placements as _,
};
use vault_proto::ids::OrderId;

use super::{
    records::{agent, name, put_agents, put_certificates, put_order, start, version},
    world::{World, refused},
};

promises! {
    what_was_placed_is_read_as_it_was_and_by_its_last_change
    an_order_s_end_is_its_placement_s
    what_is_asked_for_anew_ends_what_was_not_heard_of
    a_placement_outlives_its_certificate
    what_is_old_is_forgotten
    certificates_are_planned_with_what_is_in_force_and_what_is_open
    an_operator_s_wish_is_kept_until_it_is_fulfilled
    an_agent_s_windows_are_its_certificates_too
}

fn placement(order: &OrderRecord) -> PlacementRecord {
    PlacementRecord {
        id: OrderId::random(),
        order: order.id,
        certificate: order.certificate.clone(),
        account: order.account.clone(),
        directory: "https://ca.example/directory".parse().unwrap(),
        identifiers: vec![
            Identifier::Dns("*.shop.example".to_owned()),
            Identifier::Ip([192, 0, 2, 7].into()),
        ],
        kind: OrderKind::First,
        state: PlacementState::Open,
        refused: Vec::new(),
        closed_until: None,
        placed_at: start(),
        changed_at: start(),
    }
}

async fn what_was_placed_is_read_as_it_was_and_by_its_last_change(world: World) {
    let store = &world.store;
    let (_, order) = put_order(store).await;
    let mut all = Vec::new();
    for (at, state) in (0..).zip(PlacementState::ALL) {
        let placed = PlacementRecord {
            state: *state,
            kind: OrderKind::ALL[at % 3],
            closed_until: (at % 2 == 0).then(|| start() + Duration::hours(1)),
            refused: vec![Identifier::Dns("a.example".to_owned()); at],
            changed_at: start() + Duration::seconds(i64::try_from(at).unwrap()),
            ..placement(&order)
        };
        store.insert_placement(&placed).await.unwrap();
        all.push(placed);
    }
    assert_eq!(store.placements_since(start()).await.unwrap(), all);
    let since = start() + Duration::seconds(2);
    assert_eq!(store.placements_since(since).await.unwrap(), all[2..]);
}

async fn what_is_asked_for_anew_ends_what_was_not_heard_of(world: World) {
    let store = &world.store;
    let (_, order) = put_order(store).await;
    let other = OrderRecord { id: OrderId::random(), ..order.clone() };
    let (first, elsewhere) = (placement(&order), placement(&other));
    store.begin_placement(&first).await.unwrap();
    store.begin_placement(&elsewhere).await.unwrap();
    let later = start() + Duration::minutes(1);
    let again = PlacementRecord { placed_at: later, changed_at: later, ..placement(&order) };
    store.begin_placement(&again).await.unwrap();
    let all = store.placements_since(start()).await.unwrap();
    let ended = PlacementRecord { state: PlacementState::Failed, changed_at: later, ..first };
    for expected in [&ended, &elsewhere, &again] {
        assert!(all.contains(expected), "{expected:?}: {all:?}");
    }
    // Not even what was asked for before counts as ended where the rest cannot be noted.
    assert!(store.begin_placement(&again).await.is_err(), "it is there already");
    assert_eq!(store.placements_since(start()).await.unwrap(), all);
}

async fn an_order_s_end_is_its_placement_s(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let (open, void) = (placement(&order), placement(&order));
    store.insert_placement(&open).await.unwrap();
    store.insert_placement(&void).await.unwrap();
    let later = start() + Duration::minutes(1);
    store.void_placement(void.id, later).await.unwrap();
    store.fail_order(order.id, "no", 1, start(), later).await.unwrap();
    let states = |rows: Vec<PlacementRecord>| {
        let mut states: Vec<_> = rows.into_iter().map(|row| (row.id, row.state)).collect();
        states.sort_by_key(|(_, state)| *state);
        states
    };
    let read = states(store.placements_since(later).await.unwrap());
    assert_eq!(read, [(open.id, PlacementState::Failed), (void.id, PlacementState::Void)]);
    // What has ended does not end again.
    let names = [Identifier::Dns("a.example".to_owned())];
    store.end_placements(order.id, PlacementState::Issued, &names, later).await.unwrap();
    assert_eq!(states(store.placements_since(later).await.unwrap()), read);
    let next = testkit::records::order(&shop);
    store.insert_order(&next).await.unwrap();
    let issued = placement(&next);
    store.insert_placement(&issued).await.unwrap();
    store.record_issuance(next.id, &version(&next), later).await.unwrap();
    let all = store.placements_since(start()).await.unwrap();
    let state = all.iter().find(|row| row.id == issued.id).map(|row| row.state);
    assert_eq!(state, Some(PlacementState::Issued));
}

async fn a_placement_outlives_its_certificate(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let placed = placement(&order);
    store.insert_placement(&placed).await.unwrap();
    store.delete_certificate(&shop.name).await.unwrap();
    let kept = PlacementRecord { state: PlacementState::Issued, ..placed };
    assert_eq!(store.placements_since(start()).await.unwrap(), [kept]);
}

async fn what_is_old_is_forgotten(world: World) {
    let store = &world.store;
    let (_, order) = put_order(store).await;
    let later = start() + Duration::days(8);
    let (old, new) =
        (placement(&order), PlacementRecord { changed_at: later, ..placement(&order) });
    store.insert_placement(&old).await.unwrap();
    store.insert_placement(&new).await.unwrap();
    assert_eq!(store.forget_placements(later).await.unwrap(), 1);
    assert_eq!(store.placements_since(start()).await.unwrap(), [new]);
}

async fn certificates_are_planned_with_what_is_in_force_and_what_is_open(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let later = start() + Duration::days(60);
    let issued = version(&order);
    store.record_issuance(order.id, &issued, later).await.unwrap();
    put_certificates(store, &["other"]).await;
    let due = store.planned(Some(start())).await.unwrap();
    let names: Vec<_> = due.iter().map(|one| one.certificate.name.as_str()).collect();
    assert_eq!(names, ["other"]);
    assert_eq!((&due[0].in_force, due[0].order), (&None, None));
    let all = store.planned(None).await.unwrap();
    assert_eq!(all.len(), 2);
    let planned = all.iter().find(|one| one.certificate.name == shop.name).unwrap();
    let in_force = planned.in_force.as_ref().unwrap();
    assert_eq!((in_force.not_before, in_force.not_after), (issued.not_before, issued.not_after));
    assert_eq!(in_force.directory, store_directory(&world).await);
    for (url, placed) in [(None, false), (order.url.clone(), true)] {
        let next = OrderRecord { url, ..testkit::records::order(&planned.certificate) };
        store.insert_order(&next).await.unwrap();
        let all = store.planned(None).await.unwrap();
        let planned = all.iter().find(|one| one.certificate.name == shop.name).unwrap();
        assert_eq!(planned.order, Some((OrderState::Ready, placed)));
        store.fail_order(next.id, "no", 1, later, later).await.unwrap();
    }
}

async fn store_directory(world: &World) -> url::Url {
    use vault::store::Accounts as _;
    world.store.accounts().await.unwrap().remove(0).directory
}

async fn an_operator_s_wish_is_kept_until_it_is_fulfilled(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let wishes = async || {
        let planned = store.planned(None).await.unwrap().remove(0);
        (planned.requested, planned.asked_anew)
    };
    assert_eq!(wishes().await, (false, false));
    store.make_due(&shop.name, start(), false).await.unwrap();
    assert_eq!(wishes().await, (false, true));
    store.make_due(&shop.name, start(), true).await.unwrap();
    assert_eq!(wishes().await, (true, true));
    // The next attempt is made whatever the CA has said; those after it are not.
    store.fail_attempt(&shop.name, "no", 1, start()).await.unwrap();
    assert_eq!(wishes().await, (true, false));
    store.make_due(&shop.name, start(), false).await.unwrap();
    assert_eq!(wishes().await, (true, true));
    store.record_issuance(order.id, &version(&order), start()).await.unwrap();
    assert_eq!(wishes().await, (false, false));
}

async fn an_agent_s_windows_are_its_certificates_too(world: World) {
    let store = &world.store;
    let (shop, _) = put_order(store).await;
    let agents = put_agents(store, &["web1", "web2"]).await;
    store.insert_deployment(&shop.name, &agents[0], start()).await.unwrap();
    let windows: Vec<MaintenanceWindow> =
        vec!["Sat 02:00-04:00".parse().unwrap(), "daily 01:00-01:30".parse().unwrap()];
    assert_eq!(store.windows_of_agents().await.unwrap(), []);
    store.set_agent_windows(&agents[0], &windows).await.unwrap();
    store.set_agent_windows(&agents[1], &windows).await.unwrap();
    assert_eq!(store.windows_of_agents().await.unwrap(), [(shop.name.clone(), windows.clone())]);
    // Whoever notes something else of the agent does not touch them.
    store.put_agent(&agent("web1")).await.unwrap();
    assert_eq!(store.windows_of_agents().await.unwrap(), [(shop.name.clone(), windows.clone())]);
    store.set_agent_windows(&agents[0], &[]).await.unwrap();
    assert_eq!(store.windows_of_agents().await.unwrap(), []);
    let missing = store.set_agent_windows(&name("missing"), &windows).await;
    refused(vault::error::ErrorKind::NotFound, missing);
}
