//! What a certificate's next order waits for, in words.

use time::format_description::well_known::Rfc3339;

use super::Issuer;
use super::planner::budget::{Books, Key, KeyId};
use super::planner::schedule::{Id, Wait};
use super::planner::{Moment, time_of};
use crate::error::Result;
use crate::store::CertificateRecord;

impl Issuer {
    /// What the next order of a certificate that is due waits for; `None` where it waits for nothing but
    /// its time.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn waits_for(&self, certificate: &CertificateRecord) -> Result<Option<String>> {
        let (now, name) = (self.clock.now(), &certificate.name);
        // Most wait for nothing, and to find that out takes no look at all the others.
        if certificate.renew_at > now || self.planning.is_under_way(name) {
            return Ok(None);
        }
        let mut agenda = self.agenda(Some(now)).await?;
        let Some(at) = agenda.items.iter().position(|item| item.record.certificate.name == *name)
        else {
            return Ok(None);
        };
        let Ok(id) = Id::try_from(at) else { return Ok(None) };
        agenda.schedule.step(super::planner::moment(now), self.planning.free_places());
        let Some(wait) = agenda.schedule.wait(id) else { return Ok(None) };
        let own = &agenda.items.get(at).map(|item| item.windows()).unwrap_or_default();
        Ok(said(wait, agenda.schedule.books(), super::planner::moment(now), own))
    }
}

fn said(wait: Wait, books: &Books, now: Moment, windows: &str) -> Option<String> {
    Some(match wait {
        Wait::Nothing | Wait::Wish(_) => return None,
        Wait::Window(at) => {
            let own = if windows.is_empty() { "of its agents" } else { windows };
            format!("maintenance window {own}, open at {}", at_text(at))
        }
        Wait::Budget(key, free) => {
            let free = match free {
                Some(at) => format!("free again at {}", at_text(at)),
                None => "free again once an order under way ends".to_owned(),
            };
            match books.is_closed(key, now) {
                true => format!("CA: it wants no more {} now, {free}", what(key, books)),
                false => format!("budget: {}, {free}", budget_text(key, books)),
            }
        }
        Wait::Ca(at) if at > now => {
            format!("CA: it does not answer, asked again at {}", at_text(at))
        }
        Wait::Ca(_) => "CA: as many orders are under way as may be at once".to_owned(),
        Wait::Place => {
            "a free place: as many certificates are worked on as may be at once".to_owned()
        }
    })
}

fn at_text(at: Moment) -> String {
    time_of(at).truncate_to_second().format(&Rfc3339).unwrap_or_default()
}

/// A budget in words: `50 certificates in 7days for shop.example`.
pub(super) fn budget_text(key: KeyId, books: &Books) -> String {
    let Some((_, Some((count, per)))) = books.describe(key) else { return what(key, books) };
    let per = std::time::Duration::from_micros(per.unsigned_abs());
    let per = humantime::format_duration(per).to_string().replace(' ', "");
    format!("{count} {} in {per}", what(key, books))
}

fn what(key: KeyId, books: &Books) -> String {
    match books.describe(key) {
        Some((Key::Orders { account }, _)) => format!("orders of account {account}"),
        Some((Key::Domain { domain, .. }, _)) => format!("certificates for {domain}"),
        Some((Key::Set { .. }, _)) => "certificates for exactly these names".to_owned(),
        Some((Key::Failures { name, .. }, _)) => format!("failed validations of {name}"),
        None => "orders".to_owned(),
    }
}
