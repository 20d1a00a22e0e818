//! The ACME client (RFC 8555), whose account keys are in the HSM.
//!
//! `instant_acme` knows the protocol but signs with a software key of its own. So its HTTP client
//! is ours (`resign`): every JWS that it makes is taken apart and signed anew with the HSM key,
//! and whatever is not a JWS is not sent.

mod account;
mod account_object;
mod alternate;
mod authorization;
mod clients;
mod directory;
pub mod jws;
mod kept;
mod order;
mod order_list;
mod presenter;
mod problem;
mod profiles;
mod renewal_info;
mod replaces;
mod resign;
mod revocation;
mod transport;

pub use account::{Account, Ca, Eab, Registered};
pub use alternate::Preference;
pub use authorization::{Authorization, AuthorizationState};
pub use clients::Clients;
pub use directory::Directory;
pub use order::{Order, OrderStatus};
pub use order_list::Listed;
pub use presenter::{Challenge, ChallengePresenter};
pub use renewal_info::{RenewalInfo, RenewalInfoClient};
pub use replaces::{Placed, Replacement};
pub use revocation::revoke_by_certificate_key;
pub use transport::Options;

use crate::error::{CaState, Error, ErrorKind};

/// Whether an error says that a CA does not answer, or not as a CA that is in order.
pub fn is_away(error: &Error) -> bool {
    matches!(error.ca, Some(CaState::Unreached | CaState::Away))
}

/// Whether a request may have been heard although it failed: only a refusal, or a connection that was never
/// made, says that it was not.
pub fn may_have_been_heard(error: &Error) -> bool {
    error.kind == ErrorKind::Unavailable && error.ca != Some(CaState::Unreached)
}

/// A CA that did not answer, or not as one that is in order.
fn away(ca: &str, why: impl std::fmt::Display) -> Error {
    Error::unavailable("ask", ca, why).found_ca(CaState::Away)
}
