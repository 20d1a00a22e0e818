//! What failed, on which thing, why, and what to do next: as the vault says it, and in the same
//! shape where the agent says it itself.

use std::fmt;

use vault_proto::error::ErrorDetail;
pub use vault_proto::error::ErrorKind;

/// The result of everything that can fail in the agent.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on which thing, why, and what to do next.
#[derive(Debug, Clone)]
pub struct Error {
    /// Decides the exit code, and whether trying again makes sense.
    pub kind: ErrorKind,
    what: String,
    subject: String,
    why: String,
    /// What to do next; may be empty.
    pub hint: String,
}

impl Error {
    /// An error of any kind.
    pub fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        let (what, subject, why) = (what.into(), subject.into(), why.to_string());
        Self { kind, what, subject, why, hint: String::new() }
    }

    /// The configuration, an argument or a file that was given is wrong.
    pub fn invalid(
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::Invalid, what, subject, why)
    }

    /// What was checked did not hold.
    pub fn verification(
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::Verification, what, subject, why)
    }

    /// It cannot be done now.
    pub fn unavailable(
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::Unavailable, what, subject, why)
    }

    /// This machine refuses: a file, a directory, a command.
    pub fn local(
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::Internal, what, subject, why)
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed on {}: {}", self.what, self.subject, self.why)
    }
}

impl std::error::Error for Error {}

impl From<ErrorDetail> for Error {
    fn from(detail: ErrorDetail) -> Self {
        let kind = detail.kind();
        let ErrorDetail { what, subject, why, hint, .. } = detail;
        Self { kind, what, subject, why, hint }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let detail = ErrorDetail::from_status(&status);
        let kind = detail.kind();
        // Where the connection broke, the reason is at the bottom.
        let mut cause = std::error::Error::source(&status);
        let mut why = detail.why;
        while let Some(deeper) = cause {
            why = deeper.to_string();
            cause = deeper.source();
        }
        Self { kind, what: detail.what, subject: detail.subject, why, hint: detail.hint }
    }
}
