//! What a TLS server signs in a handshake, recognised by its form.
//!
//! Where the web server hands over the whole message, the vault sees what it signs: the
//! CertificateVerify of TLS 1.3 or the ServerKeyExchange of TLS 1.2. A digest could be of anything,
//! a certificate or a message among it; a key can be set to sign no digests.

use crate::error::{Error, Result};
use crate::keystore::{Form, Mechanism};
use crate::named::named_enum;
use crate::store::TlsUse;

named_enum!(
    /// What was signed, as far as the vault could see it.
    Signed, "TLS signature" {
        /// CertificateVerify of a server (RFC 8446 section 4.4.3).
        CertificateVerify = "tls13-certificate-verify",
        /// ServerKeyExchange with an ephemeral ECDH key (RFC 8422 section 5.4).
        ServerKeyExchange = "tls12-server-key-exchange",
        /// The digest of something.
        Digest = "digest",
    }
);

/// 64 spaces, the context string and a zero byte begin every server's CertificateVerify.
const CERTIFICATE_VERIFY: &[u8] =
    b"                                                                \
TLS 1.3, server CertificateVerify\0";
/// client_random and server_random.
const RANDOMS: usize = 64;
/// ECCurveType named_curve (RFC 8422 section 5.4).
const NAMED_CURVE: u8 = 3;
/// The longest ephemeral public key: X25519MLKEM768 and its like are TLS 1.3's, so P-521's point.
const LONGEST_POINT: usize = 133;

/// What a message or digest is; `None` for a message that no TLS server signs.
fn recognise(form: Form, data: &[u8]) -> Option<Signed> {
    match form {
        Form::Digest => Some(Signed::Digest),
        Form::Message => match data.strip_prefix(CERTIFICATE_VERIFY) {
            // The transcript hash: SHA-256 or SHA-384.
            Some(hash) => matches!(hash.len(), 32 | 48).then_some(Signed::CertificateVerify),
            None => is_server_key_exchange(data).then_some(Signed::ServerKeyExchange),
        },
    }
}

/// Randoms, named_curve, the curve's number, the length of the point and the point, to the byte.
fn is_server_key_exchange(data: &[u8]) -> bool {
    let Some([NAMED_CURVE, _, _, length, point @ ..]) = data.get(RANDOMS..) else { return false };
    usize::from(*length) == point.len() && (32..=LONGEST_POINT).contains(&point.len())
}

/// Checks that a TLS server may have `data` signed so.
///
/// # Errors
/// `Denied` where the use does not allow it, `Invalid` for a message of no known form.
pub fn check(allowed: TlsUse, mechanism: Mechanism, data: &[u8]) -> Result<Signed> {
    let subject = || format!("a TLS handshake ({mechanism})");
    let Some(signed) = recognise(mechanism.form(), data) else {
        let why = "the message is neither a CertificateVerify nor a ServerKeyExchange";
        return Err(Error::invalid("sign", subject(), why));
    };
    let may = match allowed {
        TlsUse::Tls13 => signed == Signed::CertificateVerify,
        TlsUse::Message => signed != Signed::Digest,
        TlsUse::Digest => true,
    };
    if may {
        return Ok(signed);
    }
    Err(Error::denied(
        "sign",
        subject(),
        format!("the key's use is {allowed}, and this is {signed}"),
    )
    .hint("serve it through the OpenSSL provider, or allow more with `vaultctl cert update --tls-use`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_verify(hash: usize) -> Vec<u8> {
        let mut message = vec![0x20; 64];
        message.extend(b"TLS 1.3, server CertificateVerify\0");
        message.extend(vec![7; hash]);
        message
    }

    fn server_key_exchange(point: u8) -> Vec<u8> {
        let mut message = vec![7; 64];
        message.extend([3, 0, 23, point]);
        message.extend(vec![4; usize::from(point)]);
        message
    }

    const M: Mechanism = Mechanism::EcdsaSha256;

    #[test]
    fn handshake_messages_are_recognised_by_their_form() {
        for (message, signed) in [
            (certificate_verify(32), Signed::CertificateVerify),
            (certificate_verify(48), Signed::CertificateVerify),
            (server_key_exchange(65), Signed::ServerKeyExchange),
            (server_key_exchange(32), Signed::ServerKeyExchange),
        ] {
            assert_eq!(check(TlsUse::Message, M, &message).unwrap(), signed);
        }
    }

    #[test]
    fn what_no_tls_server_signs_is_refused() {
        let client = String::from_utf8(certificate_verify(32)).unwrap().replace("server", "client");
        let mut longer = server_key_exchange(65);
        longer.push(0);
        for message in [
            Vec::new(),
            b"hello".to_vec(),
            certificate_verify(20),
            client.into_bytes(),
            longer,
            server_key_exchange(8),
            vec![0x30; 300],
        ] {
            assert!(check(TlsUse::Digest, M, &message).is_err(), "{message:?}");
        }
    }

    #[test]
    fn a_key_signs_what_its_use_allows_and_no_more() {
        let (v13, v12) = (certificate_verify(32), server_key_exchange(65));
        let digest = (Mechanism::EcdsaDigest, vec![1; 32]);
        for (allowed, may) in [
            (TlsUse::Tls13, [true, false, false]),
            (TlsUse::Message, [true, true, false]),
            (TlsUse::Digest, [true, true, true]),
        ] {
            let told = [
                check(allowed, M, &v13).is_ok(),
                check(allowed, M, &v12).is_ok(),
                check(allowed, digest.0, &digest.1).is_ok(),
            ];
            assert_eq!(told, may, "{allowed}");
        }
    }
}
