//! Share files as custodians bring them: still encrypted, opened with an identity of theirs, or
//! opened by `age` before.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use age::{DecryptError, Decryptor, Identity, IdentityFile, armor::ArmoredReader};
use zeroize::Zeroizing;

use crate::error::{Result, invalid, verification};

/// How age files begin, armoured and not.
const AGE: [&[u8]; 2] = [b"-----BEGIN AGE", b"age-encryption.org/"];

/// The texts of share files.
///
/// # Errors
/// `Invalid` where a file cannot be read or holds no identity, `Verification` where a share is
/// damaged or none of the identities opens it.
pub fn shares(files: &[PathBuf], identities: &[PathBuf]) -> Result<Vec<Zeroizing<String>>> {
    let identities = read_identities(identities)?;
    files.iter().map(|file| share(file, &identities)).collect()
}

fn read_identities(files: &[PathBuf]) -> Result<Vec<Box<dyn Identity + Send + Sync>>> {
    let mut all = Vec::new();
    for file in files {
        let subject = || format!("identity {}", file.display());
        let hint = "an identity is what `age-keygen` writes";
        let read = IdentityFile::from_file(file.display().to_string());
        let read = read.map_err(|e| match e.raw_os_error() {
            Some(_) => invalid("read", subject(), e, hint),
            None => invalid("read", subject(), "it holds no age identity", hint),
        })?;
        let some = read.into_identities();
        all.extend(some.map_err(|e| invalid("read", subject(), plain(&e), hint))?);
    }
    Ok(all)
}

fn share(file: &Path, identities: &[Box<dyn Identity + Send + Sync>]) -> Result<Zeroizing<String>> {
    let subject = || format!("share {}", file.display());
    let bytes = fs::read(file).map(Zeroizing::new);
    let bytes = bytes.map_err(|e| {
        invalid("read", subject(), e, "name the file that a custodian's share is in")
    })?;
    let text = match AGE.iter().any(|begin| bytes.starts_with(begin)) {
        true => open(&bytes, identities).map_err(|why| {
            let hint = "give the identity of the share's custodian with --identity";
            verification("open", subject(), why, hint)
        })?,
        false => bytes,
    };
    match std::str::from_utf8(&text) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => {
            Err(verification("read", subject(), "it is no text", "give the share's own file"))
        }
    }
}

fn open(
    bytes: &[u8],
    identities: &[Box<dyn Identity + Send + Sync>],
) -> Result<Zeroizing<Vec<u8>>, String> {
    let decryptor = Decryptor::new(ArmoredReader::new(bytes)).map_err(|e| plain(&e))?;
    let known = identities.iter().map(|identity| identity.as_ref() as &dyn Identity);
    let mut reader = decryptor.decrypt(known).map_err(|e| plain(&e))?;
    // A text is shorter than its age file, so this does not grow and leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
    reader.read_to_end(&mut text).map_err(|e| plain(&e.into()))?;
    Ok(text)
}

/// Why a file does not open, in words for its custodian.
fn plain(error: &DecryptError) -> String {
    match error {
        DecryptError::NoMatchingKeys => "none of the identities opens it",
        DecryptError::UnknownFormat => "it is no age file of a version that is known",
        DecryptError::Io(_) | DecryptError::InvalidHeader | DecryptError::InvalidMac => {
            "it was changed or cut off"
        }
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            "it does not decrypt: it was changed"
        }
        _ => "it is encrypted in a way that is not for shares",
    }
    .to_owned()
}
