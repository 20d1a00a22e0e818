//! What C is told: the one place where a failure becomes a CK_RV.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cryptoki_sys::{
    CK_RV, CKR_DATA_LEN_RANGE, CKR_DEVICE_ERROR, CKR_GENERAL_ERROR, CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_KEY_HANDLE_INVALID, CKR_MECHANISM_INVALID, CKR_OK,
};
use vault_proto::local::v1::Reason;

use crate::transport::Failure;

/// A CK_RV other than CKR_OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rv(pub(crate) CK_RV);

/// What a function comes to.
pub(crate) type Result<T = ()> = std::result::Result<T, Rv>;

/// Fails with a code of the standard's.
pub(crate) fn fail<T>(code: CK_RV) -> Result<T> {
    Err(Rv(code))
}

/// Runs the body of a C function. A panic ends here: across `extern "C"` it would end the host.
pub(crate) fn ck_rv(body: impl FnOnce() -> Result) -> CK_RV {
    // What a panic leaves half done is a session's operation at worst: locks are taken again after
    // one, and everything they guard is replaced as a whole.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CKR_OK,
        Ok(Err(Rv(code))) => code,
        Err(_) => CKR_GENERAL_ERROR,
    }
}

impl From<Failure> for Rv {
    fn from(failure: Failure) -> Self {
        Self(match failure {
            Failure::TooLong => CKR_DATA_LEN_RANGE,
            Failure::Unreachable(_) | Failure::Malformed => CKR_DEVICE_ERROR,
            Failure::Refused(reason) => match reason {
                Reason::Unspecified => CKR_GENERAL_ERROR,
                Reason::Denied => CKR_KEY_FUNCTION_NOT_PERMITTED,
                Reason::NoKey => CKR_KEY_HANDLE_INVALID,
                Reason::Mechanism => CKR_MECHANISM_INVALID,
                Reason::Data => CKR_DATA_LEN_RANGE,
                Reason::Unavailable => CKR_DEVICE_ERROR,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_general_error() {
        assert_eq!(ck_rv(|| panic!("inside")), CKR_GENERAL_ERROR);
    }
}
