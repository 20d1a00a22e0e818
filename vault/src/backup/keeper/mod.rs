//! Backups that the vault makes by itself: when they are due, into their place, one at a time among
//! all nodes of a vault; and those that retention does not keep are removed.
//!
//! Whatever fails here fails the backup and nothing else. What an attempt has begun stands in its
//! schedule's row, so that whoever makes the next one clears it away.

mod kept;
mod lease;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration as StdDuration,
};

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;
use vault_proto::ids::BackupId;

use super::{
    Backups, Event, Summary,
    place::{self, Place, Upload},
    plan::Plan,
    retention::Rules,
};
use crate::audit::{AuditLog, Entry};
use crate::clock::Clock;
use crate::config;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::policy::{Action, Principal};
use crate::store::{BackupRecord, BackupState, ScheduleRecord, Store};

const KEEPER: Principal = Principal::Vault("backup");
/// The schedule's name in the store.
const SCHEDULE: &str = "backup";
/// The longest sleep: a change of the machine's clock, and another node's work, is noticed within this.
const LONGEST_SLEEP: StdDuration = StdDuration::from_secs(15);
/// Chunks that wait for the place.
const AHEAD: usize = 2;
/// Backups that are looked at for the newest whole one.
const RECENT: u32 = 100;

/// Makes scheduled backups.
pub struct Keeper {
    store: Arc<dyn Store>,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    backups: Backups,
    vault_id: String,
    place: Option<Box<dyn Place>>,
    plan: Plan,
    rules: Rules,
    /// Who holds the schedule: this process, or on SQLite, which has one node, this vault.
    holder: String,
    turn: Mutex<()>,
    /// Whoever has the turn makes a backup that is not there yet.
    making: AtomicBool,
    wake: Notify,
}

/// How scheduled backups are.
#[derive(Debug, Clone)]
pub struct State {
    /// The newest one that is whole: kept, or handed out.
    pub last: Option<BackupRecord>,
    /// When the next is due; `None` where the vault makes none by itself.
    pub next_at: Option<OffsetDateTime>,
    /// One was due and is not there.
    pub overdue: bool,
    /// How the last attempts went.
    pub schedule: ScheduleRecord,
    /// Where they are put; empty where the vault makes none by itself.
    pub place: String,
}

impl Keeper {
    /// The keeper of a vault's backups.
    ///
    /// # Errors
    /// Where the place that is configured cannot be used.
    pub fn new(
        store: Arc<dyn Store>,
        audit: AuditLog,
        clock: Arc<dyn Clock>,
        backups: Backups,
        vault_id: &str,
        config: &config::Backup,
    ) -> Result<Self> {
        let holder = match store.backend() {
            "sqlite" => vault_id.to_owned(),
            _ => BackupId::random().to_string(),
        };
        Ok(Self {
            store,
            audit,
            clock,
            backups,
            vault_id: vault_id.to_owned(),
            place: place::open(config)?,
            plan: Plan::new(config),
            rules: Rules::new(config),
            holder,
            turn: Mutex::default(),
            making: AtomicBool::default(),
            wake: Notify::new(),
        })
    }

