//! Users and groups of this machine by their names.

use crate::error::{Error, Result};

/// The id of a user.
///
/// # Errors
/// `Invalid` where there is no such user.
pub fn user(name: &str) -> Result<u32> {
    let bad = |why: String| Error::invalid("find", format!("user {name}"), why);
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(bad("there is no such user".to_owned()).hint("check owner in agent.toml")),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// The id of a group.
///
/// # Errors
/// `Invalid` where there is no such group.
pub fn group(name: &str) -> Result<u32> {
    let bad = |why: String| Error::invalid("find", format!("group {name}"), why);
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(bad("there is no such group".to_owned()).hint("check group in agent.toml")),
        Err(error) => Err(bad(error.to_string())),
    }
}
