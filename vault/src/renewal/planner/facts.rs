//! What is known of a certificate, as the schedule takes it.

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use super::budget::{Books, Counted, Demand, Key};
use super::maintenance::Hours;
use super::schedule::{Class, Entry};
use super::{Moment, Window, moment};
use crate::config::CaLimits;
use crate::named::named_enum;
use crate::store::{Identifier, OrderKind};

/// Failed validations since the last success after which a certificate may not take what others need. That
/// its CA was away is no fault of its own.
const FAILING: u32 = 3;

named_enum!(
    /// Why a certificate wants to be ordered when it does.
    Why, "reason" {
        /// The CA suggests that time (RFC 9773).
        Ari = "ari",
        /// Its lifetime.
        Lifetime = "lifetime",
        /// The last attempt failed, or was interrupted.
        Retry = "retry",
        /// An operator has asked for it.
        Requested = "requested",
    }
);

/// When a certificate's web servers may change, and by when they have to in any case.
#[derive(Debug, Clone)]
pub struct Hold {
    hours: Option<Arc<Hours>>,
    until: Moment,
}

impl Hold {
    /// Whenever it is due.
    pub const NONE: Self = Self { hours: None, until: 0 };

    /// In these hours, unless there are none more until then.
    pub fn new(hours: Arc<Hours>, until: Moment) -> Self {
        Self { hours: (!hours.is_always()).then_some(hours), until }
    }

    /// The first time from `now` on at which it may begin.
    pub fn open_at(&self, now: Moment) -> Moment {
        let Some(hours) = &self.hours else { return now };
        let open = hours.next_open(now);
        if open <= self.until { open } else { now }
    }
}

/// What is known of a certificate.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The account whose turn it is.
    pub account: &'a str,
    /// What its CA allows.
    pub limits: &'a CaLimits,
    /// What it names.
    pub identifiers: &'a [Identifier],
    /// What the order will be to the CA.
    pub kind: OrderKind,
    /// When it is due.
    pub wish: OffsetDateTime,
    /// Start and end of what is in force; `None` where it was never issued.
    pub valid: Option<(OffsetDateTime, OffsetDateTime)>,
    /// What the CA suggests.
    pub window: Option<Window>,
    /// Failures since the last success.
    pub failed_attempts: u32,
    /// Those of them in which the CA could not validate a name.
    pub refusals: u32,
    /// An operator wants it now, whatever its maintenance windows say.
    pub requested: bool,
    /// An operator wants its CA to be asked now, whatever it has said before.
    pub insists: bool,
    /// When its web servers may change.
    pub hours: Arc<Hours>,
    /// The CA has its order already.
    pub placed: bool,
}

impl Facts<'_> {
    /// As the schedule takes it; `gate` is its account's.
    pub fn entry(&self, books: &mut Books, gate: usize) -> Entry {
        let demands = match self.placed {
            true => Vec::new(),
            false => demands(books, self.account, self.limits, self.identifiers, self.kind),
        };
        self.with_demands(books, gate, demands)
    }

    /// As the schedule takes it, where it is known what it takes of budgets.
    pub(super) fn with_demands(&self, books: &Books, gate: usize, demands: Vec<Demand>) -> Entry {
        let deadline = self.deadline();
        let class = match (self.placed, self.refusals >= FAILING, deadline) {
            (true, ..) => Class::Placed,
            (_, true, _) => Class::Failing,
            (_, _, None) => Class::First,
            (_, _, Some(_)) => Class::Renewal,
        };
        let wish = moment(self.wish);
        let deadline_or_wish = deadline.map_or(wish, moment);
        Entry {
            wish,
            deadline: deadline_or_wish,
            urgent_from: deadline_or_wish.saturating_sub(horizon(books, &demands)),
            class,
            gate,
            demands,
            hold: self.hold(deadline),
            insists: self.insists,
            why: self.why(),
        }
    }

    /// By when it should be replaced: its end, or the end of the window in which the CA wants that.
    fn deadline(&self) -> Option<OffsetDateTime> {
        let (_, not_after) = self.valid?;
        Some(self.window.map_or(not_after, |window| window.end.min(not_after)))
    }

    /// A tenth of its lifetime before it is too late, maintenance windows are over.
    fn hold(&self, deadline: Option<OffsetDateTime>) -> Hold {
        let (Some((start, end)), Some(deadline)) = (self.valid, deadline) else {
            return Hold::NONE;
        };
        if self.requested || self.placed {
            return Hold::NONE;
        }
        let margin = (end - start).max(Duration::ZERO) / 10;
        Hold::new(self.hours.clone(), moment(deadline.saturating_sub(margin)))
    }

    fn why(&self) -> Why {
        match self.valid {
            _ if self.placed || self.failed_attempts > 0 => Why::Retry,
            _ if self.requested => Why::Requested,
            None => Why::Requested,
            Some(_) if self.window.is_some() => Why::Ari,
            Some(_) => Why::Lifetime,
        }
    }
}