    /// Makes what is due until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(place) = self.place.as_deref() else { return };
        self.settle_after_start(place, &stop).await;
        while !stop.is_cancelled() {
            let nap = match self.due().await {
                Ok((due, now)) if due <= now => {
                    self.make_due(&stop).await;
                    continue;
                }
                Ok((due, now)) => (due - now).unsigned_abs().min(LONGEST_SLEEP),
                Err(error) => {
                    tracing::warn!(%error, "when the next backup is due cannot be read");
                    LONGEST_SLEEP
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    async fn due(&self) -> Result<(OffsetDateTime, OffsetDateTime)> {
        let schedule = self.store.schedule(SCHEDULE).await?;
        let now = self.clock.now();
        Ok((self.plan.due(&schedule, now), now))
    }

    async fn make_due(&self, stop: &CancellationToken) {
        match self.attempt(&KEEPER, true, stop).await {
            Ok(Some(backup)) => {
                tracing::info!(id = %backup.id, at = backup.location, size = backup.size,
                    "a backup was made");
            }
            // Another node makes it, or has made it.
            Ok(None) => pause(stop, StdDuration::from_secs(1)).await,
            Err(error) => {
                tracing::error!(%error, hint = error.hint, "NO BACKUP was made");
                // Where even that could not be written down, it is not tried without a pause.
                pause(stop, StdDuration::from_secs(1)).await;
            }
        }
    }

    /// Makes one now, whatever the schedule.
    ///
    /// # Errors
    /// `Conflict` where the vault has no place for backups, `Exhausted` where one is being made, and
    /// whatever keeps it from being made.
    pub async fn make(&self, who: &Principal, stop: &CancellationToken) -> Result<BackupRecord> {
        self.place("make")?;
        let made = self.attempt(who, false, stop).await;
        self.wake.notify_one();
        made?.ok_or_else(busy)
    }

    fn place(&self, what: &str) -> Result<&dyn Place> {
        self.place.as_deref().ok_or_else(|| {
            Error::conflict(what, "a backup", "this vault has no place where it puts backups")
                .hint("set directory or url in [backup] of vault.toml")
        })
    }

    /// One attempt; `None` where another node or call is at it, or where `only_due` it is not due.
    async fn attempt(
        &self,
        who: &Principal,
        only_due: bool,
        stop: &CancellationToken,
    ) -> Result<Option<BackupRecord>> {
        let make = async |held: &CancellationToken| {
            let (due, began) = self.due().await?;
            match only_due && due > began {
                true => Ok(None),
                false => {
                    self.making.store(true, Ordering::Release);
                    let made = self.make_and_note(who, began, held).await;
                    self.making.store(false, Ordering::Release);
                    made.map(Some)
                }
            }
        };
        Ok(self.alone(stop, make).await?.flatten())
    }

    async fn make_and_note(
        &self,
        who: &Principal,
        began: OffsetDateTime,
        held: &CancellationToken,
    ) -> Result<BackupRecord> {
        let mut schedule = self.store.schedule(SCHEDULE).await?;
        let made = self.make_there(who, began, held, &mut schedule).await;
        match &made {
            Ok(_) => {
                schedule = ScheduleRecord { last_ok_at: Some(began), ..Default::default() };
            }
            // Ended by the vault's own stop: that is no failure, and it is still due.
            Err(_) if held.is_cancelled() => return made,
            Err(error) => {
                let now = self.clock.now();
                schedule.failed_attempts = schedule.failed_attempts.saturating_add(1);
                schedule.last_error = Some(error.to_string());
                schedule.last_failed_at = Some(now);
                schedule.retry_at = Some(self.plan.retry(schedule.failed_attempts, now));
                let failed = json!({ "failed": error.to_string() });
                self.audit.event(entry(who, Action::BackupCreate, failed)).await?;
            }
        }
        self.note(&schedule).await?;
        let made = made?;
        // Only one that is there makes others surplus.
        if let Err(error) = self.remove_surplus(who).await {
            tracing::warn!(%error, "backups that are not kept any longer stay until the next one");
        }
        Ok(made)
    }

    async fn make_there(
        &self,
        who: &Principal,
        began: OffsetDateTime,
        held: &CancellationToken,
        schedule: &mut ScheduleRecord,
    ) -> Result<BackupRecord> {
        let place = self.place("make")?;
        let recipients = self.backups.recipients(&[])?;
        self.settle(place, schedule).await?;
        let name = place::name(&self.vault_id, began)?;
        let upload = place.begin(&name).await?;
        schedule.unfinished = Some(upload.token());
        self.note(schedule).await?;
        crash_point!("store.begun");
        let (events, made) = mpsc::channel(AHEAD);
        let location = place.url(&name);
        let create = self.backups.create_at(&location, who, recipients, events, held.clone());
        let (made, (upload, copied)) = tokio::join!(create, copy(made, upload));
        // Where the place has failed, the vault only knows that nobody reads any more.
        let Summary { id, .. } = match copied.and(made) {
            Ok(summary) => summary,
            Err(error) => {
                if let Err(left) = upload.abort().await {
                    tracing::warn!(error = %left, "something is left of a backup for now");
                }
                return Err(error);
            }
        };
        crash_point!("store.made");
        upload.finish().await?;
        schedule.unfinished = None;
        // Whoever sees that it is there may ask for the next one: what is left to do is waited for.
        self.making.store(false, Ordering::Release);
        self.store.set_backup_state(id, BackupState::Kept).await?;
        crash_point!("store.kept");
        let backup = self.store.backup(id).await?;
        backup.ok_or_else(|| Error::internal("make", "a backup", "its row is gone"))
    }

    /// How scheduled backups are.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn state(&self) -> Result<State> {
        let (schedule, now) = (self.store.schedule(SCHEDULE).await?, self.clock.now());
        let whole = |backup: &BackupRecord| {
            matches!(backup.state, BackupState::Kept | BackupState::HandedOut)
        };
        let last = self.store.backups(None, RECENT).await?.into_iter().find(whole);
        let scheduled = self.place.as_ref();
        Ok(State {
            last,
            next_at: scheduled.map(|_| self.plan.due(&schedule, now)),
            overdue: scheduled.is_some() && self.plan.is_overdue(&schedule, now),
            schedule,
            place: scheduled.map_or(String::new(), |place| place.url("")),
        })
    }
}

fn busy() -> Error {
    Error::exhausted("use", "this vault's place for backups", "a backup is being made there")
        .retry_after(StdDuration::from_secs(30))
}

fn entry(who: &Principal, action: Action, detail: Value) -> Entry {
    Entry {
        principal: who.to_string(),
        action: action.as_str().to_owned(),
        resource: "backup".to_owned(),
        detail: detail.into(),
        grouped: false,
    }
}

/// Hands on what is made, as fast as the place takes it.
async fn copy(
    mut made: mpsc::Receiver<Event>,
    mut upload: Box<dyn Upload>,
) -> (Box<dyn Upload>, Result<()>) {
    while let Some(event) = made.recv().await {
        let Event::Data(bytes) = event else { continue };
        if let Err(error) = upload.write(bytes).await {
            return (upload, Err(error));
        }
    }
    (upload, Ok(()))
}

async fn pause(stop: &CancellationToken, pause: StdDuration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
    }
}
