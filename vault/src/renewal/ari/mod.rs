//! Asks CAs when they want certificates renewed (ACME Renewal Information, RFC 9773), and renews then.
//!
//! `select` and `schedule` decide, as pure functions; `place` tells CAs what an order replaces; `plan` says
//! it to people. What a CA says can make a renewal sooner, or later within bounds; where it says nothing,
//! or nothing that makes sense, a part of the lifetime decides as ever.

mod place;
mod plan;
mod schedule;
pub mod select;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration as StdDuration,
};

use futures_util::StreamExt as _;
use time::{Duration, OffsetDateTime};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use vault_proto::ids::{AccountName, CertificateName};

use self::plan::window_of;
use self::select::Bounds;
use super::planner::{self, Window};
use super::{Issuer, restored};
use crate::acme::{RenewalInfo, RenewalInfoClient};
use crate::error::{Error, ErrorKind, Result};
use crate::fault::crash_point;
use crate::store::{AccountRecord, AlertKind, RenewalInfoRecord, VersionRecord};
use crate::x509::chain::Chain;

pub use plan::{RenewalPlan, RenewalReason};

/// How often it is looked for whom to ask about: far below the shortest pause that a CA may want.
const LOOK: StdDuration = StdDuration::from_secs(5);
/// How many of an account's certificates are asked about before it is looked again.
const BATCH: u32 = 64;
/// How many of an account's are asked about at once.
const AT_ONCE: usize = 4;
/// So many are asked about one by one: where all of these fail, the CA is away, and the others are not
/// asked about in vain.
const ALONE: usize = 3;
/// How long a CA's directory counts.
const DIRECTORY: Duration = Duration::hours(1);

/// Asks CAs when to renew. Cheap to clone.
#[derive(Clone)]
pub struct Ari {
    issuer: Issuer,
    /// Wakes the runner: something is due.
    wake: Arc<Notify>,
    clients: Arc<Mutex<HashMap<AccountName, Known>>>,
}

/// Where a CA says it, if it does, and until when that counts.
#[derive(Clone)]
struct Known {
    client: Option<RenewalInfoClient>,
    until: OffsetDateTime,
}

/// A version that is asked about, and what is known of it.
struct Subject {
    version: VersionRecord,
    chain: Chain,
    known: Option<RenewalInfoRecord>,
    /// The same for the same version and count of answers; spread over all.
    seed: u64,
}

impl Ari {
    /// Over these parts; `wake` wakes the runner.
    pub fn new(issuer: Issuer, wake: Arc<Notify>) -> Self {
        Self { issuer, wake, clients: Arc::default() }
    }

