//! Profiles (draft-aaron-acme-profiles): an order that asks for one that the CA does not offer is refused
//! before it is placed, with the names of those that it does.

use super::{Account, Directory};
use crate::error::{Error, Result};

impl Directory {
    /// Refuses a profile that the CA does not offer.
    ///
    /// # Errors
    /// `Invalid`, naming those that it does.
    pub fn check_profile(&self, what: &str, wanted: &str) -> Result<()> {
        check(what, &self.ca, self.profiles.keys().map(String::as_str), wanted)
    }
}

impl Account {
    /// As [`Directory::check_profile`], of the directory that the account was opened with.
    ///
    /// # Errors
    /// `Invalid`, naming the profiles that the CA offers.
    pub fn check_profile(&self, what: &str, wanted: &str) -> Result<()> {
        check(what, &self.ca, self.inner.profiles().map(|profile| profile.name), wanted)
    }
}

fn check<'a>(
    what: &str,
    ca: &str,
    offered: impl Iterator<Item = &'a str>,
    wanted: &str,
) -> Result<()> {
    let mut offered: Vec<_> = offered.collect();
    if offered.contains(&wanted) {
        return Ok(());
    }
    offered.sort_unstable();
    let subject = format!("profile {wanted} of {ca}");
    let hint = "`vaultctl account show ACCOUNT` lists a CA's profiles; `vaultctl cert update NAME \
                --no-profile` takes its default";
    let why = match offered.as_slice() {
        [] => "the CA offers no profiles".to_owned(),
        offered => format!("the CA does not offer it, but {}", offered.join(", ")),
    };
    Err(Error::invalid(what, subject, why).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_refusal_names_what_is_offered() {
        let offered = || ["shortlived", "classic"].into_iter();
        assert!(check("order", "CA x", offered(), "classic").is_ok());
        let refused = check("order", "CA x", offered(), "class").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid);
        assert!(refused.why.ends_with("classic, shortlived"), "{refused}");
        let refused = check("order", "CA x", std::iter::empty(), "classic").unwrap_err();
        assert!(refused.why.contains("no profiles"), "{refused}");
    }
}
