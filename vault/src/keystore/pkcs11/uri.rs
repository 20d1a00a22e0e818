//! Which module and which token, as an RFC 7512 URI.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::error::{Error, Result};

/// A PKCS#11 module and a token of it, by label or serial number; never by slot number, which
/// changes when tokens do.
///
/// ```
/// use vault::keystore::pkcs11::TokenUri;
///
/// let uri: TokenUri = "pkcs11:token=my%20vault?module-path=/usr/lib/hsm.so".parse()?;
/// assert_eq!(uri.label(), "my vault");
/// assert!("pkcs11:token=a?module-path=/x.so&pin-value=1".parse::<TokenUri>().is_err());
/// # Ok::<(), vault::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUri {
    module_path: PathBuf,
    label: String,
    serial: Option<String>,
}

impl TokenUri {
    /// The module's file (`module-path`).
    pub fn module_path(&self) -> &Path {
        &self.module_path
    }

    /// The token's label (`token`).
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether a token with this label and serial number is the one.
    pub fn matches(&self, label: &str, serial: &str) -> bool {
        self.label == label && self.serial.as_deref().is_none_or(|wanted| wanted == serial)
    }
}

impl FromStr for TokenUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The text itself is not repeated: it may hold a PIN.
        let bad = |why: &str| {
            Error::invalid("read", "the PKCS#11 URI", why)
                .hint("for example pkcs11:token=vault?module-path=/usr/lib/softhsm/libsofthsm2.so")
        };
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| bad("it must begin with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut module_path, mut label, mut serial) = (None, None, None);
        for (part, place) in path
            .split(';')
            .map(|part| (part, Place::Path))
            .chain(query.split('&').map(|part| (part, Place::Query)))
            .filter(|(part, _)| !part.is_empty())
        {
            let (name, value) =
                part.split_once('=').ok_or_else(|| bad("an attribute has no value"))?;
            let value = decode(value).ok_or_else(|| bad("a percent sign is malformed"))?;
            let seen = match (name, place) {
                ("token", Place::Path) => label.replace(value),
                ("serial", Place::Path) => serial.replace(value),
                ("module-path", Place::Query) => module_path.replace(value),
                ("pin-value", _) => {
                    return Err(bad("it holds a PIN")
                        .hint("remove pin-value; give the PIN as [hsm] pin = { file = \"...\" }"));
                }
                _ => return Err(bad(&format!("the attribute {name} has no meaning here"))),
            };
            if seen.is_some() {
                return Err(bad(&format!("the attribute {name} is there twice")));
            }
        }
        let label = label.filter(|label| (1..=32).contains(&label.len()));
        Ok(Self {
            module_path: module_path.ok_or_else(|| bad("it has no module-path"))?.into(),
            label: label.ok_or_else(|| bad("it needs token=LABEL of 1 to 32 bytes"))?,
            serial,
        })
    }
}

#[derive(Clone, Copy)]
enum Place {
    Path,
    Query,
}

/// Percent-decodes (RFC 3986 section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_and_token_are_read() {
        let uri: TokenUri =
            "pkcs11:token=my%20vault;serial=12ab?module-path=/usr/lib/x.so".parse().unwrap();
        assert_eq!(uri.label(), "my vault");
        assert_eq!(uri.module_path(), Path::new("/usr/lib/x.so"));
        assert!(uri.matches("my vault", "12ab"));
        assert!(!uri.matches("my vault", "99"));
        assert!(!uri.matches("other", "12ab"));
    }

    #[test]
    fn what_is_no_token_uri_is_refused() {
        for text in [
            "",
            "token=vault",
            "pkcs11:token=vault",
            "pkcs11:?module-path=/x.so",
            "pkcs11:token=?module-path=/x.so",
            "pkcs11:token=a;token=b?module-path=/x.so",
            "pkcs11:token=a;slot-id=0?module-path=/x.so",
            "pkcs11:token=%zz?module-path=/x.so",
            "pkcs11:token=a;object?module-path=/x.so",
        ] {
            assert!(text.parse::<TokenUri>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pin_in_the_uri_is_refused_and_not_repeated() {
        let uri = "pkcs11:token=a?module-path=/x.so&pin-value=4711";
        let error = uri.parse::<TokenUri>().unwrap_err();
        assert!(!format!("{error} {}", error.hint).contains("4711"));
        assert!(error.why.contains("PIN"));
    }
}
