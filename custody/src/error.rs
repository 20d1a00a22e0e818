//! The error that crosses the wire, made here.

use std::fmt;

use vault_proto::error::{ErrorDetail, ErrorKind};

/// What failed, on which thing, why, and what to do next.
pub type Error = ErrorDetail;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn error(
    kind: ErrorKind,
    what: &str,
    subject: impl Into<String>,
    why: impl fmt::Display,
    hint: &str,
) -> Error {
    ErrorDetail {
        kind: kind.into(),
        what: what.to_owned(),
        subject: subject.into(),
        why: why.to_string(),
        hint: hint.to_owned(),
        retry_after_seconds: 0,
    }
}

pub(crate) fn invalid(
    what: &str,
    subject: impl Into<String>,
    why: impl fmt::Display,
    hint: &str,
) -> Error {
    error(ErrorKind::Invalid, what, subject, why, hint)
}

pub(crate) fn internal(what: &str, subject: impl Into<String>, why: impl fmt::Display) -> Error {
    error(ErrorKind::Internal, what, subject, why, "")
}

pub(crate) fn verification(
    what: &str,
    subject: impl Into<String>,
    why: impl fmt::Display,
    hint: &str,
) -> Error {
    error(ErrorKind::Verification, what, subject, why, hint)
}
