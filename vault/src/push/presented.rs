//! What agents said of challenges, and who waits for it. Many orders wait at once: what is said of one's
//! challenge wakes no other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use vault_proto::ids::AgentName;

use crate::error::{Error, Result};

/// What agents said, by token.
#[derive(Default)]
pub(super) struct Presented(Mutex<Said>);

#[derive(Default)]
struct Said {
    /// By token, then by agent. `Err` holds the reason of a nack.
    outcomes: HashMap<String, HashMap<AgentName, Result<(), String>>>,
    /// By token.
    waiting: HashMap<String, Arc<Notify>>,
}

impl Presented {
    /// Notes what an agent said of a token; whoever waits for that looks.
    pub(super) fn note(&self, agent: &AgentName, token: &str, outcome: Result<(), String>) {
        let mut said = self.said();
        said.outcomes.entry(token.to_owned()).or_default().insert(agent.clone(), outcome);
        if let Some(waiting) = said.waiting.get(token) {
            waiting.notify_one();
        }
    }

    /// Forgets what an agent said.
    pub(super) fn forget_agent(&self, agent: &AgentName) {
        self.said().outcomes.retain(|_, by_agent| {
            by_agent.remove(agent);
            !by_agent.is_empty()
        });
    }

    /// Forgets what was said of tokens.
    pub(super) fn forget_tokens(&self, tokens: &[String]) {
        let mut said = self.said();
        for token in tokens {
            said.outcomes.remove(token);
        }
    }

    /// Waits until every agent has every token.
    ///
    /// # Errors
    /// `Verification` at the first nack.
    pub(super) async fn wait(&self, agents: &BTreeSet<AgentName>, tokens: &[String]) -> Result<()> {
        let heard = Arc::<Notify>::default();
        let waits = tokens.iter().map(|token| (token.clone(), heard.clone()));
        self.said().waiting.extend(waits);
        let _waiting = Waiting { presented: self, tokens, heard: &heard };
        while !self.is_everywhere(agents, tokens)? {
            heard.notified().await;
        }
        Ok(())
    }

    fn is_everywhere(&self, agents: &BTreeSet<AgentName>, tokens: &[String]) -> Result<bool> {
        let said = self.said();
        let mut everywhere = true;
        for token in tokens {
            let by_agent = said.outcomes.get(token);
            for agent in agents {
                match by_agent.and_then(|by_agent| by_agent.get(agent)) {
                    Some(Ok(())) => {}
                    Some(Err(why)) => {
                        let subject = format!("agent {agent}");
                        return Err(Error::verification("present a challenge", subject, why)
                            .hint("check [http01] or [tls_alpn01] in the agent's configuration"));
                    }
                    None => everywhere = false,
                }
            }
        }
        Ok(everywhere)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits, until it is dropped.
struct Waiting<'a> {
    presented: &'a Presented,
    tokens: &'a [String],
    heard: &'a Arc<Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut said = self.presented.said();
        for token in self.tokens {
            // Another attempt at the same order may wait for it by now.
            if said.waiting.get(token).is_some_and(|by| Arc::ptr_eq(by, self.heard)) {
                said.waiting.remove(token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::error::ErrorKind;

    fn agents(names: &[&str]) -> BTreeSet<AgentName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn tokens(tokens: &[&str]) -> Vec<String> {
        tokens.iter().map(|token| (*token).to_owned()).collect()
    }

    #[test]
    fn whoever_waits_is_told_once_all_have_all() {
        let presented = Presented::default();
        let (both, two) = (agents(&["web1", "web2"]), tokens(&["a", "b"]));
        let [web1, web2] = ["web1", "web2"].map(|name| name.parse().unwrap());
        // One was quicker than whoever waits.
        presented.note(&web1, "a", Ok(()));
        let mut waiting = Box::pin(presented.wait(&both, &two));
        assert!(waiting.as_mut().now_or_never().is_none());
        for (agent, token) in [(&web1, "b"), (&web2, "b"), (&web2, "of another order")] {
            presented.note(agent, token, Ok(()));
            assert!(waiting.as_mut().now_or_never().is_none(), "{agent} {token}");
        }
        presented.note(&web2, "a", Ok(()));
        waiting.as_mut().now_or_never().unwrap().unwrap();
        drop(waiting);
        assert!(presented.said().waiting.is_empty());
    }

    #[test]
    fn the_first_nack_ends_it() {
        let presented = Presented::default();
        let (both, one) = (agents(&["web1", "web2"]), tokens(&["a"]));
        let mut waiting = Box::pin(presented.wait(&both, &one));
        assert!(waiting.as_mut().now_or_never().is_none());
        presented.note(&"web2".parse().unwrap(), "a", Err("no room".to_owned()));
        let refused = waiting.as_mut().now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Verification);
        assert!(refused.to_string().contains("no room"), "{refused}");
    }

    #[test]
    fn what_is_forgotten_has_to_be_said_again() {
        let (one, token) = (agents(&["web1"]), tokens(&["a"]));
        let web1 = "web1".parse().unwrap();
        let forgotten = [
            |presented: &Presented| presented.forget_agent(&"web1".parse().unwrap()),
            |presented: &Presented| presented.forget_tokens(&["a".to_owned()]),
        ];
        for forget in forgotten {
            let presented = Presented::default();
            presented.note(&web1, "a", Ok(()));
            forget(&presented);
            assert!(presented.wait(&one, &token).now_or_never().is_none());
            presented.note(&web1, "a", Ok(()));
            presented.wait(&one, &token).now_or_never().unwrap().unwrap();
        }
    }

    #[test]
    fn an_attempt_that_is_given_up_takes_nothing_from_the_next() {
        let presented = Presented::default();
        let (one, token) = (agents(&["web1"]), tokens(&["a"]));
        let mut first = Box::pin(presented.wait(&one, &token));
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(presented.wait(&one, &token));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        presented.note(&"web1".parse().unwrap(), "a", Ok(()));
        second.as_mut().now_or_never().unwrap().unwrap();
    }
}
