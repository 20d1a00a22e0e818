//! What a CA's problem document (RFC 7807, RFC 8555 section 6.7) means for us.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::error::{Error, ErrorKind};

/// A problem document as far as it is of use.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Problem {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    subproblems: Vec<Subproblem>,
}

#[derive(Debug, Clone, Deserialize)]
struct Subproblem {
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

impl Problem {
    /// Reads a problem document; `None` where the body is none.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let problem: Self = serde_json::from_slice(body).ok()?;
        (!problem.kind.is_empty() || !problem.detail.is_empty()).then_some(problem)
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix(ACME) == Some(kind)
    }

    /// Everything it says, with the names it concerns.
    fn text(&self) -> String {
        let kind = self.kind.strip_prefix(ACME).unwrap_or(&self.kind);
        let mut text = format!("{} ({kind})", self.detail);
        for sub in &self.subproblems {
            let name = sub.identifier.as_ref().map_or("?", |identifier| &identifier.value);
            text.push_str(&format!("; {name}: {}", sub.detail));
        }
        text.chars().take(2000).collect()
    }

    /// As a domain error of `what` on `subject`.
    pub(super) fn into_error(
        self,
        what: &str,
        subject: &str,
        status: StatusCode,
        retry_after: Option<Duration>,
    ) -> Error {
        let short = self.kind.strip_prefix(ACME).unwrap_or("");
        let (kind, hint) = reaction(short, status);
        let mut error = Error::new(kind, what, subject, self.text()).hint(hint);
        error.retry_after = retry_after;
        error
    }
}

/// What kind of failure an ACME error type is, and what to do about it.
fn reaction(short: &str, status: StatusCode) -> (ErrorKind, &'static str) {
    match short {
        "rateLimited" => (ErrorKind::Exhausted, "the CA's rate limit is reached: wait"),
        "externalAccountRequired" => (
            ErrorKind::Invalid,
            "this CA binds accounts: pass --eab-kid and --eab-hmac-file as it has issued them",
        ),
        "userActionRequired" => {
            (ErrorKind::Invalid, "the CA wants its terms agreed to: visit the URL it names")
        }
        "accountDoesNotExist" => {
            (ErrorKind::NotFound, "the CA does not know this account key: register the account")
        }
        "unauthorized" | "incorrectResponse" => (
            ErrorKind::Verification,
            "the CA did not get the expected answer, or the account may not: check that the names \
             lead to the agents, and the account's status",
        ),
        "connection" | "dns" | "tls" => (
            ErrorKind::Verification,
            "the CA could not reach the name: check DNS, firewall and the challenge's port",
        ),
        "caa" => (ErrorKind::Verification, "a CAA record forbids this CA for the name"),
        "rejectedIdentifier"
        | "unsupportedIdentifier"
        | "malformed"
        | "badCSR"
        | "badPublicKey"
        | "unsupportedContact"
        | "invalidContact"
        | "invalidProfile"
        | "badSignatureAlgorithm"
        | "badRevocationReason" => {
            (ErrorKind::Invalid, "the CA does not take this request: change what it names")
        }
        "badNonce" => {
            (ErrorKind::Unavailable, "the CA takes none of its own nonces: it is tried again")
        }
        "orderNotReady" => (ErrorKind::Unavailable, "the CA is not ready yet: it is asked again"),
        _ if status.is_server_error() => {
            (ErrorKind::Unavailable, "the CA has a problem of its own: it is tried again")
        }
        _ if status == StatusCode::TOO_MANY_REQUESTS => {
            (ErrorKind::Exhausted, "the CA asks to slow down: wait")
        }
        _ => (ErrorKind::Conflict, "see what the CA says"),
    }
}

/// A failed response that is no problem document.
pub(super) fn plain(
    what: &str,
    subject: &str,
    status: StatusCode,
    retry_after: Option<Duration>,
) -> Error {
    let mut error = match status {
        StatusCode::TOO_MANY_REQUESTS => Error::exhausted(what, subject, "HTTP 429"),
        status => Error::unavailable(what, subject, format!("HTTP {status} and no explanation"))
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
        let error = problem.into_error("order", "the CA", StatusCode::FORBIDDEN, None);
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.why.contains("a.example: forbidden"), "{}", error.why);
    }

    #[test]
    fn what_can_be_tried_again_says_so() {
        let table = [
            ("rateLimited", 429, ErrorKind::Exhausted),
            ("serverInternal", 500, ErrorKind::Unavailable),
            ("unauthorized", 403, ErrorKind::Verification),
            ("externalAccountRequired", 403, ErrorKind::Invalid),
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
