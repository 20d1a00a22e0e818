//! What an account's CA says to anybody: no key is used.

use super::{Accounts, ca_of};
use crate::acme::{Directory, RenewalInfoClient};
use crate::error::Result;
use crate::store::AccountRecord;

impl Accounts {
    /// What the directory of an account's CA says now.
    ///
    /// # Errors
    /// `Unavailable` where the CA does not answer as it should.
    pub async fn directory(&self, account: &AccountRecord) -> Result<Directory> {
        Directory::of(&ca_of(account), &self.clients).await
    }

    /// Where an account's CA says when to renew (RFC 9773); `None` where it does not offer to.
    ///
    /// # Errors
    /// `Unavailable` where the CA does not answer as it should.
    pub async fn renewal_infos(
        &self,
        account: &AccountRecord,
    ) -> Result<Option<RenewalInfoClient>> {
        RenewalInfoClient::of(&ca_of(account), &self.clients).await
    }
}
