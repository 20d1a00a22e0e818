//! How can be signed, and with which parameters.

use cryptoki_sys::{
    CK_FLAGS, CK_MECHANISM, CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_RSA_PKCS_MGF_TYPE,
    CK_RSA_PKCS_PSS_PARAMS, CK_ULONG, CKF_EC_F_P, CKF_EC_NAMEDCURVE, CKF_EC_UNCOMPRESS, CKF_SIGN,
    CKG_MGF1_SHA256, CKG_MGF1_SHA384, CKG_MGF1_SHA512, CKM_ECDSA, CKM_ECDSA_SHA256,
    CKM_ECDSA_SHA384, CKM_EDDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_SHA256, CKM_SHA256_RSA_PKCS,
    CKM_SHA256_RSA_PKCS_PSS, CKM_SHA384, CKM_SHA384_RSA_PKCS, CKM_SHA384_RSA_PKCS_PSS, CKM_SHA512,
    CKM_SHA512_RSA_PKCS, CKM_SHA512_RSA_PKCS_PSS, CKR_DATA_LEN_RANGE, CKR_KEY_TYPE_INCONSISTENT,
    CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID,
};
use vault_proto::local::v1::PssParameters;

use crate::{
    key::{Key, Kind},
    memory::{bytes, read},
    rv::{Result, fail},
};

/// The most that is signed at once. What a TLS server signs has a few hundred bytes; who signs files
/// should sign their digest.
pub(crate) const LONGEST_DATA: usize = 1 << 20;

/// The hashes: CKM_*, CKG_MGF1_*, and how long their digests are.
const HASHES: [(CK_MECHANISM_TYPE, CK_RSA_PKCS_MGF_TYPE, usize); 3] = [
    (CKM_SHA256, CKG_MGF1_SHA256, 32),
    (CKM_SHA384, CKG_MGF1_SHA384, 48),
    (CKM_SHA512, CKG_MGF1_SHA512, 64),
];

/// Every mechanism.
const MECHANISMS: [Mechanism; 12] = [
    Mechanism::new(CKM_ECDSA, Kind::Ec, Padding::None, None),
    Mechanism::new(CKM_ECDSA_SHA256, Kind::Ec, Padding::None, Some(CKM_SHA256)),
    Mechanism::new(CKM_ECDSA_SHA384, Kind::Ec, Padding::None, Some(CKM_SHA384)),
    Mechanism::new(CKM_RSA_PKCS, Kind::Rsa, Padding::Pkcs1, None),
    Mechanism::new(CKM_SHA256_RSA_PKCS, Kind::Rsa, Padding::Pkcs1, Some(CKM_SHA256)),
    Mechanism::new(CKM_SHA384_RSA_PKCS, Kind::Rsa, Padding::Pkcs1, Some(CKM_SHA384)),
    Mechanism::new(CKM_SHA512_RSA_PKCS, Kind::Rsa, Padding::Pkcs1, Some(CKM_SHA512)),
    Mechanism::new(CKM_RSA_PKCS_PSS, Kind::Rsa, Padding::Pss, None),
    Mechanism::new(CKM_SHA256_RSA_PKCS_PSS, Kind::Rsa, Padding::Pss, Some(CKM_SHA256)),
    Mechanism::new(CKM_SHA384_RSA_PKCS_PSS, Kind::Rsa, Padding::Pss, Some(CKM_SHA384)),
    Mechanism::new(CKM_SHA512_RSA_PKCS_PSS, Kind::Rsa, Padding::Pss, Some(CKM_SHA512)),
    Mechanism::new(CKM_EDDSA, Kind::Edwards, Padding::None, None),
];

/// What is done to the data before the key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    None,
    Pkcs1,
    Pss,
}

/// A way to sign.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mechanism {
    /// CKM_*.
    pub(crate) code: CK_MECHANISM_TYPE,
    /// The keys it is for.
    pub(crate) kind: Kind,
    padding: Padding,
    /// The hash it takes itself, CKM_*. None where it is given what is signed as it is.
    hash: Option<CK_MECHANISM_TYPE>,
}

impl Mechanism {
    const fn new(
        code: CK_MECHANISM_TYPE,
        kind: Kind,
        padding: Padding,
        hash: Option<CK_MECHANISM_TYPE>,
    ) -> Self {
        Self { code, kind, padding, hash }
    }

