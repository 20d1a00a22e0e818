//! Looks ahead from time to time, and alerts to certificates that will end before they can be renewed.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration as StdDuration,
};

use time::Duration;
use tokio_util::sync::CancellationToken;

use super::Issuer;
use super::agenda::Item;
use super::forecast::blocking;
use super::planner::schedule::{Id, Wait};
use super::planner::{moment, time_of};
use crate::error::Result;
use crate::store::AlertKind;

/// How often it is looked ahead.
const LOOK: StdDuration = StdDuration::from_secs(3600);
/// How far.
const AHEAD: Duration = Duration::days(30);

impl Issuer {
    /// Alerts to what cannot be renewed in time, and ends alerts to what can, until `stop`.
    pub(super) async fn keep_looking_ahead(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.look_ahead().await {
                tracing::warn!(%error, "whether all can be renewed in time is not known");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look_ahead(&self) -> Result<()> {
        let late = self.too_late().await?;
        for (subject, detail) in &late {
            self.alerts.raise(AlertKind::CannotRenewInTime, subject, detail).await?;
        }
        for open in self.store.open_alerts().await? {
            let over =
                open.kind == AlertKind::CannotRenewInTime && !late.contains_key(&open.subject);
            let name = open.subject.strip_prefix("certificate ").and_then(|name| name.parse().ok());
            // What is worked on is late until it is there.
            if over && !name.is_some_and(|name| self.planning.is_under_way(&name)) {
                self.alerts.clear(open.kind, &open.subject).await?;
            }
        }
        Ok(())
    }

    /// Certificates that end before their next order can begin, as subjects of alerts, and why.
    async fn too_late(&self) -> Result<BTreeMap<String, String>> {
        let now = self.clock.now();
        let until = now + AHEAD;
        let (fleet, items) = self.fleet().await?;
        let planned = blocking(move || fleet.plan(moment(now), moment(until))).await?;
        let mut next = HashMap::new();
        for planned in planned {
            next.entry(planned.id).or_insert((time_of(planned.at), planned.waited));
        }
        let late = |(id, item): (Id, &Item)| {
            let end = item.record.in_force.as_ref()?.not_after;
            let begins = next.get(&id);
            if end > until || begins.is_some_and(|(at, _)| *at < end) {
                return None;
            }
            let ends = if end <= now { "ended" } else { "ends" };
            let detail = match begins {
                Some((at, waited)) => {
                    format!("it {ends} {end}, and is ordered {at}{}", why(*waited))
                }
                None => format!("it {ends} {end}, and nothing can be ordered before {until}"),
            };
            let subject = format!("certificate {}", item.record.certificate.name);
            Some((subject, format!("{detail}; `vaultctl cert plan` shows what is ordered when")))
        };
        Ok((0..).zip(&items).filter_map(late).collect())
    }
}

/// What keeps it waiting until then.
fn why(waited: Option<Wait>) -> &'static str {
    match waited {
        Some(Wait::Window(_)) => ": its maintenance windows are closed until then",
        Some(Wait::Budget(..)) => ": until then, what its CA allows is used up",
        Some(Wait::Ca(_)) => ": its CA does not answer",
        _ => "",
    }
}
