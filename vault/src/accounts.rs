//! ACME accounts: registered, rolled over and deactivated so that a crash at any point leaves
//! either the account as it was or one that the next try finds and completes.

mod anew;
mod ca;
mod contacts;
mod deauthorize;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::SecretSlice;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;
use url::Url;
use vault_proto::ids::{AccountName, KeyId};

use crate::acme::{self, Account, Ca, Directory};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::keystore::{Algorithm, MessageSigner, PublicKey};
use crate::policy::{Action, Principal};
use crate::signing::{BoundKey, Signing};
use crate::store::{AccountRecord, AccountStatus, KeyRecord, KeyState, Store};

/// The vault's own part in what an operator began.
const ACCOUNTS: Principal = Principal::Vault("accounts");

/// The accounts' room. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    store: Arc<dyn Store>,
    signing: Signing,
    clock: Arc<dyn Clock>,
    clients: acme::Clients,
    turns: Turns,
}

/// One change of an account after the other: whoever settles a rollover while the CA has not yet
/// heard of it would take its key for refused and destroy it.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<HashMap<AccountName, Arc<tokio::sync::Mutex<()>>>>>);

impl Turns {
    /// Waits for its turn; no longer than a CA may take, since that is how long a change may.
    async fn take(&self, name: &AccountName) -> OwnedMutexGuard<()> {
        self.of(name).lock_owned().await
    }

    fn of(&self, name: &AccountName) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.clone()).or_default().clone()
    }
}

/// An account to register.
pub struct NewAccount {
    /// The operator's name for it.
    pub name: AccountName,
    /// The CA's directory.
    pub directory: Url,
    /// Contact URLs.
    pub contacts: Vec<String>,
    /// External account binding: key id and MAC key. Used once, never stored.
    pub eab: Option<(String, SecretSlice<u8>)>,
    /// Extra roots for the CA's HTTPS server, PEM.
    pub ca_root_pem: Option<String>,
    /// The CA's terms are agreed to.
    pub agree_tos: bool,
    /// The account key's algorithm.
    pub algorithm: Algorithm,
}

impl Accounts {
    /// The room over these parts.
    pub fn new(
        store: Arc<dyn Store>,
        signing: Signing,
        clock: Arc<dyn Clock>,
        options: acme::Options,
    ) -> Self {
        let clients = acme::Clients::new(options);
        Self { store, signing, clock, clients, turns: Turns::default() }
    }

