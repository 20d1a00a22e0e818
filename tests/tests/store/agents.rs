//! Agents, join tokens, identities and settings.

use std::slice;

use time::Duration;
use vault::{
    error::ErrorKind,
    store::{AgentRecord, AgentSeen, AgentStatus, Agents as _, IdentityRecord, Settings as _},
};

use super::{
    records::{agent, name, put_agents, start},
    world::{World, refused},
};

promises! {
    an_agent_reads_back_as_it_was_put_and_keeps_its_first_day
    a_note_of_an_agent_is_taken_while_it_is_active_and_changes_nothing_else
    of_two_that_redeem_a_join_token_at_once_exactly_one_gets_in
    a_join_token_that_is_unknown_used_or_expired_is_refused_in_the_same_words
    a_join_token_is_for_an_agent_that_is_known
    an_eviction_ends_every_right_at_once
    an_eviction_that_fails_ends_nothing
    an_identity_is_registered_once
    settings_are_put_together_or_not_at_all
}

async fn an_agent_reads_back_as_it_was_put_and_keeps_its_first_day(world: World) {
    let store = &world.store;
    let first = agent("web1");
    store.put_agent(&first).await.unwrap();
    assert_eq!(store.agent(&first.name).await.unwrap().as_ref(), Some(&first));
    for status in AgentStatus::ALL {
        let later = AgentRecord {
            name: first.name.clone(),
            status: *status,
            identity_not_after: None,
            last_seen_at: Some(start() + Duration::seconds(1)),
            software_version: String::new(),
            created_at: first.created_at + Duration::days(1),
        };
        store.put_agent(&later).await.unwrap();
        let kept = AgentRecord { created_at: first.created_at, ..later };
        assert_eq!(store.agents().await.unwrap(), [kept]);
    }
    assert_eq!(store.agent(&name("web2")).await.unwrap(), None);
}

async fn a_note_of_an_agent_is_taken_while_it_is_active_and_changes_nothing_else(world: World) {
    let store = &world.store;
    let first = agent("web1");
    store.put_agent(&first).await.unwrap();
    let at = start() + Duration::hours(1);
    let seen = AgentSeen { at, software_version: None, identity_not_after: None };
    assert!(store.note_agent(&first.name, &seen).await.unwrap());
    let heard = AgentRecord { last_seen_at: Some(at), ..first.clone() };
    assert_eq!(store.agents().await.unwrap(), slice::from_ref(&heard));
    let renewed = AgentSeen {
        at,
        software_version: Some("9".to_owned()),
        identity_not_after: Some(at + Duration::days(30)),
    };
    for status in AgentStatus::ALL {
        let stored = AgentRecord { status: *status, ..heard.clone() };
        store.put_agent(&stored).await.unwrap();
        let taken = store.note_agent(&first.name, &renewed).await.unwrap();
        assert_eq!(taken, *status == AgentStatus::Active, "{status}");
        let noted = AgentRecord {
            software_version: "9".to_owned(),
            identity_not_after: renewed.identity_not_after,
            ..stored.clone()
        };
        assert_eq!(store.agents().await.unwrap(), [if taken { noted } else { stored }]);
    }
    assert!(!store.note_agent(&name("missing"), &seen).await.unwrap());
}

async fn of_two_that_redeem_a_join_token_at_once_exactly_one_gets_in(world: World) {
    let (one, other) = (world.store.clone(), world.open().await.unwrap());
    let agents = put_agents(&one, &["web1"]).await;
    for round in 0..20u8 {
        let hash = [round; 32];
        one.insert_join_token(&hash, &agents[0], start() + Duration::hours(1)).await.unwrap();
        let redeem = |store: &vault::store::sql::SqlStore| {
            let store = store.clone();
            tokio::spawn(async move { store.redeem_join_token(&hash, start()).await })
        };
        let calls = [redeem(&one), redeem(&other), redeem(&one), redeem(&other)];
        let mut let_in = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(agent) => {
                    assert_eq!(agent, agents[0]);
                    let_in += 1;
                }
                Err(error) => assert_eq!(error.kind, ErrorKind::Denied, "{error}"),
            }
        }
        assert_eq!(let_in, 1, "round {round}");
    }
}

async fn a_join_token_that_is_unknown_used_or_expired_is_refused_in_the_same_words(world: World) {
    let store = &world.store;
    let agents = put_agents(store, &["web1"]).await;
    let end = start() + Duration::hours(1);
    for hash in [[1; 32], [2; 32], [3; 32]] {
        store.insert_join_token(&hash, &agents[0], end).await.unwrap();
    }
    let just_in_time = end - Duration::microseconds(1);
    assert_eq!(store.redeem_join_token(&[1; 32], just_in_time).await.unwrap(), agents[0]);
    let used = refused(ErrorKind::Denied, store.redeem_join_token(&[1; 32], start()).await);
    let expired = refused(ErrorKind::Denied, store.redeem_join_token(&[2; 32], end).await);
    let unknown = refused(ErrorKind::Denied, store.redeem_join_token(&[9; 32], start()).await);
    let nothing = refused(ErrorKind::Denied, store.redeem_join_token(&[], start()).await);
    for error in [&expired, &unknown, &nothing] {
        assert_eq!(error.to_string(), used.to_string());
        assert_eq!(error.hint, used.hint);
    }
    // Whoever came too late once has used the token up.
    refused(ErrorKind::Denied, store.redeem_join_token(&[2; 32], start()).await);
    assert_eq!(store.redeem_join_token(&[3; 32], start()).await.unwrap(), agents[0]);
}

