//! Custodians, and how many of them rebuild the KEK.

use std::collections::BTreeSet;

use vault_proto::ids::OperatorName;

use crate::error::{Result, invalid};

/// The most shares that GF(256) has room for.
const MOST_SHARES: usize = 255;

/// Who keeps one share.
pub struct Custodian {
    pub(crate) name: OperatorName,
    pub(crate) recipient: age::x25519::Recipient,
}

/// Custodians and how many of them rebuild the KEK.
pub struct Quorum {
    pub(crate) custodians: Vec<Custodian>,
    pub(crate) threshold: usize,
}

impl Quorum {
    /// Checks a list of names and age recipients.
    ///
    /// # Errors
    /// `Invalid` naming the custodian or the rule: names and recipients are unique, at least two
    /// of several custodians are needed, and no more than there are.
    pub fn parse(custodians: &[(String, String)], threshold: usize) -> Result<Self> {
        let refuse = |subject: String, why: &str, hint: &str| invalid("read", subject, why, hint);
        let mut parsed = Vec::new();
        let (mut names, mut recipients) = (BTreeSet::new(), BTreeSet::new());
        for (name, recipient) in custodians {
            let subject = || format!("custodian {name}");
            let name_parsed: OperatorName = name.parse().map_err(|e| {
                invalid("read", subject(), e, "a name has letters, digits and hyphens")
            })?;
            if !names.insert(name.as_str()) {
                return Err(refuse(
                    subject(),
                    "the name is there twice",
                    "name each custodian once",
                ));
            }
            if !recipients.insert(recipient.as_str()) {
                let why = "another custodian has the same recipient";
                return Err(refuse(subject(), why, "each custodian has a recipient of their own"));
            }
            let recipient = recipient.parse().map_err(|why: &str| {
                refuse(subject(), why, "an age recipient is what `age-keygen -y` prints")
            })?;
            parsed.push(Custodian { name: name_parsed, recipient });
        }
        let count = parsed.len();
        if count > MOST_SHARES {
            return Err(refuse("the custodians".into(), "there are more than 255", "name fewer"));
        }
        if threshold > count || threshold == 0 {
            let why = format!("it must be from 1 to the number of custodians ({count})");
            let hint = "say how many custodians together rebuild the KEK";
            return Err(refuse(format!("threshold {threshold}"), &why, hint));
        }
        if threshold == 1 && count > 1 {
            let why = "one custodian alone could rebuild the KEK";
            let hint = "use --threshold 2 or more, or a single custodian";
            return Err(refuse("threshold 1".into(), why, hint));
        }
        Ok(Self { custodians: parsed, threshold })
    }

    /// Custodians' names.
    pub fn names(&self) -> impl Iterator<Item = &OperatorName> {
        self.custodians.iter().map(|custodian| &custodian.name)
    }

    /// How many shares rebuild the KEK.
    pub fn threshold(&self) -> usize {
        self.threshold
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly
mod tests {
    use super::*;

    #[test]
    fn a_quorum_that_protects_nothing_is_refused() {
        let recipient = || age::x25519::Identity::generate().to_public().to_string();
        let [a, b] = [recipient(), recipient()];
        let list = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(n, r)| ((*n).to_owned(), (*r).to_owned())).collect()
        };
        for (custodians, threshold) in [
            (list(&[("a", &a), ("a", &b)]), 2),
            (list(&[("a", &a), ("b", &a)]), 2),
            (list(&[("a", &a), ("b", &b)]), 1),
            (list(&[("a", &a), ("b", &b)]), 3),
            (list(&[("a", &a)]), 0),
            (list(&[("a", "age1nonsense")]), 1),
            (list(&[("A b", &a)]), 1),
        ] {
            let refused = Quorum::parse(&custodians, threshold).err().expect("refused");
            assert!(!refused.hint.is_empty(), "{custodians:?} {threshold}");
        }
    }
}
