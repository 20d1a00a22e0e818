//! What has changed for one session since it last looked: names, never a queue of events.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;
use vault_proto::ids::CertificateName;

/// How many names are remembered. Past that a look at everything costs no more.
const MOST: usize = 1024;

/// What a session has to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Everything.
    All,
    /// These certificates, their orders and challenges, and whether they go there at all.
    Of(BTreeSet<CertificateName>),
}

impl Default for Changes {
    fn default() -> Self {
        Self::Of(BTreeSet::new())
    }
}

impl Changes {
    fn add(&mut self, certificate: &CertificateName) {
        match self {
            Self::All => {}
            Self::Of(names) => {
                names.insert(certificate.clone());
                if names.len() > MOST {
                    *self = Self::All;
                }
            }
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Of(names) if names.is_empty())
    }
}

/// The changes of one session. Who marks never waits, however slow the session is.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: Mutex<Changes>,
    marked: Notify,
}

impl Pending {
    /// Something of this certificate changed.
    pub(super) fn mark(&self, certificate: &CertificateName) {
        self.with(|changes| changes.add(certificate));
        self.marked.notify_one();
    }

    /// Anything may have changed.
    pub(super) fn mark_all(&self) {
        self.with(|changes| *changes = Changes::All);
        self.marked.notify_one();
    }

    /// Everything that was marked since the last call, once there is something. It may be dropped
    /// while it waits: nothing is lost.
    pub(super) async fn take(&self) -> Changes {
        loop {
            let changes = self.with(mem::take);
            if !changes.is_nothing() {
                return changes;
            }
            self.marked.notified().await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Changes) -> T) -> T {
        act(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn name(number: usize) -> CertificateName {
        format!("c{number}").parse().unwrap()
    }

    #[test]
    fn what_is_marked_often_is_looked_at_once() {
        let pending = Pending::default();
        assert_eq!(pending.take().now_or_never(), None);
        for number in [1, 2, 1, 1, 2] {
            pending.mark(&name(number));
        }
        let both = Changes::Of([name(1), name(2)].into());
        assert_eq!(pending.take().now_or_never(), Some(both));
        assert_eq!(pending.take().now_or_never(), None);
        pending.mark(&name(3));
        let third = Changes::Of([name(3)].into());
        assert_eq!(pending.take().now_or_never(), Some(third));
    }

    #[test]
    fn past_a_bound_everything_is_looked_at() {
        let pending = Pending::default();
        (0..MOST).for_each(|number| pending.mark(&name(number)));
        let all = (0..MOST).map(name).collect();
        assert_eq!(pending.take().now_or_never(), Some(Changes::Of(all)));
        (0..=MOST).for_each(|number| pending.mark(&name(number)));
        pending.mark(&name(0));
        assert_eq!(pending.take().now_or_never(), Some(Changes::All));
        pending.mark_all();
        pending.mark(&name(0));
        assert_eq!(pending.take().now_or_never(), Some(Changes::All));
        assert_eq!(pending.take().now_or_never(), None);
    }

    #[tokio::test]
    async fn a_session_that_waits_is_woken() {
        let pending = std::sync::Arc::new(Pending::default());
        let waiting = tokio::spawn({
            let pending = pending.clone();
            async move { pending.take().await }
        });
        tokio::task::yield_now().await;
        pending.mark(&name(1));
        assert_eq!(waiting.await.unwrap(), Changes::Of([name(1)].into()));
    }
}
