//! The domain error as a gRPC status: here and nowhere else.

use tonic::Status;
use vault_proto::error::ErrorDetail;

use crate::error::{Error, ErrorKind};

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if error.kind == ErrorKind::Internal {
            tracing::error!(%error, "a fault of the vault");
        }
        ErrorDetail::from(error).into_status()
    }
}

impl From<Error> for ErrorDetail {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind.into(),
            what: error.what,
            subject: error.subject,
            why: error.why,
            hint: error.hint,
            retry_after_seconds: error.retry_after.map_or(0, |after| after.as_secs().max(1)),
        }
    }
}