    /// One account.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn find(&self, name: &AccountName) -> Result<AccountRecord> {
        let missing = || {
            Error::not_found("find", format!("account {name}"), "the vault has no such account")
                .hint("`vaultctl account list` shows what there is")
        };
        self.store.account(name).await?.ok_or_else(missing)
    }

    /// The RFC 7638 thumbprint of the account's key.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn thumbprint(&self, account: &AccountRecord) -> Result<String> {
        let key = self.key(account, account.key_id).await?;
        acme::jws::thumbprint(&PublicKey { algorithm: key.algorithm, spki_der: key.spki_der })
    }

    /// Generates the key in the HSM and registers it. Where an earlier try ended without an
    /// answer, the same key is used again, and the CA answers with the account it has.
    ///
    /// # Errors
    /// `Conflict` where the name is in use, `Invalid` where the CA wants more than was given,
    /// `Unavailable` where it does not answer as it should. Nothing stays of what the CA refused.
    pub async fn register(&self, who: &Principal, new: NewAccount) -> Result<AccountRecord> {
        let subject = format!("account {}", new.name);
        let _turn = self.turns.take(&new.name).await;
        let begun = self.store.account(&new.name).await?;
        let in_use = match &begun {
            Some(account) if account.directory != new.directory => true,
            Some(account) if account.status == AccountStatus::Valid => {
                !self.is_gone(who, account).await?
            }
            Some(account) => account.status != AccountStatus::Pending,
            None => false,
        };
        if let Some(account) = begun.as_ref().filter(|_| in_use) {
            let why = format!("the name is in use ({})", account.status);
            return Err(Error::conflict("register", subject, why).hint("choose another name"));
        }
        let ca = Ca { directory: new.directory.clone(), root_pem: new.ca_root_pem.clone() };
        self.check_terms(&ca, &new).await?;
        let pending = match begun {
            Some(account) => self.begin_again(who, account, &new).await?,
            None => self.begin(who, &new).await?,
        };
        let context = json!({ "account": new.name, "directory": new.directory });
        let signer = self.signer(who.clone(), &pending, pending.key_id, context).await?;
        let eab = new.eab.map(|(kid, hmac)| acme::Eab { kid, hmac });
        let registered = Account::register(
            &ca,
            &self.clients,
            Arc::new(signer),
            &new.contacts,
            new.agree_tos,
            eab,
        )
        .await;
        match registered {
            Ok(registered) => {
                let valid = AccountRecord {
                    url: Some(registered.url),
                    status: AccountStatus::Valid,
                    last_ok_at: Some(self.clock.now()),
                    last_error: None,
                    ..pending
                };
                self.store.update_account(&valid).await?;
                Ok(valid)
            }
            Err(error) if uncertain(&error) => Err(error.hint(
                "the CA may have the account or not: run the same command again, the same key is \
                 used",
            )),
            Err(error) if pending.status != AccountStatus::Pending => {
                self.keep_as_it_was(&pending.name, pending.key_id).await?;
                Err(error)
            }
            Err(error) => {
                self.store.delete_pending_account(&pending.name).await?;
                self.signing.discard(&ACCOUNTS, pending.key_id).await?;
                Err(error)
            }
        }
    }

    /// Asks the CA what it wants before a key is made for it.
    async fn check_terms(&self, ca: &Ca, new: &NewAccount) -> Result<()> {
        let subject = || format!("account {}", new.name);
        let directory = Directory::of(ca, &self.clients).await?;
        if let Some(terms) = directory.terms_of_service.filter(|_| !new.agree_tos) {
            let why = format!("the CA's terms of service are not agreed to: {terms}");
            return Err(
                Error::invalid("register", subject(), why).hint("read them, then pass --agree-tos")
            );
        }
        if directory.external_account_required && new.eab.is_none() {
            let why = "the CA wants an external account binding";
            return Err(Error::invalid("register", subject(), why)
                .hint("pass --eab-kid and --eab-hmac-file with what the CA has given you"));
        }
        Ok(())
    }

    async fn begin(&self, who: &Principal, new: &NewAccount) -> Result<AccountRecord> {
        let key = self.unused_key(who, new).await?;
        let account = AccountRecord {
            name: new.name.clone(),
            directory: new.directory.clone(),
            url: None,
            status: AccountStatus::Pending,
            contacts: new.contacts.clone(),
            next_contacts: None,
            key_id: key.id,
            next_key_id: None,
            eab_kid: new.eab.as_ref().map(|(kid, _)| kid.clone()),
            ca_root_pem: new.ca_root_pem.clone(),
            created_at: self.clock.now(),
            last_ok_at: None,
            last_error: None,
        };
        self.store.insert_account(&account).await?;
        Ok(account)
    }

    /// Opens an account; a rollover or new contacts that a crash left open are settled first.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` where the account is not valid, `Unavailable` where the CA is.
    pub async fn open(
        &self,
        who: &Principal,
        name: &AccountName,
    ) -> Result<(AccountRecord, Account)> {
        let mut record = self.find(name).await?;
        if record.next_key_id.is_some() || record.next_contacts.is_some() {
            let _turn = self.turns.take(name).await;
            record = self.settle(who, self.find(name).await?).await?;
            record = self.settle_contacts(who, record).await?;
        }
        self.open_settled(who, record).await
    }

    async fn open_settled(
        &self,
        who: &Principal,
        record: AccountRecord,
    ) -> Result<(AccountRecord, Account)> {
        let url = valid_url(&record)?;
        let key = self.key(&record, record.key_id).await?;
        if key.state == KeyState::Lost {
            let name = &record.name;
            let subject = format!("account {name}");
            return Err(Error::conflict("use", subject, "its key is lost").hint(format!(
                "`vaultctl account register {name}` with the same directory registers it anew"
            )));
        }
        let context = json!({ "account": record.name, "directory": record.directory });
        let signer = self.signing.bind(who.clone(), key, Action::SignJws, context);
        match Account::open(&ca_of(&record), &self.clients, Arc::new(signer), url).await {
            Ok(account) => Ok((record, account)),
            Err(error) => {
                self.note(&record.name, Some(&error)).await?;
                Err(error)
            }
        }
    }

    /// Rolls an account over to a new HSM key (RFC 8555 section 7.3.5).
    ///
    /// # Errors
    /// `Conflict` where the account is not valid, else what the CA says. Where its answer is lost,
    /// the next use of the account asks which key counts.
    pub async fn rollover(
        &self,
        who: &Principal,
        name: &AccountName,
        algorithm: Option<Algorithm>,
    ) -> Result<AccountRecord> {
        let _turn = self.turns.take(name).await;
        let record = self.settle(who, self.find(name).await?).await?;
        let url = valid_url(&record)?;
        let current = self.key(&record, record.key_id).await?;
        let algorithm = algorithm.unwrap_or(current.algorithm);
        if algorithm == Algorithm::Ed25519 {
            let why = "CAs take no Ed25519 account keys";
            return Err(Error::invalid("roll over", format!("account {name}"), why)
                .hint("use ec-p256, which every CA takes"));
        }
        let next = self.signing.successor(who, &current, algorithm).await?;
        // Durable before the CA is asked, so that a crash leads to asking it again.
        let record = AccountRecord { next_key_id: Some(next.id), ..record };
        self.store.update_account(&record).await?;
        let context = json!({ "account": record.name, "rollover": next.id.to_string() });
        let old = self.signer(who.clone(), &record, record.key_id, context.clone()).await?;
        let new = self.signer(who.clone(), &record, next.id, context).await?;
        let (old, new) = (Arc::new(old), Arc::new(new));
        match Account::rollover(&ca_of(&record), &self.clients, old, new, url).await {
            Ok(()) => self.rolled_over(record, next.id).await,
            Err(error) if uncertain(&error) => Err(error
                .hint("which key counts is asked when the account is used next: try again later")),
            Err(error) => {
                self.drop_next(record, next.id).await?;
                Err(error)
            }
        }
    }

    /// Finds out which key counts where a rollover's answer was lost.
    async fn settle(&self, who: &Principal, record: AccountRecord) -> Result<AccountRecord> {
        let Some(next) = record.next_key_id else { return Ok(record) };
        let context = json!({ "account": record.name, "settle": next.to_string() });
        let signer = self.signer(who.clone(), &record, next, context).await?;
        match Account::find(&ca_of(&record), &self.clients, Arc::new(signer)).await {
            Ok(found) if Some(&found.url) == record.url.as_ref() => {
                self.rolled_over(record, next).await
            }
            Ok(found) => Err(Error::conflict(
                "settle the rollover",
                format!("account {}", record.name),
                format!("its new key belongs to another account: {}", found.url),
            )),
            // Nothing less shows that the CA did not take the new key.
            Err(error) if error.kind == ErrorKind::NotFound => self.drop_next(record, next).await,
            Err(error) => Err(error),
        }
    }

    async fn rolled_over(&self, record: AccountRecord, next: KeyId) -> Result<AccountRecord> {
        let old = record.key_id;
        let record = AccountRecord { key_id: next, next_key_id: None, ..record };
        self.store.update_account(&record).await?;
        self.signing.retire(old).await?;
        Ok(record)
    }

    async fn drop_next(&self, record: AccountRecord, next: KeyId) -> Result<AccountRecord> {
        let record = AccountRecord { next_key_id: None, ..record };
        self.store.update_account(&record).await?;
        self.signing.discard(&ACCOUNTS, next).await?;
        Ok(record)
    }

    /// Revokes a certificate that an account has ordered by the certificate's own key (RFC 8555
    /// section 7.6): the account need not be of use any more.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for an unknown reason, else what the CA says.
    pub async fn revoke_by_certificate_key(
        &self,
        name: &AccountName,
        signer: Arc<dyn MessageSigner>,
        certificate_der: &[u8],
        reason: &str,
    ) -> Result<()> {
        let ca = ca_of(&self.find(name).await?);
        acme::revoke_by_certificate_key(&ca, &self.clients, signer, certificate_der, reason).await
    }

    /// Deactivates an account at its CA, for ever (RFC 8555 section 7.3.6).
    ///
    /// # Errors
    /// `Conflict` where certificates still use it or it is not valid, else what the CA says.
    pub async fn deactivate(&self, who: &Principal, name: &AccountName) -> Result<AccountRecord> {
        let _turn = self.turns.take(name).await;
        let certificates = self.store.certificates().await?;
        if let Some(certificate) = certificates.iter().find(|c| c.account == *name) {
            let why = format!("certificate {} is ordered with it", certificate.name);
            return Err(Error::conflict("deactivate", format!("account {name}"), why)
                .hint("delete its certificates first"));
        }
        let record = self.settle(who, self.find(name).await?).await?;
        let (record, account) = self.open_settled(who, record).await?;
        account.deactivate().await?;
        let record = AccountRecord { status: AccountStatus::Deactivated, ..record };
        self.store.update_account(&record).await?;
        self.signing.retire(record.key_id).await?;
        Ok(record)
    }

    /// Remembers how the CA did last, for `vaultctl status`.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn note(&self, name: &AccountName, error: Option<&Error>) -> Result<()> {
        let error = error.map(ToString::to_string);
        self.store.note_account(name, error.as_deref(), self.clock.now()).await
    }

    /// Remembers that the CA has done what was asked, to the minute.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn note_answer(&self, account: &AccountRecord) -> Result<()> {
        let lately = |at| self.clock.now() - at < time::Duration::minutes(1);
        match account.last_error.is_none() && account.last_ok_at.is_some_and(lately) {
            true => Ok(()),
            false => self.note(&account.name, None).await,
        }
    }

    async fn key(&self, record: &AccountRecord, id: KeyId) -> Result<KeyRecord> {
        let subject = || format!("account {}", record.name);
        let key = self.store.key(id).await?;
        key.ok_or_else(|| Error::internal("use", subject(), "its key is not in the store"))
    }

    async fn signer(
        &self,
        who: Principal,
        record: &AccountRecord,
        key: KeyId,
        context: Value,
    ) -> Result<BoundKey> {
        let key = self.key(record, key).await?;
        Ok(self.signing.bind(who, key, Action::SignJws, context))
    }
}

/// Whether the CA may have done what was asked although the answer is an error. A rate limit is a
/// refusal like any other.
fn uncertain(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Internal)
}

fn ca_of(record: &AccountRecord) -> Ca {
    Ca { directory: record.directory.clone(), root_pem: record.ca_root_pem.clone() }
}

fn valid_url(record: &AccountRecord) -> Result<Url> {
    match (&record.url, record.status) {
        (Some(url), AccountStatus::Valid) => Ok(url.clone()),
        _ => {
            let (subject, why) = (format!("account {}", record.name), record.status);
            Err(Error::conflict("use", subject, format!("it is {why}"))
                .hint("register an account with `vaultctl account register`"))
        }
    }
}
