//! The ACME client (RFC 8555), whose account keys are in the HSM.
//!
//! `instant_acme` knows the protocol but signs with a software key of its own. So its HTTP client
//! is ours (`resign`): every JWS that it makes is taken apart and signed anew with the HSM key,
//! and whatever is not a JWS is not sent.

mod account;
mod account_object;
mod alternate;
mod authorization;
mod directory;
pub mod jws;
mod order;
mod order_list;
mod presenter;
mod problem;
mod renewal_info;
mod resign;
mod revocation;
mod transport;

pub use account::{Account, Ca, Eab, Registered};
pub use alternate::Preference;
pub use authorization::{Authorization, AuthorizationState};
pub use directory::Directory;
pub use order::{OrderProgress, OrderStatus};
pub use order_list::Listed;
pub use presenter::{Challenge, ChallengePresenter};
pub use renewal_info::RenewalWindow;
pub use revocation::revoke_by_certificate_key;
pub use transport::Options;