    /// The mechanism of this code.
    pub(crate) fn find(code: CK_MECHANISM_TYPE) -> Result<&'static Self> {
        let found = MECHANISMS.iter().find(|mechanism| mechanism.code == code);
        found.map_or_else(|| fail(CKR_MECHANISM_INVALID), Ok)
    }

    /// Those for keys of these kinds.
    pub(crate) fn of(kinds: impl Fn(Kind) -> bool) -> Vec<CK_MECHANISM_TYPE> {
        let fit = MECHANISMS.iter().filter(|mechanism| kinds(mechanism.kind));
        fit.map(|mechanism| mechanism.code).collect()
    }

    /// CK_MECHANISM_INFO: sizes in bits.
    pub(crate) fn info(&self) -> CK_MECHANISM_INFO {
        const CURVES: CK_FLAGS = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS;
        let (smallest, largest, flags) = match self.kind {
            Kind::Rsa => (2048, 8192, 0),
            Kind::Ec => (256, 521, CURVES),
            Kind::Edwards => (255, 448, CURVES),
        };
        let flags = CKF_SIGN | flags;
        CK_MECHANISM_INFO { ulMinKeySize: smallest, ulMaxKeySize: largest, flags }
    }

    /// Whether the data may come in parts: it may where it is hashed.
    pub(crate) fn takes_parts(&self) -> bool {
        self.hash.is_some()
    }

    /// That this mechanism is for this key.
    pub(crate) fn fits(&self, key: &Key) -> Result {
        if self.kind == key.kind { Ok(()) } else { fail(CKR_KEY_TYPE_INCONSISTENT) }
    }

    /// Its parameters, checked.
    ///
    /// # Safety
    /// `given.pParameter` is null or points to `given.ulParameterLen` bytes.
    pub(crate) unsafe fn parameters(
        &self,
        given: &CK_MECHANISM,
        key: &Key,
    ) -> Result<Option<PssParameters>> {
        // SAFETY: the caller's promise.
        let given = unsafe { bytes(given.pParameter.cast(), given.ulParameterLen) }
            .or_else(|_| fail(CKR_MECHANISM_PARAM_INVALID))?;
        match self.padding {
            Padding::Pss => self.pss(given, key).map(Some),
            // CK_EDDSA_PARAMS would ask for another signature than TLS knows.
            Padding::None | Padding::Pkcs1 if given.is_empty() => Ok(None),
            Padding::None | Padding::Pkcs1 => fail(CKR_MECHANISM_PARAM_INVALID),
        }
    }

    /// CK_RSA_PKCS_PSS_PARAMS (section 2.1.9).
    fn pss(&self, given: &[u8], key: &Key) -> Result<PssParameters> {
        if given.len() != size_of::<CK_RSA_PKCS_PSS_PARAMS>() {
            return fail(CKR_MECHANISM_PARAM_INVALID);
        }
        // SAFETY: so many bytes are there, and any bytes are three numbers.
        let CK_RSA_PKCS_PSS_PARAMS { hashAlg, mgf, sLen } = unsafe { read(given.as_ptr().cast()) }?;
        let digest = HASHES.iter().find(|(hash, ..)| *hash == hashAlg).map(|(.., length)| *length);
        let own = self.hash.is_none_or(|hash| hash == hashAlg);
        let mask = HASHES.iter().any(|(_, generator, _)| *generator == mgf);
        // RFC 8017 section 9.1.1 with emBits = modBits - 1.
        let encoded = (key.modulus_bits() - 1).div_ceil(8);
        let salt = usize::try_from(sLen).ok();
        match (digest, salt) {
            (Some(digest), Some(salt))
                if own && mask && salt.saturating_add(digest + 2) <= encoded =>
            {
                Ok(PssParameters { hash: hashAlg, mgf, salt_length: sLen })
            }
            _ => fail(CKR_MECHANISM_PARAM_INVALID),
        }
    }

    /// That data of this length can be signed.
    pub(crate) fn takes(&self, length: usize, key: &Key, pss: Option<&PssParameters>) -> Result {
        let digest = |pss: &PssParameters| {
            let of = |(hash, ..): &&(CK_MECHANISM_TYPE, _, _)| *hash == pss.hash;
            HASHES.iter().find(of).map_or(0, |(.., length)| *length)
        };
        let fits = match (self.padding, self.hash) {
            // RFC 8017 section 9.2: eleven bytes of padding at least.
            (Padding::Pkcs1, None) => length + 11 <= key.signature_length,
            (Padding::Pss, None) => pss.is_some_and(|pss| length == digest(pss)),
            _ => length <= LONGEST_DATA,
        };
        if fits { Ok(()) } else { fail(CKR_DATA_LEN_RANGE) }
    }
}

