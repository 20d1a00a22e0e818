//! The error that crosses the wire whole.
//!
//! The vault puts an [`ErrorDetail`] into the details of every gRPC status that it answers;
//! clients take it out with [`ErrorDetail::from_status`], so no client reads the words of a message.

use prost::Message as _;
use tonic::{Code, Status};

pub use crate::v1::{ErrorDetail, ErrorKind};

impl ErrorKind {
    /// The gRPC code that stands for this kind.
    pub fn code(self) -> Code {
        match self {
            Self::Unspecified | Self::Internal => Code::Internal,
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Conflict => Code::FailedPrecondition,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Denied => Code::PermissionDenied,
            Self::Unavailable => Code::Unavailable,
            Self::Exhausted => Code::ResourceExhausted,
            Self::Verification => Code::DataLoss,
            Self::PendingApproval => Code::Aborted,
        }
    }

    /// The exit code of a program that ends with this kind, as `vaultctl`'s contract has them:
    /// 1 failed, 2 bad input, 3 not found, 4 denied, 5 waiting for approval, 6 try again,
    /// 7 verification failed.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Unspecified | Self::Internal | Self::Conflict => 1,
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Unauthenticated | Self::Denied => 4,
            Self::PendingApproval => 5,
            Self::Unavailable | Self::Exhausted => 6,
            Self::Verification => 7,
        }
    }

    /// The kind that a bare gRPC code stands for, where the peer sent no detail.
    fn from_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists | Code::FailedPrecondition => Self::Conflict,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::Denied,
            // No vault answers `Unknown`: the connection has broken in the middle of a call.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                Self::Unavailable
            }
            Code::ResourceExhausted => Self::Exhausted,
            Code::DataLoss => Self::Verification,
            Code::Aborted => Self::PendingApproval,
            _ => Self::Internal,
        }
    }
}

impl ErrorDetail {
    /// Wraps this detail into a gRPC status; the message is what a client without this crate sees.
    pub fn into_status(self) -> Status {
        let message = format!("{} failed on {}: {}", self.what, self.subject, self.why);
        let code = self.kind().code();
        Status::with_details(code, message, self.encode_to_vec().into())
    }

    /// Takes the detail out of a status; makes one of its code and message where there is none.
    pub fn from_status(status: &Status) -> Self {
        if !status.details().is_empty()
            && let Ok(detail) = Self::decode(status.details())
            && !detail.what.is_empty()
        {
            return detail;
        }
        Self {
            kind: ErrorKind::from_code(status.code()).into(),
            what: "call".to_owned(),
            subject: "the vault".to_owned(),
            why: status.message().to_owned(),
            hint: String::new(),
            retry_after_seconds: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_crosses_the_wire_whole() {
        let detail = ErrorDetail {
            kind: ErrorKind::Denied.into(),
            what: "sign".into(),
            subject: "key shop".into(),
            why: "role auditor may not sign".into(),
            hint: "ask an operator".into(),
            retry_after_seconds: 7,
        };
        let status = detail.clone().into_status();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(ErrorDetail::from_status(&status), detail);
    }

    #[test]
    fn a_bare_status_still_has_a_kind() {
        let detail = ErrorDetail::from_status(&Status::unavailable("gone"));
        assert_eq!(detail.kind(), ErrorKind::Unavailable);
        assert_eq!(detail.why, "gone");
    }
}
