//! A signature in the form PKCS#11 gives it, and the forms that X.509 and JOSE want.

use der::{Encode as _, asn1::UintRef};

use super::Mechanism;
use crate::error::{Error, Result};

/// A signature: ECDSA as r‖s (PKCS#11 v3.1 section 6.3.1), all others as they are everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    mechanism: Mechanism,
    raw: Vec<u8>,
}

#[derive(der::Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl Signature {
    /// A signature as the token gave it.
    pub fn from_pkcs11(mechanism: Mechanism, raw: Vec<u8>) -> Self {
        Self { mechanism, raw }
    }

    /// How it was made.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// As JOSE (RFC 7518 section 3.4) and PKCS#11 want it: r‖s for ECDSA.
    pub fn jose(&self) -> &[u8] {
        &self.raw
    }

    /// As [`Signature::jose`], to keep.
    pub fn into_jose(self) -> Vec<u8> {
        self.raw
    }

    /// As X.509 and TLS want it: `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3) for ECDSA.
    ///
    /// # Errors
    /// `Internal` where the token gave an ECDSA signature of odd length.
    pub fn x509(&self) -> Result<Vec<u8>> {
        if !matches!(
            self.mechanism,
            Mechanism::EcdsaSha256 | Mechanism::EcdsaSha384 | Mechanism::EcdsaDigest
        ) {
            return Ok(self.raw.clone());
        }
        let malformed = |why: &str| Error::internal("encode", "an ECDSA signature", why);
        if self.raw.is_empty() || !self.raw.len().is_multiple_of(2) {
            return Err(malformed("the token's r‖s has an odd length"));
        }
        let (r, s) = self.raw.split_at(self.raw.len() / 2);
        let value = |bytes| UintRef::new(bytes).map_err(|e| malformed(&e.to_string()));
        EcdsaSigValue { r: value(r)?, s: value(s)? }.to_der().map_err(|e| malformed(&e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecdsa_signature_becomes_two_minimal_der_integers() {
        let mut raw = vec![0u8; 64];
        raw[0] = 0x80;
        raw[63] = 5;
        let signature = Signature::from_pkcs11(Mechanism::EcdsaSha256, raw);
        let der = signature.x509().unwrap();
        assert_eq!(&der[..5], &[0x30, 0x26, 0x02, 0x21, 0x00]);
        assert_eq!(&der[der.len() - 3..], &[0x02, 0x01, 0x05]);
    }

    #[test]
    fn an_odd_ecdsa_signature_is_refused() {
        assert!(Signature::from_pkcs11(Mechanism::EcdsaSha384, vec![1; 95]).x509().is_err());
    }
}
