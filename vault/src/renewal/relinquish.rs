//! What an order that is over leaves at its CA: authorizations that wait for challenges count against
//! the CA's limit on those, and are given up.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::{Issuer, issue::RENEWAL};
use crate::store::OrderRecord;

/// How many orders' are given up at once.
const AT_ONCE: usize = 4;
/// How long one order's may take: nobody waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}

impl Issuer {
    /// Gives up what an order has left pending, beside everything else. Where that fails or too much of
    /// it is under way, the CA forgets it by itself in time.
    pub(super) fn relinquish(&self, order: &OrderRecord) {
        let (Some(url), Ok(slot)) =
            (order.url.clone(), self.relinquishing.clone().try_acquire_owned())
        else {
            return;
        };
        let (accounts, account, id) = (self.accounts.clone(), order.account.clone(), order.id);
        tokio::spawn(async move {
            let ended = accounts.end_pending(&RENEWAL, &account, &url);
            match tokio::time::timeout(DEADLINE, ended).await {
                Ok(Ok(0)) => {}
                Ok(Ok(ended)) => tracing::info!(order = %id, ended, "authorizations are given up"),
                Ok(Err(error)) => {
                    tracing::debug!(order = %id, %error, "authorizations stay pending")
                }
                Err(_) => tracing::debug!(order = %id, "authorizations stay pending"),
            }
            drop(slot);
        });
    }
}
