//! What a CA's problem document (RFC 7807, RFC 8555 section 6.7) means for us.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{away, order_list::links};
use crate::error::{CaState, Error, ErrorKind};

/// A problem document as far as it is of use.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Problem {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    subproblems: Vec<Subproblem>,
    /// Where somebody can do something about it (RFC 8555 section 7.3.3).
    instance: Option<String>,
    /// The CA's terms of service, where the answer names them.
    #[serde(skip)]
    terms: Option<String>,
}

/// What is wrong with one identifier (RFC 8555 section 6.7.1).
#[derive(Debug, Clone, Deserialize)]
struct Subproblem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    detail: String,
    identifier: Option<Named>,
}

#[derive(Debug, Clone, Deserialize)]
struct Named {
    value: String,
}

/// The prefix of every ACME error type.
const ACME: &str = "urn:ietf:params:acme:error:";
/// The longest text of a problem, in bytes: it goes to `vaultctl` in an HTTP header, where a hundred
/// names, each with its reason, have to fit.
const LONGEST: usize = 3000;
/// The longest detail of one identifier's problem, in bytes, where there are several.
const LONGEST_DETAIL: usize = 400;

impl Problem {
    /// Reads a problem document; `None` where the body is none.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let problem: Self = serde_json::from_slice(body).ok()?;
        (!problem.kind.is_empty() || !problem.detail.is_empty()).then_some(problem)
    }

    /// With what the answer's headers say besides.
    pub(super) fn with_headers(mut self, headers: &HeaderMap) -> Self {
        self.terms = links(headers, "terms-of-service").next().map(str::to_owned);
        self
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.short() == kind
    }

    /// Its ACME error type; empty where it has none.
    pub(super) fn short(&self) -> &str {
        self.kind.strip_prefix(ACME).unwrap_or("")
    }

    /// Everything it says, with the names it concerns.
    pub(super) fn text(&self) -> String {
        let mut text = said(&self.detail, &self.kind);
        for sub in &self.subproblems {
            let name = sub.identifier.as_ref().map_or("?", |identifier| &identifier.value);
            let detail = shown(&said(&sub.detail, &sub.kind), longest_of(self.subproblems.len()));
            text.push_str(&format!("; {name}: {detail}"));
        }
        if self.is("userActionRequired") {
            let places =
                [("its terms of service", &self.terms), ("its instructions", &self.instance)];
            for (what, url) in places {
                if let Some(url) = url {
                    text.push_str(&format!("; {what}: {url}"));
                }
            }
        }
        shown(&text, LONGEST)
    }

    /// As a domain error of a CA that was asked.
    pub(super) fn into_error(
        self,
        ca: &str,
        status: StatusCode,
        retry_after: Option<Duration>,
    ) -> Error {
        let (kind, hint) = reaction(self.short(), status);
        let mut error = Error::new(kind, "ask", ca, self.text()).hint(hint);
        error.retry_after = retry_after;
        error.ca = match kind {
            _ if self.is("orderNotReady") => Some(CaState::NotReady),
            ErrorKind::Unavailable => Some(CaState::Away),
            _ => None,
        };
        error
    }
}

impl From<&instant_acme::Problem> for Problem {
    fn from(problem: &instant_acme::Problem) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let named = |identifier: &instant_acme::Identifier| Named {
            value: identifier.clone().authorized(false).to_string(),
        };
        let sub = |sub: &instant_acme::Subproblem| Subproblem {
            kind: text(&sub.r#type),
            detail: text(&sub.detail),
            identifier: sub.identifier.as_ref().map(named),
        };
        Self {
            kind: text(&problem.r#type),
            detail: text(&problem.detail),
            subproblems: problem.subproblems.iter().map(sub).collect(),
            instance: None,
            terms: None,
        }
    }
}

/// How long the detail of one of so many identifiers may be, so that each has its place.
fn longest_of(identifiers: usize) -> usize {
    (LONGEST / identifiers.max(1)).clamp(40, LONGEST_DETAIL)
}

/// What the CA says and of which type that is.
fn said(detail: &str, kind: &str) -> String {
    match kind.strip_prefix(ACME).unwrap_or(kind) {
        "" => detail.to_owned(),
        short => format!("{detail} ({short})"),
    }
}

/// A CA's text as a terminal may have it: on one line, without what would change how it is shown, and
/// no longer than this.
pub(super) fn shown(text: &str, longest: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: char| if c.is_control() || turns(c) { ' ' } else { c };
    let mut text: String = text.chars().map(plain).collect();
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
    }
    text
}

