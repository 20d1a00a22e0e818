//! The token of a drill: a scratch one, whose KEK a quorum's shares make and which has it as long as
//! one session, or a drill host's own, into which a quorum has put it.

use std::path::PathBuf;

use secrecy::SecretString;
use vault_backup::{
    Facts, Kek,
    drill::{Check, Name},
};
use vault_custody::{open, shares};

use super::Request;
use crate::config::SecretSource;
use crate::error::{Error, ErrorKind, Result};
use crate::keystore::pkcs11::{KekSpec, Lasting, Module, Recovery, TokenUri};

/// The scratch token's label.
const LABEL: &str = "drill";

/// Where keys are unwrapped.
pub enum Place {
    /// In a token of this module that is made for it.
    Scratch {
        /// The PKCS#11 module; by its environment it keeps its tokens in the scratch directory.
        module: PathBuf,
        /// A quorum's shares.
        shares: Vec<PathBuf>,
    },
    /// In a token that has the KEK for unwrapping.
    Token {
        /// Which.
        uri: TokenUri,
        /// Its user PIN.
        pin: SecretSource,
    },
}

/// What [`open()`] answers.
pub(super) struct Opened {
    /// The token, logged in, with the KEK in it; nothing where there is no such KEK.
    pub(super) recovery: Option<Recovery>,
    /// How the KEK was found.
    pub(super) check: Check,
}

impl Opened {
    fn without(check: Check) -> Self {
        Self { recovery: None, check }
    }
}

/// Opens the token of a drill of this backup.
pub(super) fn open(request: &Request, facts: &Facts) -> Result<Opened> {
    let Some(kek) = &facts.kek else {
        let detail = "its vault has no KEK: nothing is escrowed, every key is issued anew";
        return Ok(Opened::without(Check::ok(Name::Kek, detail)));
    };
    match &request.place {
        Place::Scratch { module, shares } => scratch(request, facts, kek, module.clone(), shares),
        Place::Token { uri, pin } => installed(kek, uri, pin),
    }
}

fn scratch(
    request: &Request,
    facts: &Facts,
    kek: &Kek,
    module: PathBuf,
    files: &[PathBuf],
) -> Result<Opened> {
    if files.is_empty() {
        let why = format!("its keys are under KEK {}, and no share is given", kek.check_value);
        return Err(Error::invalid("drill", format!("backup {}", request.file.display()), why)
            .hint(
                "give a quorum's shares with --share, or a token that has the KEK with --token",
            ));
    }
    let rebuilt = open::shares(files, &request.identities)
        .and_then(|texts| shares::combine(&texts, &facts.vault_id));
    let rebuilt = match rebuilt.map_err(Error::from) {
        Ok(rebuilt) => rebuilt,
        // The shares do not make the KEK: that is what a drill is for.
        Err(error) if error.kind == ErrorKind::Verification => {
            return Ok(Opened::without(Check::failed(Name::Kek, error.why)));
        }
        Err(error) => return Err(error),
    };
    let found = rebuilt.check_value(&facts.vault_id);
    if (rebuilt.id, &found) != (kek.id, &kek.check_value) {
        let why = format!(
            "the shares are of KEK {found}, its keys are under {}: give shares of its ceremony",
            kek.check_value
        );
        return Ok(Opened::without(Check::failed(Name::Kek, why)));
    }
    let uri = format!("pkcs11:token={LABEL}?module-path={}", module.display()).parse()?;
    let (so_pin, pin) = (random_pin()?, random_pin()?);
    let module = Module::load(&module)?;
    module.initialize_token(&uri, &so_pin, &pin, false)?;
    let recovery = Recovery::open(&module, &uri, &pin)?;
    let spec = KekSpec { id: rebuilt.id, value: rebuilt.copy()? };
    drop(rebuilt);
    recovery.install_kek(&spec, Lasting::Session)?;
    let detail = format!("{} of {} shares rebuild KEK {found}", files.len(), kek.custodians.len());
    Ok(Opened { recovery: Some(recovery), check: Check::ok(Name::Kek, detail) })
}

fn installed(kek: &Kek, uri: &TokenUri, pin: &SecretSource) -> Result<Opened> {
    let module = Module::load(uri.module_path())?;
    let recovery = Recovery::open(&module, uri, &pin.read()?)?;
    if let Some(id) = recovery.wrapping_kek()? {
        let why = format!("KEK {id} wraps there: it is a live vault's token");
        return Err(Error::conflict("drill", format!("token {}", uri.label()), why)
            .hint("name the token of a drill host, into which `vaultctl kek install` has put it"));
    }
    if !recovery.keks()?.contains(&kek.id) {
        let why = format!(
            "token {} does not have KEK {}, which its keys are under: `vaultctl kek install` puts \
             it there, by a quorum",
            uri.label(),
            kek.check_value
        );
        return Ok(Opened::without(Check::failed(Name::Kek, why)));
    }
    let detail = format!("token {} has KEK {}, for unwrapping", uri.label(), kek.check_value);
    Ok(Opened { recovery: Some(recovery), check: Check::ok(Name::Kek, detail) })
}

/// A PIN that nobody ever learns.
fn random_pin() -> Result<SecretString> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::unavailable("make", "a scratch token", "no random numbers"))?;
    Ok(SecretString::from(hex::encode(bytes)))
}
