//! Many writers at once, in one vault and in two on the same database.

use time::Duration;
use vault::{
    error::ErrorKind,
    store::{
        Agents as _, Certificates as _, KeyRecord, KeyState, Keys as _, Settings as _,
        sql::SqlStore,
    },
};

use super::{
    records::{agent, certificate, key, order, put_account, put_certificates, start},
    world::World,
};

promises! {
    writers_wait_for_each_other_and_none_fails
    of_writers_of_one_name_exactly_one_wins
    of_two_rotations_at_once_exactly_one_happens
    of_two_orders_at_once_exactly_one_is_opened
}

/// How many tasks write at once: as many as there are connections.
const WRITERS: usize = 8;
/// How often each of them does.
const ROUNDS: u32 = 10;

/// Two stores on one database, for tasks to take turns with.
async fn two(world: &World) -> [SqlStore; 2] {
    [world.store.clone(), world.open().await.unwrap()]
}

async fn writers_wait_for_each_other_and_none_fails(world: World) {
    let stores = two(&world).await;
    put_account(&world.store).await;
    let write = |number: usize| {
        let store = stores[number % 2].clone();
        tokio::spawn(async move {
            let mine = format!("writer-{number}");
            let certificate = certificate(&mine);
            let mut newest = None;
            for version in 1..=ROUNDS {
                // Transactions that write only, one that reads before it writes, a statement alone.
                store.put_settings(&[(&mine, "x"), ("shared", &mine)]).await?;
                let next = KeyRecord { version, ..key(&mine) };
                store.insert_key(&next, newest.replace(next.id)).await?;
                store.insert_certificate(&certificate, &[]).await?;
                store.delete_certificate(&certificate.name).await?;
                store.put_agent(&agent("shared")).await?;
            }
            Ok::<_, vault::error::Error>(())
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(write).collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(world.store.certificates().await.unwrap(), []);
    let mut keys = world.store.keys().await.unwrap();
    keys.retain(|key| key.name.starts_with("writer"));
    assert_eq!(keys.len(), WRITERS * ROUNDS as usize);
    let active = keys.iter().filter(|key| key.state == KeyState::Active).count();
    assert_eq!(active, WRITERS);
}

/// Runs one call in each of [`WRITERS`] tasks; one must win and the others be refused as `kind`.
async fn one_wins<F>(kinds: &[ErrorKind], call: impl Fn(usize) -> F)
where
    F: Future<Output = vault::error::Result<()>> + Send + 'static,
{
    let calls: Vec<_> = (0..WRITERS).map(|number| tokio::spawn(call(number))).collect();
    let mut won = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(kinds.contains(&error.kind), "{error}"),
        }
    }
    assert_eq!(won, 1);
}

async fn of_writers_of_one_name_exactly_one_wins(world: World) {
    let stores = two(&world).await;
    for round in 0..5 {
        one_wins(&[ErrorKind::Conflict], |number| {
            let store = stores[number % 2].clone();
            async move { store.insert_key(&key(&format!("round-{round}")), None).await }
        })
        .await;
    }
    assert_eq!(world.store.keys().await.unwrap().len(), 5);
}

async fn of_two_rotations_at_once_exactly_one_happens(world: World) {
    let stores = two(&world).await;
    let first = key("k");
    world.store.insert_key(&first, None).await.unwrap();
    // The losers find the old version retired, or the new one there.
    one_wins(&[ErrorKind::Conflict, ErrorKind::NotFound], |number| {
        let (store, old) = (stores[number % 2].clone(), first.id);
        async move { store.insert_key(&KeyRecord { version: 2, ..key("k") }, Some(old)).await }
    })
    .await;
    let states: Vec<_> = world.store.keys().await.unwrap().iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Retired, KeyState::Active]);
}

async fn of_two_orders_at_once_exactly_one_is_opened(world: World) {
    let stores = two(&world).await;
    put_account(&world.store).await;
    let names = put_certificates(&world.store, &["shop"]).await;
    let shop = world.store.certificate(&names[0]).await.unwrap().unwrap();
    for round in 0..5 {
        let shop = shop.clone();
        one_wins(&[ErrorKind::Conflict], |number| {
            let (store, order) = (stores[number % 2].clone(), order(&shop));
            async move { store.insert_order(&order).await }
        })
        .await;
        let open = world.store.open_order(&names[0]).await.unwrap().unwrap();
        let (now, retry) = (start(), start() + Duration::hours(1));
        world.store.fail_order(open.id, "next", round, retry, now).await.unwrap();
    }
}
