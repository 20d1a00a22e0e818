//! What else an account's object says: its contacts (RFC 8555 section 7.3.2) and its agreement to the
//! CA's terms (section 7.3.3).

use url::Url;
use vault_proto::ids::AccountName;

use super::{Accounts, uncertain, valid_url};
use crate::error::{Error, Result};
use crate::policy::Principal;
use crate::store::AccountRecord;

impl Accounts {
    /// Replaces an account's contacts.
    ///
    /// # Errors
    /// `Invalid` for what is no URL or what the CA does not take: then the contacts before stay.
    /// `Unavailable` where its answer is lost: the next use of the account tells it again.
    pub async fn update_contacts(
        &self,
        who: &Principal,
        name: &AccountName,
        contacts: Vec<String>,
    ) -> Result<AccountRecord> {
        check(name, &contacts)?;
        let _turn = self.turns.take(name).await;
        let record = self.settle(who, self.find(name).await?).await?;
        valid_url(&record)?;
        // Durable before the CA is asked, so that a crash leads to telling it again.
        let record = AccountRecord { next_contacts: Some(contacts), ..record };
        self.store.update_account(&record).await?;
        self.tell_contacts(who, record).await
    }

    /// Tells the CA of contacts that it has not confirmed; what comes of that stops nobody who wants
    /// the account for something else.
    pub(super) async fn settle_contacts(
        &self,
        who: &Principal,
        record: AccountRecord,
    ) -> Result<AccountRecord> {
        if record.next_contacts.is_none() {
            return Ok(record);
        }
        let name = record.name.clone();
        match self.tell_contacts(who, record).await {
            Ok(record) => Ok(record),
            Err(error) => {
                tracing::warn!(account = %name, %error, "its contacts are not settled");
                self.find(&name).await
            }
        }
    }

    async fn tell_contacts(&self, who: &Principal, record: AccountRecord) -> Result<AccountRecord> {
        let Some(next) = record.next_contacts.clone() else { return Ok(record) };
        let told = match self.open_settled(who, record.clone()).await {
            Ok((_, account)) => account.update_contacts(&next).await,
            Err(error) => Err(error),
        };
        let record = match &told {
            Ok(()) => AccountRecord { contacts: next, next_contacts: None, ..record },
            Err(error) if uncertain(error) => {
                let hint =
                    "the CA is told again when the account is used next, or by the same command";
                return Err(error.clone().hint(hint));
            }
            Err(_) => AccountRecord { next_contacts: None, ..record },
        };
        self.store.update_account(&record).await?;
        told.map(|()| record)
    }

    /// Agrees to the CA's terms of service as they are now. It may be said again and again.
    ///
    /// # Errors
    /// `Conflict` where the account is not valid, else what the CA says.
    pub async fn agree(&self, who: &Principal, name: &AccountName) -> Result<AccountRecord> {
        let _turn = self.turns.take(name).await;
        let record = self.settle(who, self.find(name).await?).await?;
        let record = self.settle_contacts(who, record).await?;
        let (record, account) = self.open_settled(who, record).await?;
        account.agree(&record.contacts).await?;
        Ok(record)
    }
}

/// Refuses contacts that are no URLs.
fn check(name: &AccountName, contacts: &[String]) -> Result<()> {
    match contacts.iter().find(|contact| contact.parse::<Url>().is_err()) {
        Some(contact) => {
            let why = format!("contact {contact:?} is no URL");
            Err(Error::invalid("update", format!("account {name}"), why)
                .hint("write an address as mailto:NAME@EXAMPLE"))
        }
        None => Ok(()),
    }
}
