//! Identifiers as certificates name them: parsed once, then compared as values.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::error::{Error, Result};
use crate::store::Identifier;

impl Identifier {
    /// A DNS name (RFC 1034 section 3.5, A-labels), lower-cased; `*.` may stand in front
    /// (RFC 8555 section 7.1.3).
    ///
    /// # Errors
    /// `Invalid` for anything else, an IP address among it.
    pub fn dns(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid("read", format!("domain {text:?}"), why);
        let name = text.to_ascii_lowercase();
        let base = name.strip_prefix("*.").unwrap_or(&name);
        if base.parse::<IpAddr>().is_ok() {
            return Err(invalid("it is an IP address").hint("use --ip for IP addresses"));
        }
        if base.is_empty() || name.len() > 253 {
            return Err(invalid("it must have 1 to 253 characters"));
        }
        for label in base.split('.') {
            let bytes = label.as_bytes();
            if bytes.is_empty() || bytes.len() > 63 {
                return Err(invalid("each label must have 1 to 63 characters"));
            }
            if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') {
                return Err(invalid("labels have letters, digits and '-' only")
                    .hint("write international names as A-labels (xn--...)"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(invalid("a label neither begins nor ends with '-'"));
            }
        }
        Ok(Self::Dns(name))
    }

    /// An IP address (RFC 8738).
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn ip(text: &str) -> Result<Self> {
        let parsed = text.parse().map(Self::Ip);
        parsed.map_err(|e| Error::invalid("read", format!("IP address {text:?}"), e))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for Identifier {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) => Self::dns(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_ca_would_take_is_refused_before_any_ca_is_asked() {
        let long = "a".repeat(64);
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            ".a",
            "a.",
            "-a.b",
            "a-.b",
            "a b",
            "ü.de",
            "a.*.b",
            "a_b.c",
            "10.0.0.1",
            "::1",
            long.as_str(),
        ] {
            assert!(Identifier::dns(text).is_err(), "{text:?}");
        }
        for text in ["localhost", "a.b", "*.a.b", "xn--nxasmq6b.example", "1a.example"] {
            assert!(Identifier::dns(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn an_identifier_reads_back_as_it_was_written() {
        for text in ["*.a.example", "192.0.2.7", "2001:db8::1"] {
            let read: Identifier = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        assert_eq!(Identifier::dns("A.Example").unwrap().to_string(), "a.example");
    }
}
