//! What the token's security officer does beside a running vault, and what custodians do where none
//! runs: each in a process of its own, which ends with it.

use std::{
    env,
    fs::File,
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::Stdio,
};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{io::AsyncWriteExt as _, process::Command};
use vault_custody::{
    locked::{LENGTH, Locked},
    open,
    shares::{self, Rebuilt},
};
use vault_proto::ids::KeyId;
use zeroize::Zeroizing;

use crate::backup::keks::Officer;
use crate::config::{Hsm, SecretSource};
use crate::error::{Error, ErrorKind, Result};
use crate::keystore::pkcs11::{KekSpec, Lasting, Module, Recovery, TokenUri};

/// The verb of the officer's process.
const VERB: &str = "create-kek";
/// The longest SO PIN that is read.
const LONGEST_PIN: u64 = 1024;

/// Starts this program once more as the security officer.
pub struct OfficerProcess {
    hsm: Hsm,
}

impl OfficerProcess {
    /// For the token of this configuration.
    pub fn new(hsm: Hsm) -> Self {
        Self { hsm }
    }
}

#[async_trait]
impl Officer for OfficerProcess {
    async fn create_kek(&self, id: KeyId, value: &Locked) -> Result<()> {
        let failed = |e: io::Error| Error::internal("start", "the officer's process", e);
        let so_pin = self.hsm.so_pin.as_ref().ok_or_else(|| {
            let why = "the security officer's PIN is not configured";
            Error::invalid("rotate", "the KEK", why)
                .hint("set so_pin in [hsm] of vault.toml for the ceremony, then remove it")
        })?;
        let so_pin = so_pin.read()?;
        let own = env::current_exe().map_err(failed)?;
        let mut child = Command::new(own)
            .args([VERB, "--token", &self.hsm.uri])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // Straight from locked memory into the pipe. One that ends early says why below.
            let _ = stdin.write_all(id.as_bytes()).await;
            let _ = stdin.write_all(value.bytes()).await;
            let _ = stdin.write_all(so_pin.expose_secret().as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
        let ended = child.wait_with_output().await.map_err(failed)?;
        match ended.status.code() {
            Some(0) => Ok(()),
            code => Err(said(code, &String::from_utf8_lossy(&ended.stderr))),
        }
    }
}

/// The error of a process that has written it for people.
fn said(code: Option<i32>, stderr: &str) -> Error {
    let kind = match code {
        Some(2) => ErrorKind::Invalid,
        Some(4) => ErrorKind::Denied,
        Some(6) => ErrorKind::Unavailable,
        Some(7) => ErrorKind::Verification,
        _ => ErrorKind::Internal,
    };
    let line = |prefix: &str| stderr.lines().find_map(|line| line.strip_prefix(prefix));
    let why = line("error: ").unwrap_or("the officer's process said nothing").to_owned();
    let error = Error::new(kind, "create", "the KEK", why);
    match line("hint: ") {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The officer's process: a KEK's id and value and the SO PIN on stdin, the KEK into the token.
///
/// # Errors
/// `Invalid` where stdin ends early, and those of [`Module::install_kek`].
pub fn create_kek(token: &TokenUri) -> Result<()> {
    let short = |e: io::Error| {
        Error::invalid("read", "the KEK to create", e)
            .hint("vaultd starts this by itself: use `vaultctl kek rotate`")
    };
    // Not by way of a buffer, which would keep a copy.
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(short)?;
    let mut stdin = File::from(stdin);
    let mut id = [0; 16];
    stdin.read_exact(&mut id).map_err(short)?;
    let id = KeyId::from_bytes(&id)
        .ok_or_else(|| short(io::Error::other("its id is no id of a vault")))?;
    let mut read = Ok(());
    let value = Locked::fill(|place| {
        read = stdin.read_exact(place);
        Ok(())
    })?;
    read.map_err(short)?;
    let mut pin = Zeroizing::new(String::with_capacity(LENGTH * LENGTH));
    stdin.take(LONGEST_PIN).read_to_string(&mut pin).map_err(short)?;
    let module = Module::load(token.module_path())?;
    module.install_kek(token, &SecretString::from(pin.as_str()), &KekSpec { id, value })
}

/// Puts the KEK that a quorum's shares make into a token, for unwrapping only.
///
/// # Errors
/// `Verification` where the shares do not make a KEK, `Conflict` where the token is a live vault's,
/// and those of the token.
pub fn install_kek(
    token: &TokenUri,
    pin: &SecretSource,
    files: &[PathBuf],
    identities: &[PathBuf],
) -> Result<Rebuilt> {
    let pin = pin.read()?;
    let rebuilt = shares::rebuild(&open::shares(files, identities)?)?;
    let module = Module::load(token.module_path())?;
    let recovery = Recovery::open(&module, token, &pin)?;
    let kek = KekSpec { id: rebuilt.kek.id, value: rebuilt.kek.copy()? };
    recovery.install_kek(&kek, Lasting::Token)?;
    Ok(rebuilt)
}
