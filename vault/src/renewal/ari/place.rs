//! Placing an order: with the profile that it asks for, and with what it replaces (RFC 9773 section 5).

use super::super::Issuer;
use crate::acme::{self, Replacement};
use crate::error::{ErrorKind, Result};
use crate::store::{CertificateRecord, OrderRecord, VersionRecord};
use crate::x509::chain::Chain;

impl Issuer {
    /// Has CAs told what orders replace.
    #[must_use]
    pub fn with_ari(mut self) -> Self {
        self.ari = true;
        self
    }

    /// Asks the CA for an order that replaces a version, or none.
    pub(in crate::renewal) async fn ask<'a>(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
        account: &'a acme::Account,
        replaced: Option<&VersionRecord>,
    ) -> Result<acme::Placed<'a>> {
        let profile = self.profile_of(certificate, order, account)?;
        let identifiers = &certificate.identifiers;
        let placed = match replaced {
            Some(replaced) => {
                let chain = Chain::parse(&replaced.chain_pem)?;
                account.new_order_replacing(identifiers, profile, chain.leaf_der()).await
            }
            None => account
                .new_order(identifiers, profile)
                .await
                .map(|order| acme::Placed { order, replaces: Replacement::NotSaid }),
        };
        let placed = match (placed, profile) {
            // The CA may have taken the profile away since its directory was read.
            (Err(error), Some(profile)) if error.kind == ErrorKind::Invalid => {
                let by = self.accounts.find(&order.account).await?;
                if let Ok(directory) = self.accounts.directory(&by).await {
                    directory.check_profile("order", profile)?;
                }
                return Err(error);
            }
            (placed, _) => placed?,
        };
        let Some(replaced) = replaced else { return Ok(placed) };
        if let Replacement::Refused(why) = &placed.replaces {
            let (name, version) = (&certificate.name, replaced.version);
            tracing::warn!(certificate = %name, version, why,
                "the CA does not take that it is replaced: ordered without");
            // The order counts, whether or not that can be kept.
            let kept = self.store.refuse_replaces(name, version, self.clock.now()).await;
            if let Err(error) = kept {
                tracing::warn!(certificate = %name, %error, "that is asked again");
            }
        }
        Ok(placed)
    }

    /// The version that an order replaces: the one in force, where the same CA has issued it and has not
    /// refused that before.
    pub(in crate::renewal) async fn replaced(
        &self,
        certificate: &CertificateRecord,
        order: &OrderRecord,
    ) -> Result<Option<VersionRecord>> {
        if !self.ari || certificate.current_version == 0 {
            return Ok(None);
        }
        let name = &certificate.name;
        let current = self.store.version(name, certificate.current_version).await?;
        let Some(current) = current else { return Ok(None) };
        let info = self.store.renewal_info(name).await?;
        if info.is_some_and(|info| info.version == current.version && info.replaces_refused) {
            return Ok(None);
        }
        let same = current.account == order.account || {
            let issued = self.accounts.find(&current.account).await?;
            issued.directory == self.accounts.find(&order.account).await?.directory
        };
        Ok(Some(current).filter(|_| same))
    }
}
