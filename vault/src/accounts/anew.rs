//! Registering an account anew under its name, by which its certificates go: where its key is lost, or
//! its CA does not know it by that key any more.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use vault_proto::ids::{AccountName, KeyId};

use super::{ACCOUNTS, Accounts, NewAccount, ca_of};
use crate::acme::Account;
use crate::error::{ErrorKind, Result};
use crate::policy::Principal;
use crate::signing::NewKey;
use crate::store::{AccountRecord, KeyPurpose, KeyRecord, KeyState};

impl Accounts {
    /// Whether nothing can be signed for an account any more: its key is lost, or its CA does not know
    /// it by that key. It may be registered anew then under its name, which its certificates go by.
    pub(super) async fn is_gone(&self, who: &Principal, account: &AccountRecord) -> Result<bool> {
        let lost = self.key(account, account.key_id).await?.state == KeyState::Lost;
        if let Some(next) = account.next_key_id {
            // Of a rollover whose outcome is not known the next key may be the one that counts.
            return Ok(lost && self.key(account, next).await?.state == KeyState::Lost);
        }
        if lost {
            return Ok(true);
        }
        // A CA that does not answer says nothing.
        Ok(self.is_known(who, account).await.is_ok_and(|known| !known))
    }

    /// Whether the account's CA knows it by its key.
    ///
    /// # Errors
    /// Where the CA does not answer, or what it says of an account that it has ended.
    pub async fn is_known(&self, who: &Principal, account: &AccountRecord) -> Result<bool> {
        let context = json!({ "account": account.name, "find": account.url });
        let signer = self.signer(who.clone(), account, account.key_id, context).await?;
        match Account::find(&ca_of(account), &self.clients, Arc::new(signer)).await {
            Ok(found) => Ok(Some(found.url) == account.url),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// An account that is registered again, as it is given now: the CA's HTTPS root may have been what
    /// was wrong.
    pub(super) async fn begin_again(
        &self,
        who: &Principal,
        account: AccountRecord,
        new: &NewAccount,
    ) -> Result<AccountRecord> {
        Ok(AccountRecord {
            key_id: self.living_key(who, &account, new).await?,
            next_key_id: None,
            contacts: new.contacts.clone(),
            next_contacts: None,
            ca_root_pem: new.ca_root_pem.clone(),
            ..account
        })
    }

    /// The key of an account that is registered again: its own, and where that is lost another.
    async fn living_key(
        &self,
        who: &Principal,
        account: &AccountRecord,
        new: &NewAccount,
    ) -> Result<KeyId> {
        let own = self.key(account, account.key_id).await?;
        match own.state {
            KeyState::Active => Ok(own.id),
            _ => self.unused_key(who, new).await.map(|key| key.id),
        }
    }

    /// Leaves an account as it was before it was tried in vain to register it anew with this key.
    pub(super) async fn keep_as_it_was(&self, name: &AccountName, key: KeyId) -> Result<()> {
        match self.find(name).await?.key_id == key {
            true => Ok(()),
            false => self.signing.discard(&ACCOUNTS, key).await,
        }
    }

    /// A key for an account: one that a crash left without its account is used, not doubled.
    pub(super) async fn unused_key(&self, who: &Principal, new: &NewAccount) -> Result<KeyRecord> {
        let left = self.store.key_by_name(KeyPurpose::AcmeAccount, new.name.as_str()).await?;
        let left =
            left.filter(|key| key.state == KeyState::Active && key.algorithm == new.algorithm);
        if let Some(key) = left {
            return Ok(key);
        }
        let key = NewKey {
            name: new.name.to_string(),
            purpose: KeyPurpose::AcmeAccount,
            algorithm: new.algorithm,
            escrow: None,
            labels: BTreeMap::new(),
        };
        self.signing.generate(who, key).await
    }
}
