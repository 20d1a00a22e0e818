//! The "key file" of a web server whose key is in the vault: a PKCS#11 URI (RFC 7512) in the PEM
//! that the OpenSSL provider `pkcs11-provider` takes for a private key.

use der::{
    Encode as _, Tag,
    asn1::{AnyRef, Utf8StringRef},
    pem::LineEnding,
};

use crate::error::{Error, Result};

/// The label of such a PEM.
pub const LABEL: &str = "PKCS#11 PROVIDER URI";
/// What its first field says.
const DESCRIPTION: &[u8] = b"PKCS#11 Provider URI v1.0";

#[derive(der::Sequence)]
struct ProviderUri<'a> {
    description: AnyRef<'a>,
    uri: Utf8StringRef<'a>,
}

/// The URI of a key: by its name and its id, so that a renewal for a new key is another URI and
/// chain and key are switched together. The token, of which the module has one, is not named:
/// OpenSSL's provider reads its label once, and a web server may start before the agent.
pub fn of(object: &str, key_id: &[u8]) -> String {
    let id: String = key_id.iter().map(|byte| format!("%{byte:02x}")).collect();
    // Names of certificates have nothing that needs to be escaped.
    format!("pkcs11:object={object};id={id};type=private")
}

/// The URI of a key where a server's configuration names it and outlives renewals: by its token and
/// its name, for OpenSSL's engine, which takes no URI from a file.
pub fn by_name(agent: &str, object: &str) -> String {
    format!("pkcs11:token={agent};object={object};type=private")
}

/// The URI as the "key file".
///
/// # Errors
/// Never for URIs of [`of`].
pub fn pem(uri: &str) -> Result<String> {
    let failed = |e: der::Error| Error::local("encode", uri, e);
    let description = AnyRef::new(Tag::VisibleString, DESCRIPTION).map_err(failed)?;
    let uri = Utf8StringRef::new(uri).map_err(failed)?;
    let der = ProviderUri { description, uri }.to_der().map_err(failed)?;
    der::pem::encode_string(LABEL, LineEnding::LF, &der).map_err(|e| failed(e.into()))
}

/// Whether a file holds such a PEM.
pub fn is_uri(file: &[u8]) -> bool {
    file.starts_with(format!("-----BEGIN {LABEL}-----").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_name_and_id() {
        let uri = of("shop", &[0x01, 0xab]);
        assert_eq!(uri, "pkcs11:object=shop;id=%01%ab;type=private");
    }

    #[test]
    fn a_key_in_a_configuration_is_named_by_token_and_name() {
        assert_eq!(by_name("web1", "shop"), "pkcs11:token=web1;object=shop;type=private");
    }

    #[test]
    fn the_pem_is_what_the_provider_reads() {
        let pem = pem("pkcs11:token=a").unwrap();
        assert!(is_uri(pem.as_bytes()));
        let (label, der) = der::pem::decode_vec(pem.as_bytes()).unwrap();
        assert_eq!(label, LABEL);
        let mut expected = vec![0x30, 43, 0x1a, 25];
        expected.extend(DESCRIPTION);
        expected.extend([0x0c, 14]);
        expected.extend(b"pkcs11:token=a");
        assert_eq!(der, expected);
    }
}