    /// Asks whenever it is time to, until `stop`: one account's CA never waits for another's.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut rounds = JoinSet::new();
        let mut busy = HashSet::new();
        while !stop.is_cancelled() {
            match self.issuer.store.accounts().await {
                Ok(accounts) => {
                    for account in accounts {
                        if account.url.is_some() && busy.insert(account.name.clone()) {
                            rounds.spawn(self.clone().ask_all(account));
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "whom to ask when to renew cannot be read"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            while let Some(done) = rounds.try_join_next() {
                match done {
                    Ok(name) => drop(busy.remove(&name)),
                    Err(error) => {
                        tracing::error!(%error, "asking when to renew has ended");
                        busy.clear();
                    }
                }
            }
        }
        // What is under way is asked again at the next start.
        rounds.shutdown().await;
    }

    /// Asks about an account's certificates that it is time for; answers its name.
    async fn ask_all(self, account: AccountRecord) -> AccountName {
        if let Err(error) = self.round(&account).await {
            tracing::warn!(account = %account.name, %error, "a CA is asked later when to renew");
        }
        account.name
    }

    async fn round(&self, account: &AccountRecord) -> Result<()> {
        let (store, now) = (self.issuer.store.as_ref(), self.issuer.clock.now());
        let due = store.renewal_info_due(&account.name, now, BATCH).await?;
        // What was missed is caught up on first, lest both order the same anew.
        if due.is_empty() || restored::awaits(store, account).await? {
            return Ok(());
        }
        let (first, rest) = due.split_at(due.len().min(ALONE));
        let client = self.client(account).await;
        let mut failures = Vec::new();
        for name in first {
            let done = match &client {
                Ok(client) => self.check(name, client.as_ref()).await,
                Err(error) => self.check_failed(name, error).await.map(|()| None),
            };
            match done {
                Ok(failure) => failures.extend(failure),
                // What is wrong with one keeps nobody else waiting.
                Err(error) => {
                    tracing::warn!(certificate = %name, %error, "asked later when to renew")
                }
            }
        }
        let away = failures.pop().filter(|_| failures.len() + 1 == ALONE);
        let (client, away) = (&client, &away);
        let others = futures_util::stream::iter(rest);
        others
            .for_each_concurrent(AT_ONCE, |name| async move {
                let done = match (client, away) {
                    (Ok(client), None) => self.check(name, client.as_ref()).await.map(drop),
                    (_, Some(error)) | (Err(error), None) => self.check_failed(name, error).await,
                };
                if let Err(error) = done {
                    tracing::warn!(certificate = %name, %error, "asked later when to renew");
                }
            })
            .await;
        Ok(())
    }

    /// Where an account's CA says when to renew.
    async fn client(&self, account: &AccountRecord) -> Result<Option<RenewalInfoClient>> {
        let now = self.issuer.clock.now();
        let all = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all().get(&account.name).cloned();
        if let Some(known) = known.filter(|known| now < known.until) {
            return Ok(known.client);
        }
        let client = self.issuer.accounts.renewal_infos(account).await?;
        let known = Known { client: client.clone(), until: now + DIRECTORY };
        all().insert(account.name.clone(), known);
        Ok(client)
    }

    /// Asks about one certificate; answers the error of a CA that is away.
    async fn check(
        &self,
        name: &CertificateName,
        client: Option<&RenewalInfoClient>,
    ) -> Result<Option<Error>> {
        let Some(subject) = self.subject(name).await? else { return Ok(None) };
        let asked = match client {
            Some(client) => client.ask(subject.chain.leaf_der()).await,
            None => Ok(None),
        };
        crash_point!("ari.asked");
        match asked {
            Ok(Some(info)) => self.heard(&subject, info).await.map(|()| None),
            Ok(None) => self.not_offered(&subject).await.map(|()| None),
            Err(error) => {
                self.failed(&subject, &error).await?;
                Ok(Some(error).filter(passing))
            }
        }
    }

    async fn check_failed(&self, name: &CertificateName, error: &Error) -> Result<()> {
        match self.subject(name).await? {
            Some(subject) => self.failed(&subject, error).await,
            None => Ok(()),
        }
    }

    async fn subject(&self, name: &CertificateName) -> Result<Option<Subject>> {
        let store = self.issuer.store.as_ref();
        let Some(certificate) = store.certificate(name).await? else { return Ok(None) };
        let version = store.version(name, certificate.current_version).await?;
        let Some(version) = version else { return Ok(None) };
        let known = store.renewal_info(name).await?;
        let known = known.filter(|known| known.version == version.version);
        let chain = Chain::parse(&version.chain_pem)?;
        let failures = known.as_ref().map_or(0, |known| known.failures);
        let seed = planner::seed(&version.fingerprint, failures.into());
        Ok(Some(Subject { version, chain, known, seed }))
    }

    /// The CA has said something that makes sense.
    async fn heard(&self, subject: &Subject, info: RenewalInfo) -> Result<()> {
        let now = self.issuer.clock.now();
        let Some(window) = Window::new(info.start, info.end) else {
            let why = "its renewal window is too short";
            return self.failed(subject, &Error::verification("ask", "a CA", why)).await;
        };
        let name = &subject.version.certificate;
        let before = subject.known.as_ref().and_then(window_of);
        let next = schedule::after_answer(now, info.retry_after, subject.seed);
        let mut record = subject.record(next);
        record.window = Some((window.start, window.end));
        record.explanation_url = info.explanation;
        record.checked_at = Some(now);
        let changed = before != Some(window);
        let mut renew_at = None;
        if changed {
            let chosen = self.chosen(&subject.version, &window, now).await?;
            (record.selected_at, renew_at) = (Some(chosen), Some(chosen));
            // Before it is kept: after a crash it is a change once more.
            self.tell(&record, &window, before, now).await?;
        }
        let kept = self.issuer.store.keep_renewal_info(&record, renew_at, now).await?;
        crash_point!("ari.kept");
        if !kept {
            // It was renewed meanwhile.
            self.issuer.end_ari_early(name).await;
        }
        if let Some(at) = renew_at.filter(|_| kept) {
            tracing::info!(certificate = %name, window_start = %window.start,
                window_end = %window.end, renew_at = %at, "its CA says when to renew");
            self.issuer.hub.changed(name).await;
            self.wake.notify_one();
        }
        Ok(())
    }

    /// When to renew a version for a window that is new.
    async fn chosen(
        &self,
        version: &VersionRecord,
        window: &Window,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime> {
        let versions = self.issuer.store.versions(&version.certificate).await?;
        let issued = versions.iter().filter(|other| other.version <= version.version);
        let issued: Vec<_> =
            issued.map(|other| (other.issued_at, other.not_after - other.not_before)).collect();
        let (not_before, not_after) = (version.not_before, version.not_after);
        let earliest = select::earliest(&issued).unwrap_or(now);
        let bounds = Bounds { earliest, not_before, not_after };
        let name = format!("{}\0{}\0{}", version.fingerprint, window.start, window.end);
        Ok(select::renew_at(window, &bounds, now, planner::seed(&name, version.version)))
    }

    /// Raises the alert where the CA wants a certificate gone; ends it where it wants that no longer.
    async fn tell(
        &self,
        record: &RenewalInfoRecord,
        window: &Window,
        before: Option<Window>,
        now: OffsetDateTime,
    ) -> Result<()> {
        if !window.is_early(before, now) {
            self.issuer.end_ari_early(&record.certificate).await;
            return Ok(());
        }
        let mut detail = format!(
            "its CA wants version {} renewed between {} and {}",
            record.version, window.start, window.end
        );
        if let Some(before) = before {
            detail
                .push_str(&format!(", not between {} and {} as before", before.start, before.end));
        }
        if let Some(url) = &record.explanation_url {
            detail.push_str(&format!(": {url}"));
        }
        let subject = format!("certificate {}", record.certificate);
        self.issuer.alerts.raise(AlertKind::AriEarly, &subject, &detail).await
    }

    /// The CA does not offer to say it, of this certificate or of any.
    async fn not_offered(&self, subject: &Subject) -> Result<()> {
        let now = self.issuer.clock.now();
        let record = subject.record(schedule::after_answer(now, None, subject.seed));
        let record = RenewalInfoRecord { checked_at: Some(now), ..record };
        self.issuer.store.keep_renewal_info(&record, None, now).await.map(drop)
    }

    /// What was planned stays.
    async fn failed(&self, subject: &Subject, error: &Error) -> Result<()> {
        let now = self.issuer.clock.now();
        let failures = subject.known.as_ref().map_or(0, |known| known.failures).saturating_add(1);
        let next =
            schedule::after_failure(now, failures, passing(error), error.retry_after, subject.seed);
        let name = &subject.version.certificate;
        match failures {
            1 => tracing::warn!(certificate = %name, %error, next_check_at = %next,
                "its CA does not say when to renew"),
            _ => tracing::debug!(certificate = %name, %error, failures, next_check_at = %next,
                "its CA does not say when to renew"),
        }
        let record = RenewalInfoRecord { failures, ..subject.record(next) };
        self.issuer.store.keep_renewal_info(&record, None, now).await.map(drop)
    }
}

impl Subject {
    /// What is known of it, without failures, to be asked about again then.
    fn record(&self, next_check_at: OffsetDateTime) -> RenewalInfoRecord {
        let known = self.known.clone();
        let new = || RenewalInfoRecord {
            certificate: self.version.certificate.clone(),
            version: self.version.version,
            window: None,
            explanation_url: None,
            selected_at: None,
            checked_at: None,
            next_check_at,
            failures: 0,
            replaces_refused: false,
        };
        RenewalInfoRecord { next_check_at, failures: 0, ..known.unwrap_or_else(new) }
    }
}

impl Issuer {
    /// Ends the alert that a certificate's CA wants it renewed early.
    pub(super) async fn end_ari_early(&self, name: &CertificateName) {
        let subject = format!("certificate {name}");
        if let Err(error) = self.alerts.clear(AlertKind::AriEarly, &subject).await {
            tracing::error!(%error, subject, "an alert cannot be cleared");
        }
    }
}

/// Whether an error may be over soon (RFC 9773 section 4.3.3).
fn passing(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Exhausted)
}