/// What kind of failure an ACME error type is, and what to do about it (RFC 8555 section 6.7).
pub(super) fn reaction(short: &str, status: StatusCode) -> (ErrorKind, &'static str) {
    use ErrorKind::{Conflict, Exhausted, Invalid, NotFound, Unavailable, Verification};
    match short {
        "rateLimited" => (Exhausted, "the CA's rate limit is reached: wait"),
        "externalAccountRequired" => (
            Invalid,
            "this CA binds accounts: pass --eab-kid and --eab-hmac-file as it has issued them",
        ),
        "userActionRequired" => (
            Invalid,
            "read what the CA names; `vaultctl account agree NAME` agrees to new terms, and where it \
             gives instructions, visit them",
        ),
        "accountDoesNotExist" => {
            (NotFound, "the CA does not know this account key: register the account")
        }
        "unauthorized" | "incorrectResponse" => (
            Verification,
            "the CA did not get the expected answer, or the account may not: check that the names \
             lead to the agents, and the account's status",
        ),
        "connection" | "dns" | "tls" => (
            Verification,
            "the CA could not reach the name: check DNS, firewall and the challenge's port",
        ),
        "caa" => (
            Verification,
            "a CAA record forbids this CA for the name: add one that allows it, or order elsewhere",
        ),
        "rejectedIdentifier" => {
            (Invalid, "the CA issues nothing for this name: order without it, or at another CA")
        }
        "unsupportedIdentifier" => {
            (Invalid, "the CA does not issue for this kind of name: order without it, or elsewhere")
        }
        "badCSR" => (
            Invalid,
            "the CA does not take the request: another --algorithm or no --must-staple may help",
        ),
        "badPublicKey" => (
            Invalid,
            "the CA does not take this key: `vaultctl account rollover NAME --algorithm`, or of a \
             certificate another --algorithm",
        ),
        "badSignatureAlgorithm" => (
            Invalid,
            "the CA does not take the account key's algorithm: register or roll over with ec-p256, \
             which every CA takes",
        ),
        "unsupportedContact" | "invalidContact" => {
            (Invalid, "the CA does not take a contact: `vaultctl account update NAME --contact`")
        }
        "badRevocationReason" => (Invalid, "the CA does not take this reason: choose another"),
        "malformed" | "invalidProfile" => {
            (Invalid, "the CA does not take this request: change what it names")
        }
        "badNonce" => (Unavailable, "the CA takes none of its own nonces: it is tried again"),
        "orderNotReady" => (Unavailable, "the CA is not ready yet: it is asked again"),
        _ if status.is_server_error() => {
            (Unavailable, "the CA has a problem of its own: it is tried again")
        }
        _ if status == StatusCode::TOO_MANY_REQUESTS => {
            (Exhausted, "the CA asks to slow down: wait")
        }
        _ => (Conflict, "see what the CA says"),
    }
}

/// Why the names of an order were not proven: each with its own reason, else what is said of the order.
pub(super) fn unproven(mut names: Vec<(String, Problem)>, order: Option<Problem>) -> Error {
    let hint = |problem: &Problem| match reaction(problem.short(), StatusCode::FORBIDDEN) {
        (ErrorKind::Verification, hint) => hint,
        _ => {
            "the CA could not validate: check that the name leads to an agent that presents the \
              challenge"
        }
    };
    let refused = |subject: &str, why: String| Error::verification("prove control", subject, why);
    let last = names.pop();
    match (last, order) {
        (Some((name, problem)), _) if names.is_empty() => {
            refused(&name, problem.text()).hint(hint(&problem))
        }
        (Some(last), _) => {
            names.push(last);
            let one = |(name, problem): &(String, Problem)| {
                format!("{name}: {}", shown(&problem.text(), longest_of(names.len())))
            };
            let all: Vec<_> = names.iter().map(one).collect();
            let subject = format!("{} of the order's names", names.len());
            refused(&subject, shown(&all.join("; "), LONGEST)).hint(
                "each name has its own reason: check DNS, firewall, CAA, and that each leads to an \
                 agent that presents the challenge",
            )
        }
        (None, Some(problem)) => refused("the order's names", problem.text()).hint(hint(&problem)),
        (None, None) => refused("the order's names", "the CA does not say why".to_owned())
            .hint(hint(&Problem::default())),
    }
}