async fn a_join_token_is_for_an_agent_that_is_known(world: World) {
    let store = &world.store;
    let unknown = store.insert_join_token(&[1; 32], &name("web1"), start()).await;
    refused(ErrorKind::Conflict, unknown);
    let agents = put_agents(store, &["web1"]).await;
    store.insert_join_token(&[1; 32], &agents[0], start()).await.unwrap();
    let twice = store.insert_join_token(&[1; 32], &agents[0], start()).await;
    refused(ErrorKind::Conflict, twice);
}

/// Two agents, each with two identities and a join token.
async fn enrolled(world: &World) -> [IdentityRecord; 4] {
    let store = &world.store;
    let agents = put_agents(store, &["web1", "web2"]).await;
    let identity = |serial: &str, agent: &str| IdentityRecord {
        serial: serial.to_owned(),
        spiffe_id: format!("spiffe://test.example/agent/{agent}"),
        not_after: start() + Duration::days(30),
        revoked_at: None,
    };
    let identities = [
        identity("01", "web1"),
        IdentityRecord { revoked_at: Some(start()), ..identity("02", "web1") },
        identity("03", "web1"),
        identity("04", "web2"),
    ];
    for identity in &identities {
        store.insert_identity(identity).await.unwrap();
    }
    for (hash, agent) in [([1; 32], &agents[0]), ([2; 32], &agents[1])] {
        store.insert_join_token(&hash, agent, start() + Duration::days(1)).await.unwrap();
    }
    identities
}

async fn an_eviction_ends_every_right_at_once(world: World) {
    let store = &world.store;
    let identities = enrolled(&world).await;
    let now = start() + Duration::hours(1);
    let web1 = name("web1");
    store.evict_agent(&web1, &identities[0].spiffe_id, now).await.unwrap();
    let evicted = store.agent(&web1).await.unwrap().unwrap();
    assert_eq!(evicted, AgentRecord { status: AgentStatus::Evicted, ..agent("web1") });
    let revoked = async |serial: &str| store.identity(serial).await.unwrap().unwrap().revoked_at;
    assert_eq!(revoked("01").await, Some(now));
    assert_eq!(revoked("02").await, Some(start()), "it was revoked before");
    assert_eq!(revoked("03").await, Some(now));
    refused(ErrorKind::Denied, store.redeem_join_token(&[1; 32], start()).await);
    // The other agent keeps its rights.
    assert_eq!(store.agent(&name("web2")).await.unwrap().unwrap(), agent("web2"));
    assert_eq!(revoked("04").await, None);
    assert_eq!(store.redeem_join_token(&[2; 32], start()).await.unwrap(), name("web2"));
    refused(ErrorKind::NotFound, store.evict_agent(&name("web3"), "spiffe://x", now).await);
}

async fn an_eviction_that_fails_ends_nothing(world: World) {
    let store = &world.store;
    let identities = enrolled(&world).await;
    // Something else refers to the token, so that the last of three changes is refused.
    world.sql("CREATE TABLE held (hash {BLOB} NOT NULL REFERENCES join_tokens (hash))").await;
    world.sql("INSERT INTO held SELECT hash FROM join_tokens").await;
    let evicted = store.evict_agent(&name("web1"), &identities[0].spiffe_id, start()).await;
    refused(ErrorKind::Conflict, evicted);
    assert_eq!(store.agent(&name("web1")).await.unwrap().unwrap(), agent("web1"));
    assert_eq!(store.identity("01").await.unwrap().as_ref(), Some(&identities[0]));
}

async fn an_identity_is_registered_once(world: World) {
    let identities = enrolled(&world).await;
    for identity in &identities {
        let read = world.store.identity(&identity.serial).await.unwrap();
        assert_eq!(read.as_ref(), Some(identity));
    }
    let other = IdentityRecord { spiffe_id: "spiffe://x/agent/y".into(), ..identities[0].clone() };
    refused(ErrorKind::Conflict, world.store.insert_identity(&other).await);
    assert_eq!(world.store.identity("01").await.unwrap().as_ref(), Some(&identities[0]));
    assert_eq!(world.store.identity("ff").await.unwrap(), None);
}

async fn settings_are_put_together_or_not_at_all(world: World) {
    let store = &world.store;
    store.put_settings(&[("a", "1"), ("b", "2")]).await.unwrap();
    store.put_settings(&[("b", "3"), ("c", "")]).await.unwrap();
    let read = async |name: &str| store.setting(name).await.unwrap();
    let all = async || [read("a").await, read("b").await, read("c").await, read("d").await];
    let before = [Some("1".into()), Some("3".into()), Some(String::new()), None];
    assert_eq!(all().await, before);
    // The second of them is refused.
    world.sql("CREATE UNIQUE INDEX once ON settings (value)").await;
    refused(ErrorKind::Conflict, store.put_settings(&[("a", "new"), ("d", "3")]).await);
    assert_eq!(all().await, before);
    store.put_settings(&[]).await.unwrap();
}
