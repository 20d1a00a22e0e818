//! What services share: the rooms of an initialised vault, and what there is before that.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use vault_proto::v1;

use crate::accounts::Accounts;
use crate::audit::{AuditLog, Entry, Outcome};
use crate::backup::drills::Drills;
use crate::backup::keks::Keks;
use crate::backup::restore::{self, Opening, Spool, Spooled};
use crate::backup::{Backups, Keeper};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::identities::Identities;
use crate::keyless::Keyless;
use crate::policy::{Action, Authorizer, Principal};
use crate::push::{Hub, Rollouts};
use crate::renewal::Issuer;
use crate::signing::{Finding, Signing};
use crate::store::Store;

/// The rooms of an initialised vault.
pub struct Rooms {
    /// Its id.
    pub vault_id: String,
    /// Private-key operations.
    pub signing: Signing,
    /// Who may connect.
    pub identities: Identities,
    /// Agents' sessions.
    pub hub: Arc<Hub>,
    /// Orders.
    pub issuer: Issuer,
    /// New versions on one agent first.
    pub rollouts: Rollouts,
    /// Agents' web servers' signatures.
    pub keyless: Keyless,
    /// Wakes the runner: something is due.
    pub wake: Arc<Notify>,
    /// ACME accounts.
    pub accounts: Accounts,
    /// The KEK and its shares.
    pub keks: Keks,
    /// Backups.
    pub backups: Backups,
    /// Backups by schedule, and those that are kept.
    pub keeper: Arc<Keeper>,
    /// Drills on record.
    pub drills: Drills,
    /// What start-up found.
    pub findings: Vec<Finding>,
}

/// Does the ceremony that turns an empty token into a vault.
#[async_trait]
pub trait Initializer: Send + Sync {
    /// # Errors
    /// Where anything is wrong with the request or the token; the vault stays uninitialised.
    async fn init(&self, by: &Principal, request: v1::InitRequest) -> Result<v1::InitResponse>;
}

/// Turns an empty token and store into the vault that a backup is of.
#[async_trait]
pub trait Restorer: Send + Sync {
    /// Where a backup goes on its way in.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn spool(&self) -> Result<Spool>;

    /// # Errors
    /// Where anything is wrong with the backup, with what opens it, or with the token; the vault
    /// stays uninitialised.
    async fn restore(
        &self,
        by: &Principal,
        backup: Spooled,
        opening: Opening,
        allow_stale: bool,
        told: mpsc::Sender<restore::Event>,
    ) -> Result<restore::Summary>;

    /// Ends this process and begins it anew, as the vault that was restored.
    fn start_anew(&self);
}

/// What every service holds.
pub struct Context {
    /// Everything that is not a private key.
    pub store: Arc<dyn Store>,
    /// The audit log.
    pub audit: AuditLog,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Calls under way.
    pub calls: TaskTracker,
    /// Cancelled when the drain begins: streams that would never end by themselves end then.
    pub stopping: CancellationToken,
    /// When the daemon started.
    pub started_at: OffsetDateTime,
    /// Set once, at start or by `init`.
    pub rooms: OnceLock<Arc<Rooms>>,
    /// The ceremony.
    pub initializer: OnceLock<Arc<dyn Initializer>>,
    /// The other way to become a vault.
    pub restorer: OnceLock<Arc<dyn Restorer>>,
}

impl Context {
    /// The rooms.
    ///
    /// # Errors
    /// `Unavailable` before `init`.
    pub fn rooms(&self) -> Result<&Arc<Rooms>> {
        self.rooms.get().ok_or_else(|| {
            Error::unavailable("serve", "this vault", "it is not initialised")
                .hint("run `vaultctl init` on the vault's machine")
        })
    }

    /// Lets a reading call through, or not. Reads are not recorded one by one; refusals are.
    ///
    /// # Errors
    /// `Denied` or `Unauthenticated`.
    pub async fn allow(&self, who: &Principal, action: Action, resource: &str) -> Result<()> {
        let Err(error) = self.authorizer.authorize(who, action, resource) else { return Ok(()) };
        if *who != Principal::Anonymous {
            let detail = json!({ "denied": error.why });
            self.audit.event(entry(who, action, resource, detail)).await?;
        }
        Err(error)
    }

    /// Does a change the one way: authorize → audit intent → the change → audit result.
    ///
    /// # Errors
    /// `Denied`, `Unavailable` where the audit log is, and those of the change.
    pub async fn audited<T>(
        &self,
        who: &Principal,
        action: Action,
        resource: &str,
        detail: Value,
        change: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.allow(who, action, resource).await?;
        let operation = self.audit.intent(entry(who, action, resource, detail)).await?;
        let changed = change.await;
        let (outcome, detail) = Outcome::of(&changed, |_| json!({}));
        self.audit.finish(operation, outcome, detail).await?;
        changed
    }
}

fn entry(who: &Principal, action: Action, resource: &str, detail: Value) -> Entry {
    Entry {
        principal: who.to_string(),
        action: action.as_str().to_owned(),
        resource: resource.to_owned(),
        detail: detail.into(),
        grouped: false,
    }
}
