//! Where at a CA something can go wrong.

/// A resource of Pebble's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The directory.
    Directory,
    /// newNonce.
    Nonce,
    /// newAccount.
    NewAccount,
    /// An account: its deactivation.
    Account,
    /// keyChange.
    Rollover,
    /// newOrder.
    NewOrder,
    /// An order that was placed.
    Order,
    /// An authorization.
    Authorization,
    /// A challenge.
    Challenge,
    /// An order's finalize.
    Finalize,
    /// A certificate.
    Certificate,
    /// Another chain of a certificate.
    Alternate,
    /// revokeCert.
    Revoke,
    /// renewalInfo (RFC 9773), which Pebble does not have: see [`FaultCa::offer_renewal_info`](super::FaultCa::offer_renewal_info).
    RenewalInfo,
    /// An account's list of orders.
    Orders,
}

impl Place {
    /// How its path begins.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Directory => "/dir",
            Self::Nonce => "/nonce-plz",
            Self::NewAccount => "/sign-me-up",
            Self::Account => "/my-account/",
            Self::Rollover => "/rollover-account-key",
            Self::NewOrder => "/order-plz",
            Self::Order => "/my-order/",
            Self::Authorization => "/authZ/",
            Self::Challenge => "/chalZ/",
            Self::Finalize => "/finalize-order/",
            Self::Certificate | Self::Alternate => "/certZ/",
            Self::Revoke => "/revoke-cert",
            Self::RenewalInfo => "/renewal-info/",
            Self::Orders => "/list-orderz/",
        }
    }

    /// Whether a request to this path is one to it.
    pub(super) fn is(self, path: &str) -> bool {
        let alternate = self != Self::Alternate || path.contains("/alternate/");
        path.starts_with(self.path()) && alternate
    }
}
