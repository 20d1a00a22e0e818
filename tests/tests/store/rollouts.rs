//! Rollouts: begun with the version, moved on by one at a time.

use std::collections::BTreeMap;

use time::Duration;
use vault::store::{
    AgentViews as _, CertificateViews as _, Certificates as _, DeploymentRecord, DeploymentStatus,
    OrderRecord, RolloutRecord, RolloutState, Rollouts as _, sql::SqlStore,
};
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    records::{name, order, put_account, put_agents, put_certificates, start, version},
    world::World,
};

promises! {
    a_rollout_begins_with_a_version_that_replaces_another_on_several_agents
    a_rollout_that_came_to_nothing_leaves_what_was_kept_to_the_next
    of_two_steps_from_the_same_place_exactly_one_is_taken
    a_canary_is_one_of_the_agents_and_goes_with_its_deployment
}

/// Issues the next version of `shop`.
async fn issue(store: &SqlStore) -> u64 {
    let shop = store.certificate(&name("shop")).await.unwrap().unwrap();
    let order = OrderRecord { url: None, ..order(&shop) };
    store.insert_order(&order).await.unwrap();
    let issued = version(&order);
    store.record_issuance(order.id, &issued, start()).await.unwrap();
    issued.version
}

/// `shop`, which goes to so many of `web1`, `web2` and `web3`.
async fn put_shop(store: &SqlStore, agents: usize) -> (CertificateName, Vec<AgentName>) {
    put_account(store).await;
    let shop = put_certificates(store, &["shop"]).await.remove(0);
    let all = put_agents(store, &["web1", "web2", "web3"]).await;
    for agent in &all[..agents] {
        store.insert_deployment(&shop, agent, start()).await.unwrap();
    }
    (shop, all)
}

async fn hold(store: &SqlStore, agent: &AgentName, version: u64) {
    let held = DeploymentRecord {
        certificate: name("shop"),
        agent: agent.clone(),
        held_version: version,
        status: DeploymentStatus::Serving,
        detail: String::new(),
        updated_at: start(),
    };
    store.update_deployment(&held).await.unwrap();
}

/// What a rollout has each of `web1`, `web2` and `web3` sent.
async fn wanted(store: &SqlStore) -> Vec<Option<u64>> {
    let shown = store.certificate_view(&name("shop")).await.unwrap().unwrap();
    let (rolled_out, current) = (shown.rolled_out, shown.certificate.current_version);
    let mut all = Vec::new();
    for agent in ["web1", "web2", "web3"] {
        let sent = rolled_out.as_ref().map(|sent| sent.wanted_version(&name(agent)));
        // What is read for one of them, where the certificate goes there, says the same.
        if let Some(view) = store.agent_view(&name("shop"), &name(agent)).await.unwrap() {
            assert_eq!(view.wanted_version, sent.unwrap_or(current));
            assert_eq!(view.deployment.agent, name(agent));
        }
        all.push(sent);
    }
    all
}

/// Moves the rollout of `shop` on.
async fn step(store: &SqlStore, state: RolloutState, wanted: &[(&str, u64)]) -> RolloutRecord {
    let from = store.rollout(&name("shop")).await.unwrap().unwrap();
    let to = RolloutRecord { state, ..from.clone() };
    let wanted = wanted.iter().map(|(agent, version)| (name(agent), *version)).collect();
    assert!(store.move_rollout(&from, &to, &wanted).await.unwrap());
    store.rollout(&name("shop")).await.unwrap().unwrap()
}