/// How long before its deadline an order may begin to miss what others use now: a day, or as long as a
/// budget counts that it shares with them.
pub(super) fn horizon(books: &Books, demands: &[Demand]) -> Moment {
    const DAY: Moment = 24 * 3600 * 1_000_000;
    let shared = demands.iter().filter(|demand| !demand.exempt).filter_map(|demand| {
        match books.describe(demand.key)? {
            (Key::Orders { .. } | Key::Domain { .. }, Some((_, per))) => Some(per),
            _ => None,
        }
    });
    shared.max().unwrap_or(0).max(DAY)
}

/// What an order takes of its CA's budgets.
pub fn demands(
    books: &mut Books,
    account: &str,
    limits: &CaLimits,
    identifiers: &[Identifier],
    kind: OrderKind,
) -> Vec<Demand> {
    let replaces = kind == OrderKind::Replacement && limits.replacements_exempt;
    let renews = replaces || (kind != OrderKind::First && limits.renewals_exempt);
    let (account, ca) = (account.to_owned(), limits.directory.to_string());
    let mut demands = Vec::new();
    let mut add = |key, rate, counted, exempt| {
        demands.push(Demand { key: books.key(key, rate), counted, exempt });
    };
    let orders = Key::Orders { account: account.clone() };
    add(orders, limits.orders_per_account, Counted::Orders, replaces);
    let names = set_of(identifiers);
    let set = Key::Set { ca: ca.clone(), names };
    add(set, limits.certificates_per_exact_set, Counted::Certificates, replaces);
    for domain in registered_domains(identifiers) {
        let key = Key::Domain { ca: ca.clone(), domain };
        let rate = limits.certificates_per_registered_domain;
        add(key, rate, Counted::Certificates, renews);
    }
    // Failures count whoever fails: nothing is exempt.
    if limits.failures_per_name.is_some() {
        for identifier in identifiers {
            let key = Key::Failures { account: account.clone(), name: identifier.to_string() };
            add(key, limits.failures_per_name, Counted::Failures, false);
        }
    }
    demands
}

/// All names as one text, whatever their order.
pub fn set_of(identifiers: &[Identifier]) -> String {
    let mut names: Vec<_> = identifiers.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names.join(",")
}

/// The registered domains of names, each once: a public suffix and one label. What has none, an address for
/// one, counts by itself.
pub fn registered_domains(identifiers: &[Identifier]) -> Vec<String> {
    let mut domains: Vec<_> = identifiers.iter().map(registered_domain).collect();
    domains.sort_unstable();
    domains.dedup();
    domains
}

fn registered_domain(identifier: &Identifier) -> String {
    let Identifier::Dns(name) = identifier else { return identifier.to_string() };
    let name = name.strip_prefix("*.").unwrap_or(name);
    psl::domain_str(name).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> Identifier {
        Identifier::Dns(name.to_owned())
    }

    #[test]
    fn registered_domains_are_a_public_suffix_and_one_label() {
        let names = ["www.shop.co.uk", "*.shop.co.uk", "shop.co.uk", "a.b.shop.example", "co.uk"];
        let mut identifiers: Vec<_> = names.iter().map(|name| dns(name)).collect();
        identifiers.push(Identifier::Ip([192, 0, 2, 7].into()));
        assert_eq!(
            registered_domains(&identifiers),
            ["192.0.2.7", "co.uk", "shop.co.uk", "shop.example"]
        );
    }

    #[test]
    fn the_set_of_names_has_no_order() {
        assert_eq!(set_of(&[dns("b.example"), dns("a.example")]), "a.example,b.example");
    }

    #[test]
    fn what_a_ca_exempts_takes_nothing_of_its_budgets() {
        let directory = "https://acme-v02.api.letsencrypt.org/directory".parse().unwrap();
        let limits = CaLimits::published(&directory);
        let taken = |kind| {
            let mut books = Books::default();
            let all = demands(&mut books, "le", &limits, &[dns("a.shop.example")], kind);
            all.iter().filter(|demand| !demand.exempt).map(|d| d.counted).collect::<Vec<_>>()
        };
        use Counted::{Certificates, Failures, Orders};
        assert_eq!(taken(OrderKind::First), [Orders, Certificates, Certificates, Failures]);
        assert_eq!(taken(OrderKind::Renewal), [Orders, Certificates, Failures]);
        assert_eq!(taken(OrderKind::Replacement), [Failures]);
    }
}
