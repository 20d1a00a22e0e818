//! Profiles of certificates (draft-aaron-acme-profiles), held against what their CAs offer.

use std::time::Duration;

use vault_proto::ids::AccountName;

use super::Issuer;
use crate::acme;
use crate::error::Result;
use crate::store::{CertificateRecord, OrderRecord};

/// How long a CA may take to say what it offers while an operator waits.
const DEADLINE: Duration = Duration::from_secs(5);

impl Issuer {
    /// Refuses a profile that the account's CA does not offer. A CA that cannot be asked stands in
    /// nobody's way: it is asked again when something is ordered.
    pub(super) async fn check_profile(
        &self,
        what: &str,
        account: &AccountName,
        profile: Option<&str>,
    ) -> Result<()> {
        let Some(profile) = profile else { return Ok(()) };
        let account = self.accounts.find(account).await?;
        match tokio::time::timeout(DEADLINE, self.accounts.directory(&account)).await {
            Ok(Ok(directory)) => directory.check_profile(what, profile),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// The profile that an order asks for. Names of profiles are each CA's own: of a fallback account's
    /// CA it is asked only where there is one of that name.
    pub(super) fn profile_of<'a>(
        &self,
        certificate: &'a CertificateRecord,
        order: &OrderRecord,
        account: &acme::Account,
    ) -> Result<Option<&'a str>> {
        let Some(profile) = certificate.profile.as_deref() else { return Ok(None) };
        match account.check_profile("order", profile) {
            Ok(()) => Ok(Some(profile)),
            Err(_) if order.account != certificate.account => Ok(None),
            Err(error) => Err(error),
        }
    }
}
