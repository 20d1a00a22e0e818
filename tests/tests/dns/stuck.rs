//! A record that cannot be taken out: the rooms alone, with a clock that the test moves.

use std::{fs, sync::Arc, time::Duration as StdDuration};

use testkit::{
    name_server::{KEY, KEY_NAME, NameServer, Software},
    records::start,
};
use time::Duration;
use vault::{
    alerts::{AlertKind, Alerts},
    audit::{self, AuditLog},
    clock::ManualClock,
    config::Acme,
    dns::Dns,
    store::{Alerts as _, DnsRecord, DnsRecords as _, sql::SqlStore},
};

use super::world::{RECORD, ZONE, rfc2136};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_stays_for_long_is_an_alert_until_it_is_gone() {
    let server = NameServer::start(Software::Bind, &[ZONE]);
    server.update(&format!("update add {RECORD} 1 TXT left"));
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/vault.db", dir.path().display());
    let store = Arc::new(SqlStore::open(&url, 2).await.unwrap());
    let clock = ManualClock::new(start());
    let options =
        audit::Options { queue: 8, deadline: StdDuration::from_secs(60), sync: audit::Sync::Each };
    let log = dir.path().join("audit.log");
    let (audit, _) = AuditLog::open(&log, options, Arc::new(clock.clone())).unwrap();
    let opened = |acme: &Acme| {
        let alerts = Alerts::new(store.clone(), audit.clone(), Arc::new(clock.clone()));
        Dns::new(acme, store.clone(), Arc::new(clock.clone()), alerts).unwrap().unwrap()
    };
    let entry = format!("[[dns]]\n{}", rfc2136(&server));
    let acme: Acme = toml::from_str(&entry).unwrap();
    fs::write(server.key_file(), KEY.replace("MDEy", "eHh4")).unwrap();
    let refused = opened(&acme);
    fs::write(server.key_file(), KEY).unwrap();
    let record = DnsRecord {
        token: "token".to_owned(),
        name: format!("{RECORD}."),
        zone: format!("{ZONE}."),
        value: "left".to_owned(),
        created_at: start(),
        stuck_at: None,
    };
    store.put_dns_record(&record).await.unwrap();

    // It is not its age that counts: a challenge may have been shown for hours.
    clock.advance(Duration::hours(5));
    for (later, open) in [(0, 0), (59, 0), (1, 1), (600, 1)] {
        clock.advance(Duration::minutes(later));
        assert_eq!(refused.clean_up().await.unwrap(), 1);
        assert_eq!(store.open_alerts().await.unwrap().len(), open, "{later} minutes later");
    }
    let alert = store.open_alerts().await.unwrap().remove(0);
    assert_eq!(alert.kind, AlertKind::DnsRecordLeft);
    assert_eq!(alert.subject, format!("record {RECORD}"));
    assert!(alert.detail.contains("zone shop.example") && alert.detail.contains("rfc2136"));
    assert_eq!(server.records(RECORD, "TXT"), ["\"left\""], "{KEY_NAME} is wrong");

    assert_eq!(opened(&acme).clean_up().await.unwrap(), 0);
    assert_eq!(store.open_alerts().await.unwrap(), []);
    assert!(server.records(RECORD, "TXT").is_empty());
}
