//! CRLs that were fetched: each once for a while, however many certificates are on it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use time::OffsetDateTime;
use vault_revocation::{Crl, Issued, Status};

use super::fetch::Fetch;

/// How many bytes of CRLs are kept.
const MOST_BYTES: u64 = 64 << 20;
/// How many CRLs are expected.
const EXPECTED: usize = 256;
/// What keeping a failure costs, in bytes.
const LEAST_WEIGHT: u64 = 1 << 10;

/// What came of asking for a CRL.
type Outcome = Result<Arc<Crl>, String>;

#[derive(Clone)]
struct BySize;

impl<K> Weighter<K, Outcome> for BySize {
    fn weight(&self, _: &K, outcome: &Outcome) -> u64 {
        let size = outcome.as_ref().map_or(0, |crl| crl.size());
        u64::try_from(size).unwrap_or(u64::MAX).max(LEAST_WEIGHT)
    }
}

/// The CRLs.
pub(super) struct Crls {
    fetch: Fetch,
    /// How long an outcome stands before the CA is asked again.
    lasts: Duration,
    /// By address and the stretch of time in which it was asked for.
    asked: Cache<(String, i64), Outcome, BySize>,
    /// The newest by address, for when there is no newer.
    newest: Cache<String, Outcome, BySize>,
}

impl Crls {
    pub(super) fn new(fetch: Fetch, lasts: Duration) -> Self {
        Self { fetch, lasts, asked: cache(), newest: cache() }
    }

    /// What the newest CRL says of a certificate that is to be had and holds.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn status(
        &self,
        url: &str,
        issued: &Issued,
        now: OffsetDateTime,
    ) -> Result<Status, String> {
        let stretch = i64::try_from(self.lasts.as_secs().max(1)).unwrap_or(i64::MAX);
        let key = (url.to_owned(), now.unix_timestamp() / stretch);
        let asked = self
            .asked
            .get_or_insert_async(&key, async { Ok::<_, Infallible>(self.fetched(url).await) })
            .await;
        let asked = match asked {
            Ok(outcome) => outcome,
            Err(never) => match never {},
        };
        let said = match &asked {
            Ok(crl) => said_by(crl, issued, now).await,
            Err(why) => Err(why.clone()),
        };
        let before = self.newest.get(url).and_then(Result::ok);
        match (said, asked, before) {
            // An older one than before hides what came since.
            (Ok(_), Ok(crl), Some(before)) if before.this_update() > crl.this_update() => {
                said_by(&before, issued, now).await
            }
            // Only what holds takes the place of what held.
            (Ok(status), Ok(crl), _) => {
                self.newest.insert(url.to_owned(), Ok(crl));
                Ok(status)
            }
            (Ok(status), Err(_), _) => Ok(status),
            (Err(why), _, Some(before)) => said_by(&before, issued, now).await.map_err(|_| why),
            (Err(why), _, None) => Err(why),
        }
    }

    async fn fetched(&self, url: &str) -> Outcome {
        let der = self.fetch.crl(url).await?;
        let parsed = tokio::task::spawn_blocking(move || Crl::parse(&der)).await;
        let parsed = parsed.map_err(|e| e.to_string())?;
        parsed.map(Arc::new).map_err(|e| format!("it cannot be used: {e}"))
    }
}

/// What a CRL says, aside: its signature is over all of a long list.
async fn said_by(crl: &Arc<Crl>, issued: &Issued, now: OffsetDateTime) -> Result<Status, String> {
    let (crl, issued) = (crl.clone(), issued.clone());
    let status = tokio::task::spawn_blocking(move || crl.status(&issued, now)).await;
    status.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// A cache of one part, so that all of its bytes are one CRL's if need be.
fn cache<K: std::hash::Hash + Eq + Clone>() -> Cache<K, Outcome, BySize> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity(EXPECTED)
        .weight_capacity(MOST_BYTES)
        .shards(1)
        .build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            BySize,
            quick_cache::DefaultHashBuilder::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ),
        Err(_) => Cache::with_weighter(EXPECTED, MOST_BYTES, BySize),
    }
}
