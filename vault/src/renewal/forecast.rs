//! Looks ahead, with the planner, at what the store says now.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};
use vault_proto::ids::{AccountName, CertificateName};

use super::Issuer;
use super::agenda::Item;
use super::planner::schedule::{Id, Wait};
use super::planner::{moment, time_of};
use super::waits::budget_text;
use crate::error::Result;

/// Nothing that takes longer is waited for.
const HORIZON: Duration = Duration::days(400);

/// One order to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedOrder {
    /// When it begins.
    pub at: OffsetDateTime,
    /// Of which certificate.
    pub certificate: CertificateName,
    /// Why then.
    pub why: &'static str,
    /// The account that orders it.
    pub account: AccountName,
    /// When what it replaces ends.
    pub expires: Option<OffsetDateTime>,
    /// Whether it ends before that.
    pub late: bool,
}

/// How long it would take to replace everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    /// By name.
    pub accounts: Vec<AccountRehearsal>,
    /// Whether all of it is done in time.
    pub met: bool,
}

/// How long one account would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRehearsal {
    /// Which.
    pub account: AccountName,
    /// How many certificates it orders.
    pub certificates: u64,
    /// What holds them up the most.
    pub limiting: Option<String>,
    /// How long; `None` where some are never done.
    pub duration: Option<Duration>,
    /// How many are done in time.
    pub done_within: u64,
    /// Those that come too late.
    pub late: Vec<CertificateName>,
}

impl Issuer {
    /// What is going to be ordered in the coming days, as far as it is known now and every order succeeds.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn plan(&self, ahead: Duration) -> Result<Vec<PlannedOrder>> {
        let now = moment(self.clock.now());
        let until = moment(self.clock.now() + ahead.min(HORIZON));
        let (fleet, items) = self.fleet().await?;
        let planned = blocking(move || fleet.plan(now, until)).await?;
        let order = |planned: super::planner::forecast::Planned| {
            let certificate = &items.get(planned.id as usize)?.record.certificate;
            Some(PlannedOrder {
                at: time_of(planned.at),
                certificate: certificate.name.clone(),
                why: match planned.waited {
                    Some(Wait::Window(_)) => "window",
                    Some(Wait::Budget(..)) => "budget",
                    Some(Wait::Ca(_)) => "ca",
                    _ => planned.why.as_str(),
                },
                account: certificate.account_in_turn().clone(),
                expires: planned.expires.map(time_of),
                late: planned.is_late(),
            })
        };
        Ok(planned.into_iter().filter_map(order).collect())
    }

    /// How long it would take to replace everything from now on, within what CAs allow, whatever
    /// maintenance windows say.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn rehearse(&self, within: Option<Duration>) -> Result<Rehearsal> {
        let now = moment(self.clock.now());
        let until = moment(self.clock.now() + HORIZON);
        let (fleet, items) = self.fleet().await?;
        let (fleet, rehearsed) = blocking(move || fleet.rehearse(now, until)).await?;
        let mut by_account: BTreeMap<&AccountName, Vec<(Id, &Item)>> = BTreeMap::new();
        for (id, item) in (0..).zip(&items) {
            by_account
                .entry(item.record.certificate.account_in_turn())
                .or_default()
                .push((id, item));
        }
        let limit = within.map_or(i64::MAX, |within| {
            i64::try_from(within.whole_microseconds()).unwrap_or(i64::MAX)
        });
        let mut accounts = Vec::new();
        for (account, items) in by_account {
            let ids: Vec<_> = items.iter().map(|(id, _)| *id).collect();
            let ends: Option<Vec<_>> =
                ids.iter().map(|id| rehearsed.done.get(id).map(|(at, _)| *at)).collect();
            let late = items.iter().filter(|(id, _)| !rehearsed.is_done(*id, limit));
            let late: Vec<_> = late.map(|(_, item)| item.record.certificate.name.clone()).collect();
            let limiting = rehearsed.limiting(&ids);
            accounts.push(AccountRehearsal {
                account: account.clone(),
                certificates: ids.len() as u64,
                limiting: limiting.map(|key| budget_text(key, fleet.schedule.ledger())),
                duration: ends
                    .and_then(|ends| ends.into_iter().max())
                    .map(|end| Duration::microseconds(end - now)),
                done_within: (ids.len() - late.len()) as u64,
                late,
            });
        }
        let met = accounts.iter().all(|account| account.late.is_empty());
        Ok(Rehearsal { accounts, met })
    }
}

/// Runs what takes a moment for a large fleet where nobody waits for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| crate::error::Error::internal("look ahead", "the certificates", e))
}
