//! What a token's return values mean, in one place.

use cryptoki::error::{Error as CkError, RvError};

use crate::error::{Error, ErrorKind, Result};

/// What went wrong inside a worker.
#[derive(Debug)]
pub(super) enum Failure {
    /// The token said no.
    Token(CkError),
    /// No slot has the token.
    Absent(Error),
    /// We said no.
    Ours(Error),
}

impl From<CkError> for Failure {
    fn from(error: CkError) -> Self {
        Self::Token(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl Failure {
    fn rv(&self) -> Option<&RvError> {
        match self {
            Self::Token(CkError::Pkcs11(rv, _)) => Some(rv),
            _ => None,
        }
    }

    /// The session is gone or in a state that nobody knows: open another.
    pub(super) fn ends_session(&self) -> bool {
        let unknown = matches!(self.rv(), Some(RvError::GeneralError | RvError::OperationActive));
        unknown || self.is_loss()
    }

    /// Session, login, token or module are gone, whatever was asked of them: they may come back.
    pub(super) fn is_loss(&self) -> bool {
        matches!(
            self.rv(),
            Some(
                RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::DeviceRemoved
                    | RvError::DeviceError
                    | RvError::TokenNotPresent
                    | RvError::TokenNotRecognized
                    | RvError::UserNotLoggedIn
                    | RvError::CryptokiNotInitialized
            )
        )
    }

    /// The module itself has ended: nothing but C_Initialize brings it back.
    pub(super) fn ends_module(&self) -> bool {
        matches!(self.rv(), Some(RvError::CryptokiNotInitialized))
    }

    /// The token says that it did not begin, so a second call makes nothing twice.
    pub(super) fn not_begun(&self) -> bool {
        matches!(self.rv(), Some(RvError::UserNotLoggedIn | RvError::SessionHandleInvalid))
    }

    /// A cached handle names nothing any more: find the object again.
    pub(super) fn stale_handle(&self) -> bool {
        matches!(self.rv(), Some(RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid))
    }

    /// The PIN is wrong or locked: never try again by ourselves.
    pub(super) fn refuses_pin(&self) -> bool {
        matches!(
            self.rv(),
            Some(
                RvError::PinIncorrect
                    | RvError::PinLocked
                    | RvError::PinExpired
                    | RvError::PinInvalid
                    | RvError::PinLenRange
            )
        )
    }

    /// The token does not wrap this key so; another mechanism may do.
    pub(super) fn refuses_wrap(&self) -> bool {
        matches!(
            self.rv(),
            Some(
                RvError::MechanismInvalid
                    | RvError::MechanismParamInvalid
                    | RvError::KeyNotWrappable
                    | RvError::KeyTypeInconsistent
                    | RvError::KeyFunctionNotPermitted
                    | RvError::WrappingKeyTypeInconsistent
            )
        )
    }

    /// As the domain error of `what` on `subject`.
    pub(super) fn into_error(self, what: &str, subject: &str) -> Error {
        let error = match self {
            Self::Absent(error) | Self::Ours(error) => return error,
            Self::Token(error) => error,
        };
        let text = error.to_string();
        let CkError::Pkcs11(rv, function) = &error else {
            return Error::new(ErrorKind::Internal, what, subject, text);
        };
        let why = format!("{function} answered {rv:?}");
        match rv {
            RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
                Error::denied(what, subject, format!("{why}: the PIN is wrong")).hint(
                    "correct the PIN in the file that [hsm] pin names; it is not tried again by \
                     itself, since a token locks after a few wrong ones",
                )
            }
            RvError::PinLocked | RvError::PinExpired => Error::denied(what, subject, why)
                .hint("the security officer must unlock or renew the PIN"),
            RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::KeyTypeInconsistent
            | RvError::KeySizeRange
            | RvError::CurveNotSupported
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid => Error::invalid(what, subject, why)
                .hint("the token does not offer this for such a key"),
            RvError::KeyUnextractable
            | RvError::KeyNotWrappable
            | RvError::KeyFunctionNotPermitted
            | RvError::ActionProhibited
            | RvError::AttributeSensitive => Error::denied(what, subject, why),
            RvError::DeviceMemory => Error::exhausted(what, subject, why)
                .hint("the token is full: destroy keys that are no longer used"),
            RvError::SessionCount => {
                Error::exhausted(what, subject, why).hint("lower [hsm] workers in vault.toml")
            }
            RvError::TokenWriteProtected | RvError::SessionReadOnly => {
                Error::denied(what, subject, why).hint("the token is write-protected")
            }
            RvError::ArgumentsBad | RvError::TemplateIncomplete | RvError::TemplateInconsistent => {
                Error::internal(what, subject, why)
            }
            _ => Error::unavailable(what, subject, why)
                .hint("check that the HSM is reachable and its token present"),
        }
    }
}

/// Names what was attempted on what, where a token's answer is an error.
pub(super) trait Describe<T> {
    /// The domain error of `what` on `subject`.
    fn describe(self, what: &str, subject: &str) -> Result<T>;
}

impl<T, E: Into<Failure>> Describe<T> for std::result::Result<T, E> {
    fn describe(self, what: &str, subject: &str) -> Result<T> {
        self.map_err(|error| error.into().into_error(what, subject))
    }
}
