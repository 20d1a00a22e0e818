//! What the environment says.

use std::{env, path::PathBuf, time::Duration};

use vault_proto::local::{SIGNER_KEYS, SIGNER_SOCKET};

/// How long a call may take: an agent that is restarted is back long before, and a web server that
/// waits longer loses its client anyway.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How this module is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `VAULT_AGENT_SOCKET`: where the agent listens.
    pub(crate) socket: PathBuf,
    /// `VAULT_AGENT_KEYS`: the list that this agent keeps on disk. An agent at another socket than the
    /// well-known one has one only where it is named: that of another agent would be wrong.
    pub(crate) keys: Option<PathBuf>,
    /// `VAULT_AGENT_TIMEOUT_MS`: how long a call may take, with all its retries.
    pub(crate) timeout: Duration,
    /// `VAULT_PKCS11_EDDSA=1`: whether Ed25519 keys are shown. libp11 0.4.12 (the engine of Debian 12)
    /// hides every key when it meets one.
    pub(crate) eddsa: bool,
    /// `VAULT_PKCS11_DEBUG=1`: whether a call that fails says why on stderr.
    pub(crate) debug: bool,
}

impl Settings {
    /// What the environment says now; where it says nothing, what it said `before`. Servers clear the
    /// environment of their workers (nginx does), and a worker must find the agent all the same.
    pub(crate) fn read(before: Option<&Self>) -> Self {
        Self::from(|name| env::var_os(name)?.into_string().ok(), before)
    }

    fn from(variable: impl Fn(&str) -> Option<String>, before: Option<&Self>) -> Self {
        let default = Self {
            socket: PathBuf::from(SIGNER_SOCKET),
            keys: Some(PathBuf::from(SIGNER_KEYS)),
            timeout: TIMEOUT,
            eddsa: false,
            debug: false,
        };
        let before = before.unwrap_or(&default);
        let path = |name: &str| variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let socket = path("VAULT_AGENT_SOCKET").unwrap_or_else(|| before.socket.clone());
        let same = before.keys.clone().filter(|_| socket == before.socket);
        let timeout = variable("VAULT_AGENT_TIMEOUT_MS").and_then(|ms| ms.parse().ok());
        let flag = |name: &str, before| variable(name).map_or(before, |value| value == "1");
        Self {
            keys: path("VAULT_AGENT_KEYS").or(same),
            socket,
            timeout: timeout
                .filter(|ms| *ms > 0)
                .map_or(before.timeout, |ms: u32| Duration::from_millis(ms.into())),
            eddsa: flag("VAULT_PKCS11_EDDSA", before.eddsa),
            debug: flag("VAULT_PKCS11_DEBUG", before.debug),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], before: Option<&Settings>) -> Settings {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        Settings::from(|name| find(name).map(|(_, value)| (*value).to_owned()), before)
    }

    #[test]
    fn a_cleared_environment_keeps_what_was_said_before() {
        let said = [
            ("VAULT_AGENT_SOCKET", "/run/a.sock"),
            ("VAULT_AGENT_KEYS", "/var/lib/a.pb"),
            ("VAULT_AGENT_TIMEOUT_MS", "250"),
            ("VAULT_PKCS11_EDDSA", "1"),
            ("VAULT_PKCS11_DEBUG", "1"),
        ];
        let first = read(&said, None);
        assert_eq!(first.timeout, Duration::from_millis(250));
        assert!(first.eddsa && first.debug);
        assert_eq!(read(&[], Some(&first)), first);
        assert!(!read(&[("VAULT_PKCS11_EDDSA", "0")], Some(&first)).eddsa);
    }

    #[test]
    fn the_list_of_one_agent_is_never_taken_for_anothers() {
        let socket = ("VAULT_AGENT_SOCKET", "/run/a.sock");
        assert_eq!(read(&[], None).keys, Some(PathBuf::from(SIGNER_KEYS)));
        assert_eq!(read(&[socket], None).keys, None);
        let named = read(&[socket, ("VAULT_AGENT_KEYS", "/var/lib/a.pb")], None);
        assert_eq!(read(&[socket], Some(&named)).keys, named.keys);
        assert_eq!(read(&[("VAULT_AGENT_SOCKET", "/run/b.sock")], Some(&named)).keys, None);
    }

    #[test]
    fn nonsense_is_not_taken() {
        for nonsense in ["", "0", "soon", "-1", "99999999999"] {
            assert_eq!(read(&[("VAULT_AGENT_TIMEOUT_MS", nonsense)], None).timeout, TIMEOUT);
        }
        assert_eq!(read(&[("VAULT_AGENT_SOCKET", "")], None).socket, PathBuf::from(SIGNER_SOCKET));
    }
}
