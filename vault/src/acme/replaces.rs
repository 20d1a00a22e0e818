//! Orders that say which certificate they replace (RFC 9773 section 5): CAs exempt them from limits, and
//! know when a certificate that has to go is not needed any more.

use instant_acme::{CertificateIdentifier, NewOrder};
use rustls_pki_types::CertificateDer;

use super::{Account, Order, account::within, order::wire};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Identifier;

/// An order that was placed.
pub struct Placed<'a> {
    /// The order.
    pub order: Order<'a>,
    /// What became of what it was to replace.
    pub replaces: Replacement,
}

/// What a CA makes of the certificate that an order is to replace.
#[derive(Debug, Clone)]
pub enum Replacement {
    /// It is replaced by the order.
    Accepted,
    /// The CA does not offer renewalInfo, or the certificate has no name there: nothing was said of it.
    NotSaid,
    /// The CA does not take it, and has taken the order without: why.
    Refused(String),
}

impl Replacement {
    /// Whether the CA counts the order as a replacement.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted)
    }
}

impl Account {
    /// Places an order that replaces a certificate (its leaf, DER), and where the CA does not take that,
    /// the same order without.
    ///
    /// # Errors
    /// As [`Account::new_order`].
    pub async fn new_order_replacing(
        &self,
        identifiers: &[Identifier],
        profile: Option<&str>,
        leaf_der: &[u8],
    ) -> Result<Placed<'_>> {
        let leaf = CertificateDer::from(leaf_der);
        let replaces = match CertificateIdentifier::try_from(&leaf) {
            Ok(id) => self.try_replacing(identifiers, profile, id).await?,
            Err(_) => Err(Replacement::NotSaid),
        };
        match replaces {
            Ok(order) => Ok(Placed { order, replaces: Replacement::Accepted }),
            Err(replaces) => {
                Ok(Placed { order: self.new_order(identifiers, profile).await?, replaces })
            }
        }
    }

    /// The order, or why it is to be placed without what it replaces.
    async fn try_replacing(
        &self,
        identifiers: &[Identifier],
        profile: Option<&str>,
        id: CertificateIdentifier<'_>,
    ) -> Result<Result<Order<'_>, Replacement>> {
        let identifiers: Vec<_> = identifiers.iter().map(wire).collect();
        let mut order = NewOrder::new(&identifiers).replaces(id);
        if let Some(profile) = profile {
            order = order.profile(profile);
        }
        let placed = async {
            match self.inner.new_order(&order).await {
                Ok(placed) => Ok(Ok(placed)),
                Err(instant_acme::Error::Unsupported(_)) => Ok(Err(Replacement::NotSaid)),
                // Not one of ours: the answer does not name what is replaced, as it must.
                Err(instant_acme::Error::Other(why)) if !why.is::<Error>() => {
                    Ok(Err(Replacement::Refused(why.to_string())))
                }
                Err(error) => Err(error),
            }
        };
        match within(&self.ca, placed).await {
            Ok(Ok(placed)) => Ok(Ok(self.placed(placed)?)),
            Ok(Err(replacement)) => Ok(Err(replacement)),
            // CAs refuse what is replaced by several types of error (alreadyReplaced, malformed,
            // unauthorized, ...). What is refused for another reason is refused again without it.
            Err(error) if is_refusal(&error) => Ok(Err(Replacement::Refused(error.why))),
            Err(error) => Err(error),
        }
    }
}

fn is_refusal(error: &Error) -> bool {
    use ErrorKind::{Conflict, Invalid, NotFound, Verification};
    matches!(error.kind, Conflict | Invalid | NotFound | Verification)
}
