//! What the scratch store says once everything is in it: that each row reads back as it was, and that
//! keys, certificates and the internal CA belong together.

use time::OffsetDateTime;
use vault_backup::{
    Facts, KeyRow, Manifest, Table,
    drill::{Certificate, Check, Event, Key, KeyOutcome, Name},
};
use vault_proto::ids::KeyId;

use super::{
    Say,
    pass::{Digest, Done},
};
use crate::error::{Error, Result};
use crate::settings::Vault;
use crate::store::{
    Accounts as _, CertificateStatus, Certificates as _, Columns, Custody, KeyPurpose, KeyState,
    Keys as _, Store as _, VersionRecord, sql::SqlStore,
};
use crate::x509::chain::{Chain, Expected};

/// What is held against what.
pub(super) struct Proof<'a> {
    pub(super) store: &'a SqlStore,
    pub(super) done: &'a Done,
    pub(super) facts: &'a Facts,
    pub(super) manifest: &'a Manifest,
    pub(super) say: &'a Say,
}

/// Things that hold, and the first that does not.
#[derive(Default)]
struct Tally {
    held: u64,
    failed: u64,
    first: Option<String>,
}

impl Tally {
    fn take(&mut self, held: Result<(), String>) {
        match held {
            Ok(()) => self.held += 1,
            Err(why) => {
                self.failed += 1;
                self.first.get_or_insert(why);
            }
        }
    }

    /// A check: how many `things` hold, or how many do not and the first of them.
    fn check(self, name: Name, things: &str) -> Check {
        match self.first {
            None => Check::ok(name, format!("{things}: {}", self.held)),
            Some(why) => {
                let all = self.held + self.failed;
                Check::failed(
                    name,
                    format!("{} of {all} do not hold, the first: {why}", self.failed),
                )
            }
        }
    }
}

