//! Backups that are in their place: held against the store, removed once retention keeps them no
//! longer, read.

use std::collections::BTreeSet;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use vault_proto::ids::BackupId;

use super::{
    super::place::{self, Contents, Place},
    Keeper, SCHEDULE, busy, entry,
};
use crate::audit::Outcome;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::policy::{Action, Principal};
use crate::store::{BackupRecord, BackupState, ScheduleRecord};

/// Names of one audit record at most.
const NAMED: usize = 32;

impl Keeper {
    /// Brings store and place together: what was begun and not ended goes, what was about to be
    /// there is or is not, and what is gone is said.
    pub(super) async fn settle(
        &self,
        place: &dyn Place,
        schedule: &mut ScheduleRecord,
    ) -> Result<()> {
        let begin = place::beginning(&self.vault_id);
        place.discard(&begin, schedule.unfinished.as_deref()).await?;
        schedule.unfinished = None;
        let names = place.names(&begin).await?;
        let there: BTreeSet<String> = names.iter().map(|name| place.url(name)).collect();
        for backup in self.in_place(place, BackupState::Storing).await? {
            let state = match there.contains(&backup.location) {
                true => BackupState::Kept,
                false => BackupState::Missing,
            };
            self.store.set_backup_state(backup.id, state).await?;
        }
        for backup in self.in_place(place, BackupState::Kept).await? {
            if !there.contains(&backup.location) {
                tracing::error!(id = %backup.id, at = backup.location, "a backup is GONE");
                self.store.set_backup_state(backup.id, BackupState::Missing).await?;
            }
        }
        for backup in self.in_place(place, BackupState::Removed).await? {
            if there.contains(&backup.location) {
                place.remove(name_of(&backup)).await?;
            }
        }
        Ok(())
    }

    /// Backups in this state that are in this place, and not in one that was configured before.
    async fn in_place(&self, place: &dyn Place, state: BackupState) -> Result<Vec<BackupRecord>> {
        let mut backups = self.store.backups_in(state).await?;
        backups.retain(|backup| backup.location == place.url(name_of(backup)));
        Ok(backups)
    }

    /// Clears away at once what a crash has left.
    pub(super) async fn settle_after_start(&self, place: &dyn Place, stop: &CancellationToken) {
        let settle = async |_: &CancellationToken| {
            let mut schedule = self.store.schedule(SCHEDULE).await?;
            self.settle(place, &mut schedule).await?;
            self.note(&schedule).await
        };
        if let Err(error) = self.alone(stop, settle).await {
            tracing::warn!(%error, "what an earlier start has left of backups stays for now");
        }
    }

    /// Removes what retention does not keep, or only says what that is.
    ///
    /// # Errors
    /// `Conflict` where the vault has no place for backups, `Exhausted` where one is being made,
    /// `Unavailable` where store, place or audit log are.
    pub async fn prune(
        &self,
        who: &Principal,
        dry_run: bool,
        stop: &CancellationToken,
    ) -> Result<Vec<BackupRecord>> {
        let place = self.place("prune")?;
        if dry_run {
            return self.surplus(place).await;
        }
        let prune = async |_: &CancellationToken| self.remove_surplus(who).await;
        self.alone(stop, prune).await?.ok_or_else(busy)
    }

    async fn surplus(&self, place: &dyn Place) -> Result<Vec<BackupRecord>> {
        let kept = self.in_place(place, BackupState::Kept).await?;
        let times: Vec<_> = kept.iter().map(|backup| backup.created_at).collect();
        // What a drill has proven is worth more than what is newer and was not.
        let proven = self.store.last_proven_drill().await?.map(|drill| drill.backup_sha256);
        let needed = |at: usize| kept.get(at).map(|backup| &backup.sha256) == proven.as_ref();
        let surplus = self.rules.surplus(&times, needed);
        Ok(surplus.into_iter().filter_map(|at| kept.get(at).cloned()).collect())
    }

    /// Removes what retention does not keep, while the schedule is held.
    pub(super) async fn remove_surplus(&self, who: &Principal) -> Result<Vec<BackupRecord>> {
        let place = self.place("prune")?;
        let surplus = self.surplus(place).await?;
        for backups in surplus.chunks(NAMED) {
            let names: Vec<_> = backups.iter().map(name_of).collect();
            let intent = entry(who, Action::BackupPrune, json!({ "names": names }));
            let operation = self.audit.intent(intent).await?;
            let removed = self.remove(place, backups).await;
            let (outcome, detail) = Outcome::of(&removed, |()| json!({}));
            self.audit.finish(operation, outcome, detail).await?;
            removed?;
        }
        Ok(surplus)
    }

    /// What is removed is said to be first: after a crash in between, [`Keeper::settle`] ends it.
    async fn remove(&self, place: &dyn Place, backups: &[BackupRecord]) -> Result<()> {
        for backup in backups {
            self.store.set_backup_state(backup.id, BackupState::Removed).await?;
            crash_point!("prune.said");
            place.remove(name_of(backup)).await?;
        }
        Ok(())
    }

    /// Reads a backup that is in its place.
    ///
    /// # Errors
    /// `NotFound` where there is none with this id, `Conflict` where it is not in this vault's place.
    pub async fn read(&self, id: BackupId) -> Result<(BackupRecord, Contents)> {
        let subject = format!("backup {id}");
        let backup = self.store.backup(id).await?.ok_or_else(|| {
            Error::not_found("read", subject.as_str(), "there is none with this id")
                .hint("`vaultctl backup list` shows them")
        })?;
        let elsewhere = |why: String| Err(Error::conflict("read", subject.as_str(), why));
        if backup.state != BackupState::Kept {
            return elsewhere(format!("it is {}: the vault does not have it", backup.state));
        }
        match &self.place {
            Some(place) if place.url(name_of(&backup)) == backup.location => {
                let contents = place.read(name_of(&backup)).await?;
                Ok((backup, contents))
            }
            _ => elsewhere(format!("it is at {}, where this vault looks no more", backup.location)),
        }
    }
}

/// The name that a backup has in its place.
fn name_of(backup: &BackupRecord) -> &str {
    backup.location.rsplit('/').next().unwrap_or_default()
}
