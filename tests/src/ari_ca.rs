//! A CA that says when to renew (RFC 9773) and offers profiles (draft-aaron-acme-profiles): a real Pebble
//! behind a proxy that has these two skills.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use http::{HeaderMap, header::LOCATION};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use x509_cert::{der::Decode as _, ext::pkix::AuthorityKeyIdentifier};

use crate::fault_ca::{Answer, FaultCa, Place, Seen, Skill};
use crate::pebble::Pebble;

/// A window: from when, and by when to renew.
pub type Window = (OffsetDateTime, OffsetDateTime);

/// An order that it has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The id of the certificate that it replaces.
    pub replaces: Option<String>,
    /// The profile that it asks for.
    pub profile: Option<String>,
}

/// The CA.
pub struct AriCa {
    /// What it is built on: it can fail, too.
    pub proxy: FaultCa,
    mind: Arc<Mind>,
}

#[derive(Default)]
struct Mind {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The ids of what it has issued, in that order.
    issued: Vec<String>,
    window: Option<Window>,
    /// Windows of their own.
    windows: BTreeMap<String, Window>,
    explanation: Option<String>,
    retry_after: Option<u32>,
    /// Whom it was asked about.
    asked: Vec<String>,
    profiles: BTreeMap<String, String>,
    placed: Vec<Placed>,
    /// Orders by their path.
    orders: BTreeMap<String, Placed>,
    /// The order by which a certificate is replaced.
    replaced: BTreeMap<String, String>,
    /// What was refused for being replaced already.
    refused: BTreeSet<String>,
}

/// The id of a certificate (RFC 9773 section 4.1), from a chain in PEM.
///
/// # Panics
/// Where it has none.
pub fn certificate_id(chain: &str) -> String {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM");
    let leaf = x509_cert::Certificate::from_der(&leaf).expect("a certificate");
    let tbs = leaf.tbs_certificate();
    let (_, authority) =
        tbs.get_extension::<AuthorityKeyIdentifier>().expect("extensions").expect("an AKI");
    let key = authority.key_identifier.expect("a key identifier");
    format!("{}.{}", B64.encode(key.as_bytes()), B64.encode(tbs.serial_number().as_bytes()))
}

impl AriCa {
    /// In front of this Pebble; certificates are to be renewed in a month, and it offers the profiles
    /// `classic` and `shortlived`.
    pub fn before(pebble: &Pebble) -> Self {
        let (proxy, mind) = (FaultCa::before(pebble), Arc::new(Mind::default()));
        proxy.learn(mind.clone());
        let ca = Self { proxy, mind };
        let now = OffsetDateTime::now_utc();
        ca.suggest((now + Duration::days(30), now + Duration::days(31)));
        ca.offer_profiles(&["classic", "shortlived"]);
        ca
    }

    /// Says this of every certificate from now on that it says nothing else of.
    pub fn suggest(&self, window: Window) {
        self.mind.state().window = Some(window);
    }

    /// Wants everything replaced that it has issued so far, and explains it there.
    pub fn recall(&self, explanation: &str) {
        let now = OffsetDateTime::now_utc();
        let mut state = self.mind.state();
        let past = (now - Duration::hours(2), now - Duration::hours(1));
        state.windows = state.issued.iter().map(|id| (id.clone(), past)).collect();
        state.explanation = Some(explanation.to_owned());
    }

    /// Wants to be asked again after so many seconds.
    pub fn retry_after(&self, seconds: u32) {
        self.mind.state().retry_after = Some(seconds);
    }

    /// Offers these profiles and no other.
    pub fn offer_profiles(&self, names: &[&str]) {
        let profile = |name: &&str| ((*name).to_owned(), format!("The profile \u{1b}[31m{name}"));
        self.mind.state().profiles = names.iter().map(profile).collect();
    }

    /// The ids of the certificates that it was asked about, in that order.
    pub fn asked(&self) -> Vec<String> {
        self.mind.state().asked.clone()
    }

    /// The ids of the certificates that it has issued, in that order.
    pub fn issued(&self) -> Vec<String> {
        self.mind.state().issued.clone()
    }

    /// The orders that it has taken, in that order.
    pub fn placed(&self) -> Vec<Placed> {
        self.mind.state().placed.clone()
    }

    /// The ids of certificates of which it has refused that they are replaced once more.
    pub fn refused(&self) -> BTreeSet<String> {
        self.mind.state().refused.clone()
    }
}

