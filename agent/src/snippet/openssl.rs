//! OpenSSL's configuration: how it comes to the PKCS#11 module.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{File, plain};
use crate::durable;
use crate::error::{Error, ErrorKind, Result};

/// What cargo and the packages call the PKCS#11 module.
const MODULE: &str = "libvault_pkcs11.so";
/// Where it is installed.
const MODULE_DIR: &str = "/usr/lib/vault-agent";
/// What OpenSSL's provider and its engine are both called.
const LIBRARY: &str = "pkcs11.so";

/// What loads the PKCS#11 module into OpenSSL.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loader {
    /// `pkcs11-provider`, which hands over whole messages.
    Provider,
    /// libp11's engine, which hands over digests.
    Engine,
}

impl Loader {
    /// The configuration's file.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Provider => "openssl.cnf",
            Self::Engine => "openssl-engine.cnf",
        }
    }

    /// Finds its library, unless it is named.
    ///
    /// # Errors
    /// `NotFound` where it is not there.
    pub(super) fn library(self, named: Option<&Path>) -> Result<PathBuf> {
        let (folder, package) = match self {
            Self::Provider => ("ossl-modules", "pkcs11-provider"),
            Self::Engine => ("engines-3", "libengine-pkcs11-openssl"),
        };
        let places = libraries().into_iter().map(|dir| dir.join(folder).join(LIBRARY));
        let hint = format!("install {package}, or name the file: --openssl-module FILE");
        find(named, places, &format!("{folder}/{LIBRARY}"), hint)
    }

    /// The configuration.
    ///
    /// # Errors
    /// `Invalid` where a path cannot stand in it.
    pub(super) fn config(self, module: &Path, library: &Path) -> Result<String> {
        let (module, library) = (plain(module)?, plain(library)?);
        // The provider loads the module at once: by a worker's first handshake it would be late.
        Ok(match self {
            Self::Provider => format!(
                "openssl_conf = openssl_init\n\
                 [openssl_init]\nproviders = provider_sect\n\
                 [provider_sect]\ndefault = default_sect\npkcs11 = pkcs11_sect\n\
                 [default_sect]\nactivate = 1\n\
                 [pkcs11_sect]\nmodule = {library}\npkcs11-module-path = {module}\n\
                 pkcs11-module-load-behavior = early\nactivate = 1\n"
            ),
            Self::Engine => format!(
                "openssl_conf = openssl_init\n\
                 [openssl_init]\nengines = engine_sect\n\
                 [engine_sect]\npkcs11 = pkcs11_sect\n\
                 [pkcs11_sect]\nengine_id = pkcs11\ndynamic_path = {library}\n\
                 MODULE_PATH = {module}\n"
            ),
        })
    }
}

/// Finds the PKCS#11 module, unless it is named: where it is installed, or beside this program.
///
/// # Errors
/// `NotFound` where it is not there.
pub(super) fn ours(named: Option<&Path>) -> Result<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(MODULE)));
    let places = beside.into_iter().chain([Path::new(MODULE_DIR).join(MODULE)]);
    let hint = format!("install it to {MODULE_DIR}, or name it: --pkcs11-module FILE");
    find(named, places, MODULE, hint)
}

fn find(
    named: Option<&Path>,
    places: impl Iterator<Item = PathBuf>,
    what: &str,
    hint: String,
) -> Result<PathBuf> {
    let tried: Vec<_> = match named {
        Some(named) => vec![named.to_owned()],
        None => places.collect(),
    };
    if let Some(found) = tried.iter().find(|place| place.is_file()) {
        // As it is: a name that leads there may be another library's after an upgrade.
        return std::path::absolute(found)
            .map_err(|e| Error::local("find", found.display().to_string(), e));
    }
    let all: Vec<_> = tried.iter().map(|place| place.display().to_string()).collect();
    let why = format!("it is not at {}", all.join(" or "));
    Err(Error::new(ErrorKind::NotFound, "find", what, why).hint(hint))
}

/// Where this machine's libraries may be: Debian's way, one folder for each kind of machine, and
/// that of others.
fn libraries() -> Vec<PathBuf> {
    let own = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(env::consts::ARCH))
    };
    let entries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.filter(own).map(|entry| entry.path()).collect();
    all.sort();
    all.extend(["/usr/lib64", "/usr/lib"].map(PathBuf::from));
    all
}

/// Writes it where it is another; for everybody to read, since web servers do.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn write(file: &File) -> Result<()> {
    let dir = file.path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).map_err(|e| Error::local("create", dir.display().to_string(), e))?;
    if durable::read(&file.path)?.as_deref() == Some(file.text.as_bytes()) {
        return Ok(());
    }
    durable::write(&file.path, file.text.as_bytes(), 0o644)
}
