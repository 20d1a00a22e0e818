//! The vault's error, or one in its shape, with the exit code of the command contract.

use std::{fmt, io::Write as _, process::ExitCode, time::Duration};

use vault_proto::error::{ErrorDetail, ErrorKind};

/// The result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on which thing, why, and what to do next.
#[derive(Debug, Clone)]
pub struct Error(ErrorDetail);

impl Error {
    /// An error of any kind.
    pub fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self(ErrorDetail {
            kind: kind.into(),
            what: what.into(),
            subject: subject.into(),
            why: why.to_string(),
            hint: String::new(),
            retry_after_seconds: 0,
        })
    }

    /// Arguments or a file that was given are wrong: exit code 2.
    pub fn invalid(
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::Invalid, what, subject, why)
    }

    /// This machine refuses: exit code 1.
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
        self.0.hint = hint.into();
        self
    }

    /// Which reaction it asks for.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// Writes `error:` and `hint:` to stderr; answers the exit code.
    pub fn report(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "error: {self}");
        let advice = if self.0.hint.is_empty() { advice(self.0.kind()) } else { &self.0.hint };
        if !advice.is_empty() {
            let _ = writeln!(stderr, "hint: {advice}{}", self.when());
        }
        ExitCode::from(self.0.kind().exit_code())
    }

    /// When a retry may succeed, where that is known.
    fn when(&self) -> String {
        match self.0.retry_after_seconds {
            0 => String::new(),
            seconds => {
                let pause = humantime::format_duration(Duration::from_secs(seconds));
                format!(" (again in {pause})")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ErrorDetail { what, subject, why, .. } = &self.0;
        write!(f, "{what} failed on {subject}: {why}")
    }
}

/// What to do where the error itself does not say.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "see `vaultctl help` for what is expected",
        ErrorKind::NotFound => "list what there is and check the name",
        ErrorKind::Conflict => "look at its present state first",
        ErrorKind::Unauthenticated | ErrorKind::Denied => "ask an operator of this vault",
        ErrorKind::PendingApproval => "ask another operator to approve",
        ErrorKind::Unavailable | ErrorKind::Exhausted => {
            "try again later; `vaultctl status` tells more"
        }
        ErrorKind::Verification => "do not rely on what was checked",
        ErrorKind::Internal | ErrorKind::Unspecified => "see the log of vaultd",
    }
}

impl From<ErrorDetail> for Error {
    fn from(detail: ErrorDetail) -> Self {
        Self(detail)
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self(ErrorDetail::from_status(&status))
    }
}
