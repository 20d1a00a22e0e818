//! What a column keeps: times to the microsecond, any text, names in one order.

use time::{Duration, OffsetDateTime, macros::datetime};
use vault::store::{
    AccountRecord, Accounts as _, AgentRecord, Agents as _, CertificateRecord, CertificateSettings,
    Certificates as _, DeploymentRecord, KeyRecord, Keys as _, Settings as _,
};

use super::{
    records::{
        agent, certificate, key, put_account, put_agents, put_certificates, put_order, start,
    },
    world::World,
};

promises! {
    a_time_is_kept_to_the_microsecond
    any_text_is_kept
    names_are_ordered_by_their_bytes_whatever_the_database_s_locale
    a_nul_in_what_others_say_never_keeps_it_from_being_recorded
    a_long_text_is_kept_whole
}

async fn a_time_is_kept_to_the_microsecond(world: World) {
    let store = &world.store;
    let times: &[OffsetDateTime] = &[
        OffsetDateTime::UNIX_EPOCH,
        OffsetDateTime::UNIX_EPOCH - Duration::microseconds(1),
        start(),
        datetime!(2026-02-28 23:59:59.999_999 UTC),
        datetime!(1970-01-01 00:00:00.000_001 +14:00),
        datetime!(0001-01-01 00:00 UTC),
        datetime!(9999-12-31 23:59:59.999_999 UTC),
    ];
    for at in times {
        let seen = AgentRecord { last_seen_at: Some(*at), ..agent("web1") };
        store.put_agent(&seen).await.unwrap();
        let read = store.agent(&seen.name).await.unwrap().unwrap().last_seen_at.unwrap();
        assert_eq!(read, *at);
        assert!(read.offset().is_utc(), "{at}");
    }
    // What is finer is cut off, so that nothing is kept that is later than it was.
    let fine = start() + Duration::nanoseconds(999);
    let seen = AgentRecord { last_seen_at: Some(fine), ..agent("web1") };
    store.put_agent(&seen).await.unwrap();
    assert_eq!(store.agent(&seen.name).await.unwrap().unwrap().last_seen_at, Some(start()));
}

/// Texts that CAs, agents and operators may send.
const TEXTS: &[&str] = &[
    "",
    " ",
    "'; DROP TABLE keys; --",
    "\"quoted\" and \\escaped\\ and %s and $1",
    "line\nline\r\n\ttab",
    "Größe, 證書, \u{1f510}, e\u{301}",
    "\u{1}\u{7f}\u{feff}\u{fffd}\u{10ffff}",
    "[]",
    "null",
];

async fn any_text_is_kept(world: World) {
    let store = &world.store;
    let account = put_account(store).await;
    let shop = certificate("shop");
    store.insert_certificate(&shop, &[]).await.unwrap();
    for text in TEXTS {
        let text = (*text).to_owned();
        let labels = [("label".to_owned(), text.clone())].into();
        let key = KeyRecord { labels, ..key(&format!("k{}", text.len())) };
        store.insert_key(&key, None).await.unwrap();
        assert_eq!(store.key(key.id).await.unwrap(), Some(key));
        let account = AccountRecord {
            contacts: vec![text.clone(), text.clone()],
            last_error: Some(text.clone()),
            ..account.clone()
        };
        store.update_account(&account).await.unwrap();
        assert_eq!(store.accounts().await.unwrap(), [account]);
        store.fail_attempt(&shop.name, &text, 1, start()).await.unwrap();
        let before = store.certificate(&shop.name).await.unwrap().unwrap().settings();
        let settings = CertificateSettings { profile: Some(text.clone()), ..before.clone() };
        assert!(store.change_settings(&shop.name, &before, &settings).await.unwrap(), "{text:?}");
        let failing = CertificateRecord {
            failed_attempts: 1,
            last_error: Some(text.clone()),
            profile: settings.profile,
            ..shop.clone()
        };
        assert_eq!(store.certificates().await.unwrap(), [failing]);
        store.put_settings(&[(&text, &text)]).await.unwrap();
        assert_eq!(store.setting(&text).await.unwrap(), Some(text));
    }
}

async fn names_are_ordered_by_their_bytes_whatever_the_database_s_locale(world: World) {
    let store = &world.store;
    put_account(store).await;
    let mut names = ["a1", "a_1", "b", "a.1", "1a", "a-1", "a", "a--1", "a0b", "aa"];
    put_agents(store, &names).await;
    put_certificates(store, &names).await;
    for name in names {
        store.insert_key(&key(name), None).await.unwrap();
    }
    names.sort_unstable();
    let agents: Vec<_> = store.agents().await.unwrap();
    let agents: Vec<_> = agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(agents, names);
    let certificates = store.certificates().await.unwrap();
    let certificates: Vec<_> = certificates.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(certificates, names);
    let keys = store.keys().await.unwrap();
    let keys: Vec<_> = keys.iter().skip(1).map(|key| key.name.as_str()).collect();
    assert_eq!(keys, names);
}

async fn a_long_text_is_kept_whole(world: World) {
    let store = &world.store;
    let long = "0123456789abcdef".repeat(1 << 16);
    store.put_settings(&[("long", &long)]).await.unwrap();
    assert_eq!(store.setting("long").await.unwrap(), Some(long));
    let key = KeyRecord { spki_der: vec![0; 1 << 20], ..key("long") };
    store.insert_key(&key, None).await.unwrap();
    assert_eq!(store.key(key.id).await.unwrap(), Some(key));
}

async fn a_nul_in_what_others_say_never_keeps_it_from_being_recorded(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let agents = put_agents(store, &["web1"]).await;
    store.insert_deployment(&shop.name, &agents[0], start()).await.unwrap();
    let (said, kept) = ("a\0b", "a\u{fffd}b");
    store.note_account(&shop.account, Some(said), start()).await.unwrap();
    let account = store.account(&shop.account).await.unwrap().unwrap();
    assert_eq!(account.last_error.as_deref(), Some(kept));
    store.fail_order(order.id, said, 1, start(), start()).await.unwrap();
    let failed = store.order(order.id).await.unwrap().unwrap();
    assert_eq!(failed.error.as_deref(), Some(kept));
    let failing = store.certificate(&shop.name).await.unwrap().unwrap();
    assert_eq!(failing.last_error.as_deref(), Some(kept));
    let deployment = store.deployments_on(&agents[0]).await.unwrap().remove(0);
    let nack = DeploymentRecord { detail: said.to_owned(), ..deployment };
    store.update_deployment(&nack).await.unwrap();
    assert_eq!(store.deployments_on(&agents[0]).await.unwrap()[0].detail, kept);
    let odd = AgentRecord { software_version: said.to_owned(), ..agent("web1") };
    store.put_agent(&odd).await.unwrap();
    assert_eq!(store.agents().await.unwrap()[0].software_version, kept);
}
