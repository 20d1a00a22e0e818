//! Why a certificate's next order is due when it is, for people.

use time::OffsetDateTime;
use url::Url;

use super::super::planner::Window;
use super::super::{Issuer, planner};
use crate::named::named_enum;
use crate::store::{CertificateRecord, CertificateView, RenewalInfoRecord};

named_enum!(
    /// Why the next order is due when it is.
    RenewalReason, "renewal reason" {
        /// Its CA wants it so (RFC 9773).
        Ari = "ari",
        /// A part of its lifetime will be over.
        Lifetime = "lifetime",
        /// The last attempt failed.
        Retry = "retry",
        /// Somebody has asked for it, or what is in force can no longer be used.
        Requested = "requested",
    }
);

/// What is known of a certificate's next order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalPlan {
    /// When its CA wants it.
    pub window: Option<Window>,
    /// Where the CA explains that.
    pub explanation: Option<Url>,
    /// Why it is due when it is.
    pub reason: RenewalReason,
}

impl Issuer {
    /// Why a certificate's next order is due when it is.
    pub fn renewal_plan(&self, view: &CertificateView) -> RenewalPlan {
        let CertificateView { certificate, version, renewal_info: info, .. } = view;
        let by_lifetime = version.as_ref().map(|version| {
            let seed = planner::seed(certificate.name.as_str(), version.version);
            planner::renew_at(&self.policy, version.not_before, version.not_after, seed)
        });
        RenewalPlan {
            window: info.as_ref().and_then(window_of),
            explanation: info.as_ref().and_then(|info| info.explanation_url.clone()),
            reason: reason(certificate, info.as_ref(), by_lifetime),
        }
    }
}

/// The window that a CA has said last.
pub(super) fn window_of(info: &RenewalInfoRecord) -> Option<Window> {
    info.window.and_then(|(start, end)| Window::new(start, end))
}

fn reason(
    certificate: &CertificateRecord,
    info: Option<&RenewalInfoRecord>,
    by_lifetime: Option<OffsetDateTime>,
) -> RenewalReason {
    let at = certificate.renew_at;
    let by_ca = info.and_then(|info| info.selected_at);
    match (by_ca, by_lifetime) {
        _ if certificate.failed_attempts > 0 => RenewalReason::Retry,
        (Some(by_ca), _) if by_ca == at => RenewalReason::Ari,
        // Whoever asks for it makes it sooner.
        (Some(by_ca), _) if at < by_ca => RenewalReason::Requested,
        (_, Some(by_lifetime)) if at >= by_lifetime.truncate_to_microsecond() => {
            RenewalReason::Lifetime
        }
        _ => RenewalReason::Requested,
    }
}