/// CKA_ALLOWED_MECHANISMS of a key.
pub(crate) fn allowed(kind: Kind) -> Vec<u8> {
    let codes = Mechanism::of(|other| other == kind);
    codes.into_iter().flat_map(CK_ULONG::to_ne_bytes).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vault_proto::local::v1::KeyType;

    use super::*;
    use crate::{key::tests::listed, rv::Rv};

    fn rsa() -> Key {
        Key::new(listed(KeyType::Rsa, 1, "")).unwrap()
    }

    fn pss(code: CK_MECHANISM_TYPE, words: [CK_ULONG; 3]) -> Result<Option<PssParameters>> {
        let bytes: Vec<u8> = words.into_iter().flat_map(CK_ULONG::to_ne_bytes).collect();
        // One byte in, so that it is not aligned.
        let odd = [&[0][..], &bytes].concat();
        parameters(code, &odd[1..])
    }

    fn parameters(code: CK_MECHANISM_TYPE, bytes: &[u8]) -> Result<Option<PssParameters>> {
        let given = CK_MECHANISM {
            mechanism: code,
            pParameter: bytes.as_ptr().cast_mut().cast(),
            ulParameterLen: bytes.len() as CK_ULONG,
        };
        // SAFETY: the slice is there.
        unsafe { Mechanism::find(code)?.parameters(&given, &rsa()) }
    }

    #[test]
    fn pss_parameters_are_taken_where_they_make_sense() {
        const BAD: Result<Option<PssParameters>> = Err(Rv(CKR_MECHANISM_PARAM_INVALID));
        let good = |hash, mgf, salt_length| Ok(Some(PssParameters { hash, mgf, salt_length }));
        let plain = CKM_RSA_PKCS_PSS;
        let cases = [
            (plain, [CKM_SHA256, CKG_MGF1_SHA256, 32], good(CKM_SHA256, CKG_MGF1_SHA256, 32)),
            (plain, [CKM_SHA512, CKG_MGF1_SHA512, 0], good(CKM_SHA512, CKG_MGF1_SHA512, 0)),
            (
                CKM_SHA384_RSA_PKCS_PSS,
                [CKM_SHA384, CKG_MGF1_SHA384, 48],
                good(CKM_SHA384, CKG_MGF1_SHA384, 48),
            ),
            // The longest salt that 2048 bits hold, and one byte more.
            (plain, [CKM_SHA256, CKG_MGF1_SHA256, 222], good(CKM_SHA256, CKG_MGF1_SHA256, 222)),
            (plain, [CKM_SHA256, CKG_MGF1_SHA256, 223], BAD),
            (plain, [CKM_SHA256, CKG_MGF1_SHA256, CK_ULONG::MAX], BAD),
            // Another hash than the mechanism's.
            (CKM_SHA384_RSA_PKCS_PSS, [CKM_SHA256, CKG_MGF1_SHA256, 32], BAD),
            (plain, [0x220, 1, 20], BAD),
            (plain, [CKM_SHA256, 1, 32], BAD),
            (plain, [CKM_SHA256, 0, 32], BAD),
        ];
        for (code, words, expected) in cases {
            assert_eq!(pss(code, words), expected, "{code:#x} {words:?}");
        }
    }

    #[test]
    fn parameters_of_the_wrong_length_are_refused() {
        for length in [0, 1, 23, 25, 48] {
            let refused = parameters(CKM_RSA_PKCS_PSS, &vec![0; length]);
            assert_eq!(refused, fail(CKR_MECHANISM_PARAM_INVALID), "{length}");
        }
        assert_eq!(parameters(CKM_RSA_PKCS, &[]), Ok(None));
        assert_eq!(parameters(CKM_RSA_PKCS, &[0]), fail(CKR_MECHANISM_PARAM_INVALID));
    }

    #[test]
    fn data_is_as_long_as_the_mechanism_wants() {
        let key = rsa();
        let takes = |code, length, pss: Option<&PssParameters>| {
            Mechanism::find(code).unwrap().takes(length, &key, pss).is_ok()
        };
        let of = |hash| Some(PssParameters { hash, mgf: CKG_MGF1_SHA256, salt_length: 32 });
        assert!(takes(CKM_RSA_PKCS, 245, None) && !takes(CKM_RSA_PKCS, 246, None));
        assert!(takes(CKM_RSA_PKCS_PSS, 32, of(CKM_SHA256).as_ref()));
        assert!(!takes(CKM_RSA_PKCS_PSS, 48, of(CKM_SHA256).as_ref()));
        assert!(takes(CKM_RSA_PKCS_PSS, 48, of(CKM_SHA384).as_ref()));
        assert!(takes(CKM_SHA256_RSA_PKCS, LONGEST_DATA, None));
        assert!(!takes(CKM_SHA256_RSA_PKCS, LONGEST_DATA + 1, None));
    }

    proptest! {
        #[test]
        fn any_pss_parameters_are_taken_whole_or_refused(words: [CK_ULONG; 3], code in 0_usize..4) {
            let codes = [
                CKM_RSA_PKCS_PSS,
                CKM_SHA256_RSA_PKCS_PSS,
                CKM_SHA384_RSA_PKCS_PSS,
                CKM_SHA512_RSA_PKCS_PSS,
            ];
            match pss(codes[code], words) {
                Ok(taken) => {
                    let taken = taken.unwrap();
                    prop_assert_eq!([taken.hash, taken.mgf, taken.salt_length], words);
                }
                Err(refused) => prop_assert_eq!(refused, Rv(CKR_MECHANISM_PARAM_INVALID)),
            }
        }
    }
}
