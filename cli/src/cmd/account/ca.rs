//! What `vaultctl account show` says of the CA, asked at that moment.

use serde::Serialize;
use vault_proto::v1;

/// A CA's directory; nothing is known of one that does not answer.
#[derive(Serialize)]
pub(super) struct Ca {
    status: &'static str,
    problem: String,
    terms_of_service: Option<String>,
    website: Option<String>,
    external_account_required: Option<bool>,
    renewal_info: Option<bool>,
    profiles: Option<Vec<Profile>>,
}

/// A profile that it offers.
#[derive(Serialize)]
struct Profile {
    name: String,
    description: String,
}

impl From<v1::CaDirectory> for Ca {
    fn from(ca: v1::CaDirectory) -> Self {
        let known = ca.available;
        let text = |text: String| Some(text).filter(|text| known && !text.is_empty());
        let profile = |p: v1::AcmeProfile| Profile { name: p.name, description: p.description };
        Self {
            status: if known { "ok" } else { "unknown: CA unavailable" },
            problem: ca.problem,
            terms_of_service: text(ca.terms_of_service),
            website: text(ca.website),
            external_account_required: known.then_some(ca.external_account_required),
            renewal_info: known.then_some(ca.renewal_info),
            profiles: known.then(|| ca.profiles.into_iter().map(profile).collect()),
        }
    }
}