impl Mind {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// RFC 9773 section 4.2.
    fn renewal_info(&mut self, id: &str) -> Answer {
        self.asked.push(id.to_owned());
        if !self.issued.iter().any(|issued| issued == id) {
            return Answer::problem(404, "malformed", "no such certificate");
        }
        let of_its_own = self.windows.get(id).copied();
        let (start, end) = of_its_own.or(self.window).expect("a window");
        let text = |at: OffsetDateTime| at.format(&Rfc3339).expect("a time");
        let mut info = json!({ "suggestedWindow": { "start": text(start), "end": text(end) } });
        if let Some(explanation) = &self.explanation {
            info["explanationURL"] = explanation.clone().into();
        }
        let answer = Answer::document(200, &info);
        match self.retry_after {
            Some(seconds) => answer.header("retry-after", &seconds.to_string()),
            None => answer,
        }
    }

    /// What is wrong with an order.
    fn refuse(&mut self, order: &Value) -> Option<Answer> {
        let asked = order["profile"].as_str();
        if let Some(profile) = asked.filter(|profile| !self.profiles.contains_key(*profile)) {
            let why = format!("there is no profile {profile}");
            return Some(Answer::problem(400, "invalidProfile", &why));
        }
        let id = order["replaces"].as_str()?.to_owned();
        if !self.issued.contains(&id) {
            return Some(Answer::problem(400, "malformed", "no such certificate to replace"));
        }
        self.replaced.contains_key(&id).then(|| {
            self.refused.insert(id);
            Answer::problem(409, "alreadyReplaced", "another order replaces it")
        })
    }

    fn take(&mut self, order: &Value, path: String) {
        let text = |name: &str| order[name].as_str().map(str::to_owned);
        let placed = Placed { replaces: text("replaces"), profile: text("profile") };
        if let Some(id) = &placed.replaces {
            self.replaced.insert(id.clone(), path.clone());
        }
        self.placed.push(placed.clone());
        self.orders.insert(path, placed);
    }

    /// An order with what Pebble does not know of it.
    fn whole(&mut self, path: &str, given: &str) -> String {
        let mut order: Value = serde_json::from_str(given).expect("an order");
        if order["status"] == "invalid" {
            self.replaced.retain(|_, by| by != path);
        }
        if let Some(placed) = self.orders.get(path) {
            for (name, value) in [("replaces", &placed.replaces), ("profile", &placed.profile)] {
                if let Some(value) = value {
                    order[name] = value.clone().into();
                }
            }
        }
        order.to_string()
    }
}

fn is(seen: &Seen, place: Place) -> bool {
    seen.path.starts_with(place.path())
}

fn path_of(url: &str) -> String {
    url.parse::<http::Uri>().expect("a URL").path().to_owned()
}

impl Skill for Mind {
    fn instead(&self, seen: &Seen) -> Option<Answer> {
        if is(seen, Place::RenewalInfo) {
            let id = seen.path.trim_start_matches(Place::RenewalInfo.path());
            return Some(self.state().renewal_info(id));
        }
        if !is(seen, Place::NewOrder) {
            return None;
        }
        let refusal = self.state().refuse(&seen.payload())?;
        // Pebble has not seen the nonce: it is as good as a new one.
        let nonce = seen.header()["nonce"].as_str().expect("a nonce").to_owned();
        Some(refusal.header("replay-nonce", &nonce))
    }

    fn after(&self, seen: &Seen, headers: &HeaderMap, given: String) -> String {
        let mut state = self.state();
        if is(seen, Place::Directory) {
            let mut directory: Value = serde_json::from_str(&given).expect("a directory");
            let nonces = directory["newNonce"].as_str().expect("newNonce").to_owned();
            let base = nonces.trim_end_matches(&path_of(&nonces)).to_owned();
            let info = Place::RenewalInfo.path().trim_end_matches('/');
            directory["renewalInfo"] = format!("{base}{info}").into();
            directory["meta"]["profiles"] = json!(state.profiles);
            directory["meta"]["website"] = "https://ca.example/".into();
            return directory.to_string();
        }
        if is(seen, Place::NewOrder) {
            let location = headers.get(LOCATION).and_then(|at| at.to_str().ok());
            let path = path_of(location.expect("an order's URL"));
            state.take(&seen.payload(), path.clone());
            return state.whole(&path, &given);
        }
        if is(seen, Place::Order) {
            return state.whole(&seen.path, &given);
        }
        if is(seen, Place::Certificate) {
            let id = certificate_id(&given);
            if !state.issued.contains(&id) {
                state.issued.push(id);
            }
        }
        given
    }
}
