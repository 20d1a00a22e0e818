//! What is known of one certificate here between two looks at its files: whether there is anything to do.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;
use vault_proto::v1::WantedCertificate;

use crate::error::Error;

/// The longest pause between attempts at the same version.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How one certificate stands.
pub(super) struct Standing {
    wanted: Arc<WantedCertificate>,
    /// The version and connection of the last report.
    reported: Option<(u64, u64)>,
    failed: Option<Failed>,
    /// Whether all was well when its files were looked at for what is wanted now.
    settled: bool,
}

struct Failed {
    version: u64,
    /// A web server may need the staple that was not there yet.
    stapled: bool,
    why: String,
    again_at: Instant,
    pauses: ExponentialBackoff,
}

impl Failed {
    /// Whether what is wanted is what has failed.
    fn is_of(&self, wanted: &WantedCertificate) -> bool {
        self.version == wanted.version && self.stapled != wanted.ocsp_response.is_empty()
    }
}

/// Pauses between attempts at the same version: half a minute to an hour.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_secs(30))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Standing {
    /// One that nobody has looked at.
    pub(super) fn new(wanted: Arc<WantedCertificate>) -> Self {
        Self { wanted, reported: None, failed: None, settled: false }
    }

    /// What shall be here.
    pub(super) fn wanted(&self) -> &Arc<WantedCertificate> {
        &self.wanted
    }

    /// Something else shall be here.
    pub(super) fn want(&mut self, wanted: Arc<WantedCertificate>) {
        self.settled &= is_installed_alike(&self.wanted, &wanted);
        self.wanted = wanted;
    }

    /// Whether nothing has to be done now, as far as is known without a look at the files.
    pub(super) fn rests(&self, connection: u64, now: Instant) -> bool {
        self.is_reported_on(connection)
            && match &self.failed {
                Some(_) => self.failed_lately(now).is_some(),
                None => self.settled,
            }
    }

    /// Whether what became of the wanted version was said on a connection.
    pub(super) fn is_reported_on(&self, connection: u64) -> bool {
        self.reported == Some((self.wanted.version, connection))
    }

    /// What became of the wanted version is said on a connection.
    pub(super) fn report_on(&mut self, connection: u64) {
        self.reported = Some((self.wanted.version, connection));
    }

    /// Why what is wanted has failed, where it is not to be tried again yet.
    pub(super) fn failed_lately(&self, now: Instant) -> Option<&str> {
        let failed = self.failed.as_ref().filter(|failed| failed.is_of(&self.wanted))?;
        (now < failed.again_at).then_some(failed.why.as_str())
    }

    /// When what has failed is tried again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.failed.as_ref().map(|failed| failed.again_at)
    }

    /// All is well.
    pub(super) fn settle(&mut self) {
        (self.failed, self.settled) = (None, true);
    }

    /// Nothing is known of the files any more.
    pub(super) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// What is wanted has failed: each time it is left alone for longer.
    pub(super) fn fail(&mut self, why: &Error) {
        let (version, stapled) = (self.wanted.version, !self.wanted.ocsp_response.is_empty());
        let same = self.failed.take().filter(|failed| failed.version == version);
        let mut pauses = same.map_or_else(pauses, |failed| failed.pauses);
        let again_at = Instant::now() + pauses.next().unwrap_or(LONGEST_PAUSE);
        self.failed = Some(Failed { version, stapled, why: why.to_string(), again_at, pauses });
    }
}

/// Whether the same is to be in place for both: that a CSR is wanted is others' work.
fn is_installed_alike(one: &WantedCertificate, other: &WantedCertificate) -> bool {
    let WantedCertificate {
        name,
        version,
        custody,
        chain_pem,
        tls_keys,
        ocsp_response,
        csr_wanted: _,
    } = one;
    (name, version, custody) == (&other.name, &other.version, &other.custody)
        && (chain_pem, tls_keys) == (&other.chain_pem, &other.tls_keys)
        && ocsp_response == &other.ocsp_response
}

#[cfg(test)]
mod tests {
    use vault_proto::v1::CsrWanted;

    use super::*;

    fn wanted(version: u64) -> WantedCertificate {
        WantedCertificate { name: "shop".to_owned(), version, ..Default::default() }
    }

    #[test]
    fn what_is_settled_rests_until_something_else_is_to_be_in_place_or_another_connection_asks() {
        let now = Instant::now();
        let mut standing = Standing::new(Arc::new(wanted(1)));
        assert!(!standing.rests(1, now));
        standing.report_on(1);
        standing.settle();
        assert!(standing.rests(1, now));
        assert!(!standing.rests(2, now), "the vault asks anew");
        let csr = WantedCertificate { csr_wanted: Some(CsrWanted::default()), ..wanted(1) };
        standing.want(Arc::new(csr));
        assert!(standing.rests(1, now), "a CSR is others' work");
        standing.want(Arc::new(WantedCertificate { ocsp_response: vec![1], ..wanted(1) }));
        assert!(!standing.rests(1, now), "a staple");
        standing.settle();
        standing.want(Arc::new(wanted(2)));
        assert!(!standing.rests(1, now), "a version");
    }

    #[test]
    fn what_has_failed_rests_for_a_while_each_time_longer() {
        let mut standing = Standing::new(Arc::new(wanted(1)));
        standing.report_on(1);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let before = Instant::now();
            standing.fail(&Error::invalid("install", "certificate shop", "nginx -t"));
            let again_at = standing.again_at().unwrap();
            pauses.push(again_at - before);
            assert!(standing.rests(1, before) && !standing.rests(1, again_at));
        }
        assert!(pauses.is_sorted(), "{pauses:?}");
        standing.want(Arc::new(WantedCertificate { ocsp_response: vec![1], ..wanted(1) }));
        assert!(!standing.rests(1, Instant::now()), "it has a staple now");
        standing.want(Arc::new(wanted(1)));
        assert!(standing.rests(1, Instant::now()), "it is what has failed");
        standing.settle();
        assert_eq!(standing.again_at(), None);
    }
}
