//! Asking a CA for an order, with what it counts for on record before, and what its answers close.

use time::Duration;
use vault_proto::ids::OrderId;

use super::Issuer;
use super::planner::facts::registered_domains;
use crate::acme;
use crate::error::{Error, ErrorKind, Result};
use crate::fault::crash_point;
use crate::store::{
    AccountRecord, CertificateRecord, Identifier, OrderKind, OrderRecord, PlacementRecord,
    PlacementState,
};

/// How long an account is left alone at most where a CA limits it: what CAs limit for longer concerns names.
const LONGEST_OF_ACCOUNT: Duration = Duration::hours(6);
/// How long where the CA does not say.
const UNTOLD: Duration = Duration::minutes(15);

impl Issuer {
    /// Asks the CA for an order. That it counts is on record before, so that no crash lets it be
    /// forgotten.
    pub(super) async fn place<'a>(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
        by: &AccountRecord,
        account: &'a acme::Account,
    ) -> Result<acme::Order<'a>> {
        let (store, now) = (&self.store, self.clock.now());
        let replaced = match account.renewal_infos().await? {
            Some(_) => self.replaced(certificate, order).await?,
            None => None,
        };
        let kind = match &replaced {
            Some(_) => OrderKind::Replacement,
            None => self.kind_of(certificate, by).await?,
        };
        let placement = PlacementRecord {
            id: OrderId::random(),
            order: order.id,
            certificate: certificate.name.clone(),
            account: order.account.clone(),
            identifiers: certificate.identifiers.clone(),
            kind,
            directory: by.directory.clone(),
            state: PlacementState::Open,
            refused: Vec::new(),
            closed_until: None,
            placed_at: now,
            changed_at: now,
        };
        store.begin_placement(&placement).await?;
        crash_point!("issue.placed");
        let placed = self.ask(certificate, order, account, replaced.as_ref()).await;
        match placed {
            // The CA has taken it for an order like any other.
            Ok(placed) if kind == OrderKind::Replacement && !placed.replaces.is_accepted() => {
                let kind = OrderKind::Renewal;
                let counted = PlacementRecord { id: OrderId::random(), kind, ..placement.clone() };
                store.insert_placement(&counted).await?;
                store.void_placement(placement.id, self.clock.now()).await?;
                Ok(placed.order)
            }
            Ok(placed) => Ok(placed.order),
            Err(error) => {
                let now = self.clock.now();
                match acme::may_have_been_heard(&error) {
                    true => {
                        store.end_placements(order.id, PlacementState::Failed, &[], now).await?;
                    }
                    false => store.void_placement(placement.id, now).await?,
                }
                Err(error)
            }
        }
    }

    /// What an order that replaces nothing is to its CA.
    async fn kind_of(
        &self,
        certificate: &CertificateRecord,
        by: &AccountRecord,
    ) -> Result<OrderKind> {
        let version = self.store.version(&certificate.name, certificate.current_version).await?;
        let Some(version) = version else { return Ok(OrderKind::First) };
        let same = version.account == by.name || {
            let before = self.store.account(&version.account).await?;
            before.is_some_and(|before| before.directory == by.directory)
        };
        Ok(if same { OrderKind::Renewal } else { OrderKind::First })
    }

    /// What was asked for and not heard of when the vault ended: no certificate will come of it.
    pub(super) async fn settle_placements(&self) -> Result<()> {
        let now = self.clock.now();
        for order in self.store.open_orders().await? {
            if order.url.is_none() {
                self.store.end_placements(order.id, PlacementState::Failed, &[], now).await?;
            }
        }
        Ok(())
    }

    /// Notes what of a failure counts against what the CA allows, and what the CA wants no more of.
    pub(super) async fn note_what_counts(
        &self,
        certificate: &CertificateRecord,
        order: Option<&OrderRecord>,
        error: &Error,
    ) -> Result<()> {
        let Some(order) = order else { return Ok(()) };
        match error.kind {
            ErrorKind::Verification if order.url.is_some() => {
                let named = |identifier: &&Identifier| identifier.to_string() == error.subject;
                let refused = match certificate.identifiers.iter().find(named) {
                    Some(identifier) => std::slice::from_ref(identifier),
                    None => certificate.identifiers.as_slice(),
                };
                let now = self.clock.now();
                self.store.end_placements(order.id, PlacementState::Failed, refused, now).await
            }
            ErrorKind::Exhausted if error.subject.starts_with("CA ") => {
                self.close(certificate, order, error).await
            }
            _ => Ok(()),
        }
    }

    /// The CA wants no more of this account or of these names until it says so: of any certificate.
    async fn close(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
        error: &Error,
    ) -> Result<()> {
        let now = self.clock.now();
        let by = self.accounts.find(&order.account).await?;
        let asked = error.retry_after.and_then(|after| Duration::try_from(after).ok());
        let asked = asked.unwrap_or(UNTOLD);
        let (identifiers, refused, pause) =
            match limited_names(&certificate.identifiers, &error.why) {
                Some(refused) => (certificate.identifiers.clone(), refused, asked),
                None => (Vec::new(), Vec::new(), asked.min(LONGEST_OF_ACCOUNT)),
            };
        tracing::warn!(account = %order.account, until = %(now + pause), %error,
            "the CA wants no more orders of {}", if identifiers.is_empty() { "the account" } else { "these names" });
        self.store
            .insert_placement(&PlacementRecord {
                id: OrderId::random(),
                order: order.id,
                certificate: certificate.name.clone(),
                account: order.account.clone(),
                directory: by.directory,
                identifiers,
                kind: OrderKind::Renewal,
                state: PlacementState::Limited,
                refused,
                closed_until: Some(now + pause),
                placed_at: now,
                changed_at: now,
            })
            .await
    }
}

/// Whether a CA that limits speaks of names, and of which registered domains; `None` where it speaks of none,
/// and so of the account. RFC 8555 knows no other way to tell.
fn limited_names(identifiers: &[Identifier], said: &str) -> Option<Vec<Identifier>> {
    let words: Vec<_> = said
        .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*' | ':')))
        .map(|word| word.trim_end_matches(['.', ':']))
        .collect();
    let speaks_of = |identifier: &Identifier| {
        let domain = registered_domains(std::slice::from_ref(identifier));
        let name = identifier.to_string();
        words.iter().any(|word| *word == name || domain.iter().any(|domain| word == domain))
    };
    let named: Vec<_> = identifiers.iter().filter(|i| speaks_of(i)).cloned().collect();
    let exact_set = said.contains("exact set");
    (exact_set || !named.is_empty()).then_some(if exact_set { Vec::new() } else { named })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_of_names_where_it_speaks_of_them() {
        let dns = |name: &str| Identifier::Dns(name.to_owned());
        let names = [dns("www.shop.example"), dns("other.example")];
        for (said, expected) in [
            ("too many new orders (300) from this account in the last 3h0m0s", None),
            (
                "too many certificates (50) already issued for \"shop.example\" in the last 168h0m0s",
                Some(vec![dns("www.shop.example")]),
            ),
            (
                "too many certificates (5) already issued for this exact set of identifiers",
                Some(Vec::new()),
            ),
            (
                "too many failed authorizations (5) for other.example.",
                Some(vec![dns("other.example")]),
            ),
            ("too many for notshop.example", None),
        ] {
            assert_eq!(limited_names(&names, said), expected, "{said}");
        }
    }
}
