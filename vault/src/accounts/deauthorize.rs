//! The end of authorizations (RFC 8555 section 7.5.2): of valid ones, so that control of a name has to
//! be proven anew, and of those that an order left pending, which count against a CA's limit.

use std::collections::BTreeSet;

use url::Url;
use vault_proto::ids::AccountName;

use super::Accounts;
use crate::acme::{Account, Authorization, AuthorizationState};
use crate::error::{ErrorKind, Result};
use crate::policy::Principal;
use crate::store::Identifier;

/// How many of an account's orders are looked through, the newest first.
const MOST_ORDERS: u32 = 1000;

impl Accounts {
    /// Deactivates the valid authorizations of these names that orders of the vault's have; answers
    /// which. What the CA has forgotten is passed over.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` where the account is not valid, `Unavailable` where the CA does not
    /// answer: the same command does the rest.
    pub async fn deauthorize(
        &self,
        who: &Principal,
        name: &AccountName,
        identifiers: &BTreeSet<Identifier>,
    ) -> Result<Vec<Authorization>> {
        let (_, account) = self.open(who, name).await?;
        let certificates = self.store.certificates().await?;
        let named: BTreeSet<_> = certificates
            .into_iter()
            .filter(|certificate| certificate.identifiers.iter().any(|i| identifiers.contains(i)))
            .map(|certificate| certificate.name)
            .collect();
        let (mut seen, mut ended) = (BTreeSet::new(), Vec::new());
        for order in self.store.orders_with(name, MOST_ORDERS).await? {
            let Some(url) = order.url.filter(|_| named.contains(&order.certificate)) else {
                continue;
            };
            for authorization in
                still_known(account.authorizations_of(&url).await)?.unwrap_or_default()
            {
                let wanted = |a: &Authorization| {
                    a.state == AuthorizationState::Valid && identifiers.contains(&a.identifier)
                };
                if seen.insert(authorization.clone()) {
                    ended.extend(end(&account, authorization, wanted).await?);
                }
            }
        }
        ended.sort_by(|a, b| (&a.identifier, &a.url).cmp(&(&b.identifier, &b.url)));
        Ok(ended)
    }

    /// Deactivates what an order that is over has left pending; answers how many.
    ///
    /// # Errors
    /// Those of the CA.
    pub async fn end_pending(
        &self,
        who: &Principal,
        name: &AccountName,
        order: &Url,
    ) -> Result<usize> {
        let (_, account) = self.open(who, name).await?;
        let pending = |a: &Authorization| a.state == AuthorizationState::Pending;
        let mut ended = 0;
        for authorization in account.authorizations_of(order).await? {
            ended += usize::from(end(&account, authorization, pending).await?.is_some());
        }
        Ok(ended)
    }
}

/// Deactivates an authorization where it is a wanted one.
async fn end(
    account: &Account,
    url: Url,
    wanted: impl Fn(&Authorization) -> bool,
) -> Result<Option<Authorization>> {
    let found = still_known(account.authorization(url).await)?;
    let Some(authorization) = found.filter(wanted) else { return Ok(None) };
    account.deactivate_authorization(&authorization).await?;
    Ok(Some(authorization))
}

/// What a CA does not know any more proves nothing any more, either.
fn still_known<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind {
            ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Conflict => Ok(None),
            _ => Err(error),
        },
    }
}