async fn a_rollout_begins_with_a_version_that_replaces_another_on_several_agents(world: World) {
    let store = &world.store;
    let (shop, agents) = put_shop(store, 1).await;
    issue(store).await;
    assert_eq!(store.rollout(&shop).await.unwrap(), None, "a first version");
    issue(store).await;
    assert_eq!(store.rollout(&shop).await.unwrap(), None, "a single agent");
    assert_eq!(wanted(store).await, [None; 3]);
    for agent in &agents[1..] {
        store.insert_deployment(&shop, agent, start()).await.unwrap();
    }
    assert_eq!(issue(store).await, 3);
    let begun = RolloutRecord {
        certificate: shop.clone(),
        version: 3,
        base: 2,
        canary: None,
        state: RolloutState::Running,
        since: start() + Duration::minutes(1),
        detail: String::new(),
        revision: 1,
    };
    assert_eq!(store.rollout(&shop).await.unwrap().as_ref(), Some(&begun));
    assert_eq!(store.unfinished_rollouts().await.unwrap(), [begun]);
    assert_eq!(wanted(store).await, [Some(2); 3]);
    for state in [RolloutState::Proven, RolloutState::Released, RolloutState::Done] {
        step(store, state, &[]).await;
        assert_eq!(wanted(store).await, [Some(3); 3], "{state}");
    }
    assert_eq!(store.unfinished_rollouts().await.unwrap(), []);
    for agent in &agents {
        store.remove_deployment(&shop, agent).await.unwrap();
    }
    store.delete_certificate(&shop).await.unwrap();
    assert_eq!(store.rollout(&shop).await.unwrap(), None);
}

async fn a_rollout_that_came_to_nothing_leaves_what_was_kept_to_the_next(world: World) {
    let store = &world.store;
    let (shop, agents) = put_shop(store, 3).await;
    issue(store).await;
    issue(store).await;
    hold(store, &agents[0], 2).await;
    step(store, RolloutState::Stopped, &[("web1", 2), ("web2", 1), ("web3", 1)]).await;
    assert_eq!(wanted(store).await, [Some(2), Some(1), Some(1)]);
    issue(store).await;
    let next = store.rollout(&shop).await.unwrap().unwrap();
    assert_eq!((next.version, next.base, next.state), (3, 1, RolloutState::Running));
    assert_eq!(next.revision, 3, "no step of the one before counts in this one");
    assert_eq!(wanted(store).await, [Some(2), Some(1), Some(1)], "what was proven stays");
    step(store, RolloutState::Done, &[]).await;
    issue(store).await;
    assert_eq!(store.rollout(&shop).await.unwrap().unwrap().base, 3);
}

async fn of_two_steps_from_the_same_place_exactly_one_is_taken(world: World) {
    let (store, other) = (&world.store, world.open().await.unwrap());
    let (shop, agents) = put_shop(store, 2).await;
    issue(store).await;
    issue(store).await;
    let from = store.rollout(&shop).await.unwrap().unwrap();
    let to = |agent: usize| RolloutRecord { canary: Some(agents[agent].clone()), ..from.clone() };
    let wanted = |agent: usize| BTreeMap::from([(agents[agent].clone(), 2)]);
    let ((first, first_wanted), (second, second_wanted)) = ((to(0), wanted(0)), (to(1), wanted(1)));
    let (one, two) = tokio::join!(
        store.move_rollout(&from, &first, &first_wanted),
        other.move_rollout(&from, &second, &second_wanted),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one, two);
    let winner = if one { 0 } else { 1 };
    let now = store.rollout(&shop).await.unwrap().unwrap();
    assert_eq!(now, RolloutRecord { revision: from.revision + 1, ..to(winner) });
    let sent = self::wanted(store).await;
    assert_eq!(sent[winner], Some(2));
    assert_eq!(sent[1 - winner], Some(1));
}

async fn a_canary_is_one_of_the_agents_and_goes_with_its_deployment(world: World) {
    let store = &world.store;
    let (shop, agents) = put_shop(store, 2).await;
    assert_eq!(store.canary(&shop).await.unwrap(), None);
    assert!(!store.set_canary(&shop, Some(&agents[2])).await.unwrap());
    assert_eq!(store.canary(&shop).await.unwrap(), None);
    for agent in &agents[..2] {
        assert!(store.set_canary(&shop, Some(agent)).await.unwrap());
        assert_eq!(store.canary(&shop).await.unwrap().as_ref(), Some(agent));
    }
    store.remove_deployment(&shop, &agents[0]).await.unwrap();
    assert_eq!(store.canary(&shop).await.unwrap().as_ref(), Some(&agents[1]));
    store.remove_deployment(&shop, &agents[1]).await.unwrap();
    assert_eq!(store.canary(&shop).await.unwrap(), None);
    assert!(store.set_canary(&shop, None).await.unwrap());
}
