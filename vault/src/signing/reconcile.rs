//! At start: what the HSM has, what the store says, and which audited intents never ended.
//!
//! Nothing is guessed. An object whose generation never ended is destroyed, since nobody was told
//! of it. A destruction that reached the HSM is completed. A row without an object is a lost key,
//! said loudly. An object that nothing explains is left in place and reported.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use vault_proto::ids::KeyId;

use super::Signing;
use crate::audit::{Outcome, Record};
use crate::error::Result;
use crate::policy::Action;
use crate::store::{KeyRecord, KeyState};

/// Something that start-up found and a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding(pub String);

impl Signing {
    /// Brings HSM, store and audit log together. `pending` are the intents without a result.
    ///
    /// # Errors
    /// Where the HSM, the store or the audit log cannot be read or written: the vault must not
    /// start then.
    pub async fn reconcile(&self, pending: Vec<Record>) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let objects = self.keystore.list().await?;
        let rows = self.store.keys().await?;
        let known: BTreeSet<KeyId> = rows.iter().map(|row| row.id).collect();
        let present: BTreeSet<KeyId> =
            objects.iter().filter(|o| o.has_private).map(|o| o.id).collect();
        let intents = by_key(&pending);

        for object in objects.iter().filter(|object| !known.contains(&object.id)) {
            let intent = intents.get(&object.id).map(|record| record.action.as_str());
            if is_birth(intent) {
                self.keystore.destroy(object.id).await?;
                findings.push(Finding(format!(
                    "key {} ({}) was made in the HSM but never acknowledged: destroyed",
                    object.id, object.label
                )));
            } else {
                findings.push(Finding(format!(
                    "HSM object {} ({}) is not known to the store: left in place",
                    object.id, object.label
                )));
            }
        }
        for row in &rows {
            let intent = intents.get(&row.id).map(|record| record.action.as_str());
            findings.extend(self.reconcile_row(row, present.contains(&row.id), intent).await?);
        }
        for record in &pending {
            self.end_intent(record, &known).await?;
        }
        for finding in &findings {
            tracing::warn!(finding = finding.0, "start-up found a difference");
        }
        Ok(findings)
    }

    async fn reconcile_row(
        &self,
        row: &KeyRecord,
        present: bool,
        intent: Option<&str>,
    ) -> Result<Option<Finding>> {
        let in_use = matches!(row.state, KeyState::Active | KeyState::Retired);
        let said = match (in_use, present) {
            (true, false) if intent == Some(Action::KeyDestroy.as_str()) => {
                self.store.set_key_state(row.id, KeyState::Destroyed).await?;
                format!("key {} ({}) was being destroyed: completed", row.name, row.id)
            }
            (true, false) => {
                self.store.set_key_state(row.id, KeyState::Lost).await?;
                format!("key {} ({}) is LOST: the HSM does not have it", row.name, row.id)
            }
            (false, true) if row.state == KeyState::Lost => {
                // Retired, not active: whether a newer version replaced it is not known here.
                let newest = self.store.key_by_name(row.purpose, &row.name).await?;
                let is_newest = newest.is_some_and(|newest| newest.id == row.id);
                let state = if is_newest { KeyState::Active } else { KeyState::Retired };
                self.store.set_key_state(row.id, state).await?;
                format!("key {} ({}) was lost and is back: {state}", row.name, row.id)
            }
            (false, true) => {
                format!("key {} ({}) is destroyed but the HSM has it", row.name, row.id)
            }
            _ => return Ok(None),
        };
        Ok(Some(Finding(said)))
    }

    /// Ends an intent that a crash left open, saying what is known of it.
    async fn end_intent(&self, record: &Record, known: &BTreeSet<KeyId>) -> Result<()> {
        let (outcome, said) = match (key_of(record), record.action.as_str()) {
            (Some(id), action) if is_birth(Some(action)) => {
                if known.contains(&id) {
                    (Outcome::Ok, "the key is in HSM and store; the caller was not told")
                } else {
                    (Outcome::Failed, "no key remains")
                }
            }
            _ => (Outcome::Unknown, "the vault stopped before the result was recorded"),
        };
        self.audit.conclude_pending(record, outcome, json!({ "reconciled": said })).await
    }
}

fn is_birth(action: Option<&str>) -> bool {
    action == Some(Action::KeyGenerate.as_str()) || action == Some(Action::KeyRotate.as_str())
}

fn key_of(record: &Record) -> Option<KeyId> {
    record.resource.strip_prefix("key/")?.parse().ok()
}

fn by_key(pending: &[Record]) -> BTreeMap<KeyId, &Record> {
    pending.iter().filter_map(|record| Some((key_of(record)?, record))).collect()
}
