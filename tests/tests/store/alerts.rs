//! Open alerts.

use time::Duration;
use vault::store::{AlertKind, AlertRecord, Alerts as _};

use super::{records::start, world::World};

promises! {
    an_alert_is_raised_once_and_says_what_was_found_last
    alerts_are_listed_from_the_oldest_on_until_they_are_cleared
}

async fn an_alert_is_raised_once_and_says_what_was_found_last(world: World) {
    let store = &world.store;
    let (kind, subject) = (AlertKind::Revoked, "certificate shop");
    assert!(store.raise_alert(kind, subject, "Größe\0", start()).await.unwrap());
    let later = start() + Duration::minutes(1);
    assert!(!store.raise_alert(kind, subject, "worse", later).await.unwrap());
    let open = AlertRecord {
        kind,
        subject: subject.to_owned(),
        detail: "worse".to_owned(),
        since: start(),
    };
    assert_eq!(store.alerts_on(subject).await.unwrap(), std::slice::from_ref(&open));
    assert_eq!(store.alerts_on("certificate sho").await.unwrap(), []);
    assert_eq!(store.open_alerts().await.unwrap(), [open]);
}

async fn alerts_are_listed_from_the_oldest_on_until_they_are_cleared(world: World) {
    let store = &world.store;
    let raised = [
        (AlertKind::RolloutStopped, "certificate b", 2),
        (AlertKind::Revoked, "certificate b", 1),
        (AlertKind::Revoked, "certificate a", 3),
    ];
    for (kind, subject, minute) in raised {
        let at = start() + Duration::minutes(minute);
        assert!(store.raise_alert(kind, subject, "", at).await.unwrap());
    }
    let open = async || -> Vec<_> {
        let open = store.open_alerts().await.unwrap();
        open.into_iter().map(|alert| (alert.kind, alert.subject)).collect()
    };
    let is = |kind, subject: &str| (kind, subject.to_owned());
    let (stopped, revoked) = (AlertKind::RolloutStopped, AlertKind::Revoked);
    let all =
        [is(revoked, "certificate b"), is(stopped, "certificate b"), is(revoked, "certificate a")];
    assert_eq!(open().await, all);
    assert!(store.clear_alert(revoked, "certificate b").await.unwrap());
    assert!(!store.clear_alert(revoked, "certificate b").await.unwrap());
    assert_eq!(open().await, [is(stopped, "certificate b"), is(revoked, "certificate a")]);
}
