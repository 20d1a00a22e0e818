//! Whether a chain is the one that is preferred among those that a CA offers: by the issuer that its
//! topmost certificate names, as `certbot --preferred-chain` has it, or by that certificate's SHA-256.

use der::Decode as _;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;

use super::chain::Chain;

/// Whether a chain, PEM, is of this issuer; what is no chain is of none.
pub fn is_of(chain_pem: &str, issuer: &str) -> bool {
    let Some(top) = Chain::parse(chain_pem).ok().and_then(|chain| chain.topmost_der()) else {
        return false;
    };
    let digits = issuer.strip_prefix("sha256:").unwrap_or(issuer).replace(':', "");
    digits.eq_ignore_ascii_case(&hex::encode(Sha256::digest(&top)))
        || issuer_of(&top).is_some_and(|name| name == issuer)
}

/// Why a chain in force, PEM, is not the preferred one; `None` where it is.
pub fn note(chain_pem: &str, issuer: &str) -> Option<String> {
    if is_of(chain_pem, issuer) {
        return None;
    }
    let top = Chain::parse(chain_pem).ok().and_then(|chain| chain.topmost_der());
    let name = top.and_then(|top| issuer_of(&top)).unwrap_or_else(|| "nobody".to_owned());
    Some(format!(
        "its topmost certificate is issued by {name:?}: its CA offered no chain of {issuer:?}, or was \
         not asked for one yet"
    ))
}

/// The common name of a certificate's issuer.
fn issuer_of(certificate_der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(certificate_der).ok()?;
    let name = certificate.tbs_certificate().issuer().common_name().ok()??;
    Some(name.value().into_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    #[test]
    fn a_chain_is_known_by_its_topmost_issuer_or_fingerprint() {
        let root = Issuer::new(params("Root X1"), KeyPair::generate().unwrap());
        let middle_key = KeyPair::generate().unwrap();
        let middle = params("Middle").signed_by(&middle_key, &root).unwrap();
        let issuer = Issuer::new(params("Middle"), middle_key);
        let leaf = params("leaf").signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let chain = leaf.pem() + &middle.pem();
        let fingerprint = hex::encode(Sha256::digest(middle.der()));
        let spaced: Vec<_> = fingerprint.as_bytes().chunks(2).collect();
        let colons: Vec<_> = spaced.iter().map(|two| String::from_utf8_lossy(two)).collect();
        for issuer in ["Root X1", &fingerprint, &format!("sha256:{fingerprint}"), &colons.join(":")]
        {
            assert!(is_of(&chain, issuer), "{issuer}");
            assert_eq!(note(&chain, issuer), None);
        }
        for issuer in ["Middle", "leaf", "root x1", "Root X", "", &fingerprint[..62]] {
            assert!(!is_of(&chain, issuer), "{issuer}");
            assert!(note(&chain, issuer).unwrap().contains("\"Root X1\""), "{issuer}");
        }
        assert!(!is_of("garbage", "Root X1"));
    }
}
