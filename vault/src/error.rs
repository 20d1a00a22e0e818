//! The one domain error: what failed, on which thing, why, and what to do next.
//!
//! It crosses gRPC whole (`api/status.rs`), so every room says its own hint and no room knows of
//! status codes.

use std::{fmt, time::Duration};

pub use vault_proto::error::ErrorKind;

/// The result of everything that can fail in the vault.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, on which thing, why, and what to do next.
#[derive(Debug, Clone)]
pub struct Error {
    /// Which reaction it asks of the caller.
    pub kind: ErrorKind,
    /// What was attempted, for example `sign`.
    pub what: String,
    /// On which thing, for example `key shop`.
    pub subject: String,
    /// Why it failed. Never holds a secret.
    pub why: String,
    /// What to do next; empty where there is nothing better than the kind's own advice.
    pub hint: String,
    /// When a retry may succeed.
    pub retry_after: Option<Duration>,
    /// How the CA was found that was asked, where that is what failed. It stays in the vault.
    pub ca: Option<CaState>,
}

/// How a CA was found by a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaState {
    /// No connection came about, so it has heard nothing.
    Unreached,
    /// It did not answer, or not as a CA that is in order. It may have heard what it was told.
    Away,
    /// It is in order, and not as far with an order as it has said (`orderNotReady`).
    NotReady,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(
            what: impl Into<String>,
            subject: impl Into<String>,
            why: impl fmt::Display,
        ) -> Self {
            Self::new(ErrorKind::$kind, what, subject, why)
        }
    )*};
}

impl Error {
    /// An error of any kind; the constructors named after the kinds read better.
    pub fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        subject: impl Into<String>,
        why: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            what: what.into(),
            subject: subject.into(),
            why: why.to_string(),
            hint: String::new(),
            retry_after: None,
            ca: None,
        }
    }

    constructors! {
        /// The request itself is wrong; nothing was changed.
        invalid => Invalid;
        /// The thing named does not exist.
        not_found => NotFound;
        /// It exists already, or its state forbids this.
        conflict => Conflict;
        /// The caller is not known.
        unauthenticated => Unauthenticated;
        /// The caller is known and may not do this.
        denied => Denied;
        /// The HSM, store, CA or audit log cannot serve now.
        unavailable => Unavailable;
        /// A queue or budget is full.
        exhausted => Exhausted;
        /// What was checked did not hold.
        verification => Verification;
        /// A fault of the vault itself.
        internal => Internal;
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Says how the CA was found.
    #[must_use]
    pub fn found_ca(mut self, ca: CaState) -> Self {
        self.ca = Some(ca);
        self
    }

    /// Says when a retry may succeed.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed on {}: {}", self.what, self.subject, self.why)
    }
}

impl std::error::Error for Error {}

/// A library's error with all that is behind it: the outermost text often names no cause.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl From<vault_proto::error::ErrorDetail> for Error {
    fn from(detail: vault_proto::error::ErrorDetail) -> Self {
        let kind = detail.kind();
        let retry_after = match detail.retry_after_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        };
        let vault_proto::error::ErrorDetail { what, subject, why, hint, .. } = detail;
        Self { kind, what, subject, why, hint, retry_after, ca: None }
    }
}

impl From<vault_proto::ids::InvalidId> for Error {
    fn from(error: vault_proto::ids::InvalidId) -> Self {
        Self::invalid("read", error.what, &error)
    }
}
