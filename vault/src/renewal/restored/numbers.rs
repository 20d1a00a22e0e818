//! Numbers of versions that a restored vault has forgotten: an agent that holds one says so, and it is
//! not given to anything else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vault_proto::ids::{AgentName, CertificateName};

use crate::error::{Error, Result};
use crate::push::Foreign;
use crate::store::Store;

/// How far ahead of the vault an agent may be. No certificate is renewed so often between two backups:
/// whoever says more is not believed.
const MOST_AHEAD: u64 = 1000;

/// What agents hold of one certificate that this vault does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::renewal) struct Numbers(BTreeMap<AgentName, Number>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    version: u64,
    fingerprint: String,
}

fn setting(name: &CertificateName) -> String {
    format!("restored.held/{name}")
}

impl Numbers {
    pub(in crate::renewal) async fn read(
        store: &dyn Store,
        name: &CertificateName,
    ) -> Result<Self> {
        let Some(text) = store.setting(&setting(name)).await? else { return Ok(Self::default()) };
        serde_json::from_str(&text)
            .map_err(|e| Error::internal("read", format!("what agents hold of {name}"), e))
    }

    async fn write(&self, store: &dyn Store, name: &CertificateName) -> Result<()> {
        let text = serde_json::to_string(self)
            .map_err(|e| Error::internal("write", format!("what agents hold of {name}"), e))?;
        store.put_settings(&[(&setting(name), &text)]).await
    }

    /// The number of a new version, where `ordered` would be next after `current`. What an agent holds
    /// keeps the number that it has there.
    pub(in crate::renewal) fn next(&self, current: u64, ordered: u64, fingerprint: &str) -> u64 {
        let held = self.0.values().find(|held| held.fingerprint == fingerprint);
        match held.filter(|held| held.version > current) {
            Some(held) => held.version,
            None => self.free(ordered),
        }
    }

    /// The first number from `ordered` on that nobody holds anything as.
    pub(in crate::renewal) fn free(&self, ordered: u64) -> u64 {
        self.0.values().map(|held| held.version + 1).fold(ordered, u64::max)
    }

    fn note(&mut self, agent: &AgentName, held: &Foreign) -> bool {
        let number = Number { version: held.version, fingerprint: held.fingerprint.clone() };
        self.0.insert(agent.clone(), number.clone()) != Some(number)
    }
}

/// Remembers what an agent holds, where it is believed; `current` is the vault's own version. Whoever
/// calls sees to it that nobody else does at the same time.
pub(super) async fn remember(
    store: &dyn Store,
    agent: &AgentName,
    held: &Foreign,
    current: u64,
) -> Result<bool> {
    if held.version > current.saturating_add(MOST_AHEAD) {
        tracing::warn!(%agent, certificate = %held.certificate, version = held.version, current,
            "an agent holds a version that cannot be");
        return Ok(false);
    }
    let mut numbers = Numbers::read(store, &held.certificate).await?;
    if numbers.note(agent, held) {
        numbers.write(store, &held.certificate).await?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(held: &[(u64, &str)]) -> Numbers {
        let number = |(version, fingerprint): &(u64, &str)| Number {
            version: *version,
            fingerprint: (*fingerprint).to_owned(),
        };
        let agent = |count: usize| format!("web{count}").parse().unwrap();
        Numbers(held.iter().enumerate().map(|(count, held)| (agent(count), number(held))).collect())
    }

    #[test]
    fn what_is_held_keeps_its_number_and_anything_else_gets_a_free_one() {
        for (held, current, ordered, fingerprint, expected) in [
            (&[][..], 2, 3, "new", 3),
            (&[(3, "a")], 2, 3, "new", 4),
            (&[(3, "a")], 2, 3, "a", 3),
            (&[(3, "a"), (5, "b")], 2, 3, "new", 6),
            (&[(3, "a"), (5, "b")], 2, 3, "a", 3),
            (&[(3, "a"), (5, "b")], 3, 4, "b", 5),
            // Its number is behind: numbers of one certificate never go back.
            (&[(3, "a")], 7, 8, "a", 8),
        ] {
            assert_eq!(numbers(held).next(current, ordered, fingerprint), expected, "{held:?}");
        }
    }

    proptest! {
        #[test]
        fn no_number_is_used_for_two_things(
            held in prop::collection::vec((1u64..2000, "[a-d]"), 0..6), current in 0u64..1000
        ) {
            let held: Vec<_> = held.iter().map(|(version, name)| (*version, name.as_str())).collect();
            let numbers = numbers(&held);
            let is_held = |version: u64, fingerprint: &str| held.contains(&(version, fingerprint));
            for fingerprint in ["a", "b", "c", "d", "new"] {
                let next = numbers.next(current, current + 1, fingerprint);
                prop_assert!(next > current);
                let used = held.iter().any(|(version, _)| *version == next);
                prop_assert!(!used || is_held(next, fingerprint), "{next} is another's");
            }
        }
    }
}