impl Proof<'_> {
    /// Says every check that is left.
    pub(super) async fn hold(&self, now: OffsetDateTime) -> Result<()> {
        self.check(self.keys());
        self.check(self.audit());
        if let Some(error) = &self.done.refused {
            self.check(Check::failed(Name::Store, error.to_string()));
            for name in [Name::Ca, Name::Chains, Name::Reissue] {
                self.check(Check::failed(name, "not reached: the store does not take the backup"));
            }
            return Ok(());
        }
        let (mut chains, mut reissue) = (Tally::default(), Tally::default());
        let store = self.read_back(now, &mut chains, &mut reissue).await?;
        self.check(store);
        self.check(self.ca(now).await?);
        let things = "certificates whose chain is whole and in date, and of a key that was proven";
        self.check(chains.check(Name::Chains, things));
        self.check(reissue.check(Name::Reissue, "keys that are not escrowed, each with its plan"));
        Ok(())
    }

    fn check(&self, check: Check) {
        (self.say)(Event::Check(check));
    }

    fn keys(&self) -> Check {
        let (keys, wanted) = (&self.done.keys, self.manifest.counts.keys_wrapped);
        match &keys.first {
            None if keys.proven == wanted => {
                let said = "keys unwrapped with their restrictions, and signed a fresh challenge";
                Check::ok(Name::Keys, format!("{wanted} {said}"))
            }
            None => Check::failed(Name::Keys, format!("{} of {wanted} were there", keys.proven)),
            Some(first) => {
                let failed = keys.failed.len();
                Check::failed(
                    Name::Keys,
                    format!("{failed} of {wanted} failed, the first: {first}"),
                )
            }
        }
    }

    fn audit(&self) -> Check {
        let (chain, says) = (&self.done.audit, &self.facts.audit);
        if (chain.records, &chain.head) == (says.sequence, &says.head) {
            let records = chain.records;
            return Check::ok(Name::Audit, format!("{records} records, up to the checkpoint"));
        }
        let why = format!("it ends at record {}, not at its checkpoint", chain.records);
        Check::failed(Name::Audit, why)
    }

    /// Reads everything back, page by page, and looks at keys and certificates on the way.
    async fn read_back(
        &self,
        now: OffsetDateTime,
        chains: &mut Tally,
        reissue: &mut Tally,
    ) -> Result<Check> {
        let mut snapshot = self.store.snapshot().await?;
        let mut rows = 0;
        for table in Table::ALL.iter().copied().filter(|table| *table != Table::Audit) {
            let mut read = Digest::default();
            loop {
                let page = snapshot.page(table).await?;
                if page.is_empty() {
                    break;
                }
                for row in &page {
                    read.take(row)?;
                    match table {
                        Table::Keys => self.plan(row, reissue).await?,
                        Table::Certificates => self.certificate(row, now, chains).await?,
                        _ => {}
                    }
                }
            }
            let written = self.done.tables.get(&table).cloned().unwrap_or_default();
            let (there, wanted) = (read.rows, written.rows);
            if there != wanted || wanted != self.counted(table) {
                let why = format!("{there} {table} read back, {} counted", self.counted(table));
                return Ok(Check::failed(Name::Store, why));
            }
            if read.value() != written.value() {
                let why = format!("{table} read back other than they were written");
                return Ok(Check::failed(Name::Store, why));
            }
            rows += there;
        }
        let said = "rows in an empty store, each read back as it was; counts as the manifest's";
        Ok(Check::ok(Name::Store, format!("{rows} {said}")))
    }

    fn counted(&self, table: Table) -> u64 {
        let counts = &self.manifest.counts;
        match table {
            Table::Settings => counts.settings,
            Table::Keys => counts.keys_wrapped + counts.keys_not_escrowed + counts.keys_gone,
            Table::Accounts => counts.accounts,
            Table::Agents => counts.agents,
            Table::Identities => counts.identities,
            Table::Certificates => counts.certificates,
            Table::Versions => counts.versions,
            Table::Orders => counts.orders,
            Table::Deployments => counts.deployments,
            Table::Audit => counts.audit_records,
        }
    }

    /// Whether a key was unwrapped and has signed, by its row's public half.
    async fn proven(&self, id: KeyId) -> Result<Result<Vec<u8>, String>> {
        let Some(key) = self.store.key(id).await? else {
            return Ok(Err(format!("key {id} has no row")));
        };
        let named = format!("key {} ({id})", key.name);
        let escrowed = key.escrow == crate::keystore::Escrow::Wrapped;
        Ok(match key.state {
            KeyState::Destroyed | KeyState::Lost => Err(format!("its {named} is {}", key.state)),
            _ if !escrowed => Ok(key.spki_der),
            _ if self.done.keys.failed.contains(&id) => Err(format!("its {named} was not proven")),
            _ => Ok(key.spki_der),
        })
    }

    async fn ca(&self, now: OffsetDateTime) -> Result<Check> {
        let failed = |why: String| Ok(Check::failed(Name::Ca, why));
        let Some(vault) = Vault::read(self.store).await? else {
            return failed("the settings do not say which vault it is".to_owned());
        };
        let Some(key) = self.store.key(vault.ca_key).await? else {
            return failed("the internal CA's key has no row".to_owned());
        };
        if key.escrow != crate::keystore::Escrow::Wrapped {
            let why = "its key is not escrowed: after a loss a vault is initialised anew, and every \
                       agent and operator enrols again";
            return failed(why.to_owned());
        }
        let root = match Chain::parse(&vault.ca_root_pem) {
            Ok(root) => root,
            Err(error) => return failed(error.why),
        };
        match self.proven(vault.ca_key).await? {
            Err(why) => failed(why),
            Ok(spki) if root.spki_der()? != spki => {
                failed("its key is not that of the root certificate".to_owned())
            }
            Ok(_) if root.not_after() <= now => {
                failed(format!("its root ended {}", root.not_after()))
            }
            Ok(_) => {
                let detail = "its key has signed, and is the root certificate's";
                Ok(Check::ok(Name::Ca, detail))
            }
        }
    }

    /// What becomes of a key that is not escrowed.
    async fn plan(&self, row: &Columns, tally: &mut Tally) -> Result<()> {
        let row: KeyRow = read(row)?;
        let living = matches!(row.state.0.as_str(), "active" | "retired");
        if !living || row.escrow.0 == "wrapped" {
            return Ok(());
        }
        let purpose: KeyPurpose = row.purpose.0.parse()?;
        let detail = match purpose {
            _ if row.state.0 == "retired" => {
                "it was replaced before: what it is for has a newer key".to_owned()
            }
            KeyPurpose::Certificate => self.plan_certificate(&row.name).await?,
            KeyPurpose::AcmeAccount => self.plan_account(&row.name).await?,
            KeyPurpose::General => {
                "`vaultctl key generate` makes another one; whoever relies on its \
                                    public half is told"
                    .to_owned()
            }
            KeyPurpose::InternalCa => "the vault is initialised anew; every agent and operator \
                                       enrols again"
                .to_owned(),
        };
        tally.take(Ok(()));
        (self.say)(Event::Key(Key {
            id: row.id.to_string(),
            name: row.name,
            purpose: row.purpose.0,
            algorithm: row.algorithm.0,
            outcome: KeyOutcome::ReIssue,
            detail,
        }));
        Ok(())
    }

    async fn plan_certificate(&self, name: &str) -> Result<String> {
        let found = match name.parse() {
            Ok(name) => self.store.certificate(&name).await?,
            Err(_) => None,
        };
        let Some(certificate) = found else {
            return Ok("no certificate is of it any more: nothing is to be done".to_owned());
        };
        let account = self.store.account(&certificate.account).await?;
        let ca = account.map_or("its CA".to_owned(), |account| account.directory.to_string());
        Ok(format!(
            "certificate {} is issued anew for another key, by account {} at {ca}, as soon as the \
             vault is restored",
            certificate.name, certificate.account
        ))
    }

    async fn plan_account(&self, name: &str) -> Result<String> {
        let found = match name.parse() {
            Ok(name) => self.store.account(&name).await?,
            Err(_) => None,
        };
        Ok(match found {
            Some(account) => format!(
                "account {} is registered anew at {} (`vaultctl account register`)",
                account.name, account.directory
            ),
            None => "no account is of it any more: nothing is to be done".to_owned(),
        })
    }

    /// A certificate's current version: its chain, its dates, its key.
    async fn certificate(
        &self,
        row: &Columns,
        now: OffsetDateTime,
        tally: &mut Tally,
    ) -> Result<()> {
        let row: vault_backup::CertificateRow = read(row)?;
        if row.current_version == 0 {
            // Never issued: there is nothing that could be lost.
            return Ok(());
        }
        let Some(certificate) = self.store.certificate(&row.name).await? else { return Ok(()) };
        let version = self.store.version(&row.name, row.current_version).await?;
        let mut said = Certificate {
            name: row.name.to_string(),
            version: row.current_version,
            custody: certificate.custody.to_string(),
            not_after: version.as_ref().map(|version| version.not_after),
            chain_length: 0,
            ok: true,
            detail: String::new(),
        };
        let key = match (certificate.custody, version.as_ref().and_then(|v| v.key_id)) {
            (Custody::Agent, _) => Ok(None),
            (Custody::Vault, None) => Err("it has no key".to_owned()),
            (Custody::Vault, Some(id)) => self.proven(id).await?.map(Some),
        };
        let expected = |spki_der| Expected {
            identifiers: certificate.identifiers.iter().cloned().collect(),
            spki_der,
            now,
        };
        let held = match (key, &version) {
            (_, None) => Err("its current version has no row".to_owned()),
            (Err(why), _) => Err(why),
            (Ok(_), Some(_)) if certificate.status == CertificateStatus::Revoked => {
                said.detail = "it is revoked: no chain is asked of it".to_owned();
                Ok(0)
            }
            (Ok(spki), Some(version)) => whole(version, &expected(spki)),
        };
        tally.take(match held {
            Ok(length) => {
                said.chain_length = length;
                Ok(())
            }
            Err(why) => {
                said.ok = false;
                said.detail.clone_from(&why);
                Err(format!("{} version {}: {why}", said.name, said.version))
            }
        });
        (self.say)(Event::Certificate(said));
        Ok(())
    }
}

/// Whether a version's chain is whole, in date, and what its row says of it; answers its length.
fn whole(version: &VersionRecord, expected: &Expected) -> Result<u64, String> {
    let chain = Chain::parse(&version.chain_pem).map_err(|error| error.why)?;
    chain.validate(expected).map_err(|error| error.why)?;
    if chain.fingerprint() != version.fingerprint || chain.serial() != version.serial {
        return Err("its row is of another certificate than its chain".to_owned());
    }
    Ok(chain.length())
}

fn read<T: serde::de::DeserializeOwned>(row: &Columns) -> Result<T> {
    serde_json::from_value(serde_json::Value::Object(row.clone()))
        .map_err(|e| Error::internal("read", "a row of the scratch store", e))
}