/// A failed response that is no problem document.
pub(super) fn plain(ca: &str, status: StatusCode, retry_after: Option<Duration>) -> Error {
    let mut error = match status {
        StatusCode::TOO_MANY_REQUESTS => Error::exhausted("ask", ca, "HTTP 429"),
        status => away(ca, format!("HTTP {status} and no explanation"))
            .hint("check that the URL is an ACME directory, and the CA's health"),
    };
    error.retry_after = retry_after;
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_identifiers_it_concerns() {
        let body = br#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no",
            "subproblems":[{"type":"x","detail":"forbidden","identifier":{"type":"dns",
            "value":"a.example"}}]}"#;
        let problem = Problem::parse(body).unwrap();
        let error = problem.into_error("the CA", StatusCode::FORBIDDEN, None);
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.why.contains("a.example: forbidden"), "{}", error.why);
    }

    #[test]
    fn every_subproblem_is_told_with_its_name_and_type() {
        let sub = |n: usize| {
            serde_json::json!({ "type": format!("{ACME}caa"), "detail": format!("no {n}"),
                "identifier": { "type": "dns", "value": format!("n{n}.example") } })
        };
        let subs: Vec<_> = (0..100).map(sub).collect();
        let problem = serde_json::json!({ "type": format!("{ACME}compound"), "detail": "several",
            "subproblems": subs });
        let text = Problem::parse(problem.to_string().as_bytes()).unwrap().text();
        for n in 0..100 {
            assert!(text.contains(&format!("; n{n}.example: no {n} (caa)")), "{n}: {text}");
        }
    }

    #[test]
    fn what_a_ca_says_does_nothing_to_a_terminal_and_has_an_end() {
        let bad = "\u{1b}[2J\r\nok\u{202e}txt\u{7}\u{9b}31m";
        let body = serde_json::json!({ "type": bad, "detail": bad.repeat(2000), "instance": bad,
            "subproblems": [{ "detail": bad, "identifier": { "type": "dns", "value": bad } }] });
        let text = Problem::parse(body.to_string().as_bytes()).unwrap().text();
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(text.contains("oktxt") || text.contains("ok txt"), "{text:?}");
        assert!(text.len() <= LONGEST + '…'.len_utf8() && text.ends_with('…'), "{}", text.len());
    }

    #[test]
    fn who_has_to_agree_is_told_to_what() {
        let mut headers = HeaderMap::new();
        let terms = "<https://ca.example/terms>;rel=\"terms-of-service\"";
        headers.append(http::header::LINK, terms.parse().unwrap());
        let body = br#"{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"new",
            "instance":"https://ca.example/agree"}"#;
        let problem = Problem::parse(body).unwrap().with_headers(&headers);
        let error = problem.into_error("the CA", StatusCode::FORBIDDEN, None);
        for said in ["https://ca.example/terms", "https://ca.example/agree"] {
            assert!(error.why.contains(said), "{}", error.why);
        }
        assert!(error.hint.contains("vaultctl account agree NAME"), "{}", error.hint);
    }

    #[test]
    fn what_can_be_tried_again_says_so() {
        let table = [
            ("rateLimited", 429, ErrorKind::Exhausted),
            ("serverInternal", 500, ErrorKind::Unavailable),
            ("unauthorized", 403, ErrorKind::Verification),
            ("externalAccountRequired", 403, ErrorKind::Invalid),
            ("userActionRequired", 403, ErrorKind::Invalid),
            ("accountDoesNotExist", 400, ErrorKind::NotFound),
            ("badCSR", 400, ErrorKind::Invalid),
            ("badPublicKey", 400, ErrorKind::Invalid),
            ("badSignatureAlgorithm", 400, ErrorKind::Invalid),
            ("badRevocationReason", 400, ErrorKind::Invalid),
            ("caa", 403, ErrorKind::Verification),
            ("rejectedIdentifier", 403, ErrorKind::Invalid),
            ("unsupportedIdentifier", 400, ErrorKind::Invalid),
            ("invalidContact", 400, ErrorKind::Invalid),
            ("unsupportedContact", 400, ErrorKind::Invalid),
            ("orderNotReady", 403, ErrorKind::Unavailable),
            ("badNonce", 400, ErrorKind::Unavailable),
            ("whatever", 503, ErrorKind::Unavailable),
        ];
        for (kind, status, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(reaction(kind, status).0, expected, "{kind}");
        }
    }

    #[test]
    fn garbage_is_no_problem_document() {
        for body in ["", "<html>", "[]", "{}", "42"] {
            assert!(Problem::parse(body.as_bytes()).is_none(), "{body}");
        }
    }
}
