//! The KEK and its shares: born in locked memory, split with Shamir M of N, each share encrypted to
//! one custodian, proven to rebuild before anything relies on it.
//!
//! Shamir's scheme has no integrity of its own: too few or wrong shares give a wrong KEK and no
//! error. So each share carries a key check value, and what is rebuilt is held against it.

use std::fmt;

use age::{
    Encryptor,
    armor::{ArmoredWriter, Format},
};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use serde::{Deserialize, Serialize};
use vault_proto::{
    error::ErrorKind,
    ids::{KeyId, OperatorName},
};
use vsss_rs::Gf256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Result, internal, verification};
use crate::locked::{LENGTH, Locked};
use crate::quorum::Custodian;
pub use crate::quorum::Quorum;

/// What a share says it is.
const FORMAT: &str = "keyvault-kek-share";
/// More than a share's text takes.
const ROOM: usize = 4096;
/// What to do about shares that do not belong together.
const MIXED: &str = "give shares of one ceremony, each as its custodian's age file holds it";

/// A share that only its custodian can read.
#[derive(Debug, Clone)]
pub struct EncryptedShare {
    /// Whose it is.
    pub custodian: OperatorName,
    /// The age recipient that it is encrypted to.
    pub recipient: String,
    /// The age file, ASCII-armoured.
    pub armored: String,
}

/// The key-encryption key in the clear: it exists during a ceremony only.
pub struct Kek {
    /// Its id.
    pub id: KeyId,
    value: Locked,
}

/// What a quorum's shares say and make.
#[derive(Debug)]
pub struct Rebuilt {
    /// The KEK.
    pub kek: Kek,
    /// The vault that it is of.
    pub vault_id: String,
    /// What tells it from another.
    pub check_value: String,
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", self.id)
    }
}

/// What a share's file holds, once decrypted.
#[derive(Serialize, Deserialize)]
struct Share {
    format: String,
    version: u32,
    vault_id: String,
    kek_id: String,
    /// Shares of one splitting have the same: those of two do not mix, even of one KEK.
    set: String,
    custodian: String,
    threshold: usize,
    check_value: String,
    /// Base64 of x and f(x).
    share: Zeroizing<String>,
}

impl Kek {
    /// A new KEK from the operating system's random numbers.
    ///
    /// # Errors
    /// `Unavailable` where there are none, and those of [`Locked::fill`].
    pub fn generate() -> Result<Self> {
        let value = Locked::fill(|place| {
            aws_lc_rs::rand::fill(place).map_err(|_| {
                let why = "no random numbers";
                crate::error::error(ErrorKind::Unavailable, "generate", "the KEK", why, "")
            })
        })?;
        Ok(Self { id: KeyId::random(), value })
    }

    /// Its value.
    pub fn value(&self) -> &[u8; LENGTH] {
        self.value.bytes()
    }

    /// A copy of its value, for the token.
    ///
    /// # Errors
    /// As [`Locked::fill`].
    pub fn copy(&self) -> Result<Locked> {
        Locked::copy_of(self.value())
    }

    /// Tells one KEK from another without telling anything of it: HMAC-SHA256 under the KEK over a
    /// fixed text and the vault's id, 16 bytes as lower-case hex.
    pub fn check_value(&self, vault_id: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.value());
        let tag = hmac::sign(&key, format!("keyvault kek check value 1 {vault_id}").as_bytes());
        hex::encode(tag.as_ref().get(..16).unwrap_or_default())
    }

    /// Splits it, proves that the shares rebuild it, and encrypts each to its custodian.
    ///
    /// # Errors
    /// `Internal` where the shares do not rebuild it: then nothing may rely on it.
    pub fn split(&self, quorum: &Quorum, vault_id: &str) -> Result<Vec<EncryptedShare>> {
        let failed = |why: String| internal("split", "the KEK", why);
        let mut raw = self.raw_shares(quorum)?;
        let rebuilt = combine_raw(raw.get(..quorum.threshold).unwrap_or_default());
        if !rebuilt.is_ok_and(|rebuilt| rebuilt.bytes() == self.value()) {
            raw.zeroize();
            return Err(failed("its shares do not rebuild it".to_owned()));
        }
        let set = KeyId::random().to_string();
        let shares = quorum.custodians.iter().zip(&raw).map(|(custodian, raw)| {
            let share = Share {
                format: FORMAT.to_owned(),
                version: 1,
                vault_id: vault_id.to_owned(),
                kek_id: self.id.to_string(),
                set: set.clone(),
                custodian: custodian.name.to_string(),
                threshold: quorum.threshold,
                check_value: self.check_value(vault_id),
                share: Zeroizing::new(B64.encode(raw)),
            };
            encrypt(custodian, &share)
        });
        let shares: Result<Vec<_>> = shares.collect();
        raw.zeroize();
        shares
    }

    fn raw_shares(&self, quorum: &Quorum) -> Result<Vec<Vec<u8>>> {
        let failed = |why: String| internal("split", "the KEK", why);
        let count = quorum.custodians.len();
        if count == 1 {
            // Shamir wants two at least; one custodian's share is the KEK itself.
            let mut only = Vec::with_capacity(1 + LENGTH);
            only.push(1);
            only.extend_from_slice(self.value());
            return Ok(vec![only]);
        }
        Gf256::split_array(quorum.threshold, count, self.value(), rand::rng())
            .map_err(|e| failed(e.to_string()))
    }
}

/// The library's own copy of the result is on its heap for a moment, and zeroized.
fn combine_raw(raw: &[Vec<u8>]) -> Result<Locked> {
    let wrong = |why: String| wrong(why, MIXED);
    let bytes = match raw {
        [only] => Zeroizing::new(only.get(1..).unwrap_or_default().to_vec()),
        raw => Zeroizing::new(Gf256::combine_array(raw).map_err(|e| wrong(e.to_string()))?),
    };
    Locked::fill(|place| {
        if bytes.len() != place.len() {
            return Err(wrong("the shares have another length".to_owned()));
        }
        place.copy_from_slice(&bytes);
        Ok(())
    })
}

fn encrypt(custodian: &Custodian, share: &Share) -> Result<EncryptedShare> {
    use std::io::Write as _;
    let failed = |why: String| internal("encrypt", format!("the share of {}", custodian.name), why);
    // With room enough it does not grow, which would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(ROOM));
    serde_json::to_writer(&mut *text, share).map_err(|e| failed(e.to_string()))?;
    let recipient: &dyn age::Recipient = &custodian.recipient;
    let encryptor = Encryptor::with_recipients(std::iter::once(recipient))
        .map_err(|e| failed(format!("{e:?}")))?;
    let io = |e: std::io::Error| failed(e.to_string());
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(io)?;
    let mut writer = encryptor.wrap_output(armor).map_err(io)?;
    writer.write_all(&text).map_err(io)?;
    let armored = writer.finish().and_then(ArmoredWriter::finish).map_err(io)?;
    let armored = String::from_utf8(armored).map_err(|e| failed(e.to_string()))?;
    let recipient = custodian.recipient.to_string();
    Ok(EncryptedShare { custodian: custodian.name.clone(), recipient, armored })
}

/// Rebuilds the KEK of a vault from decrypted share files.
///
/// # Errors
/// `Verification` where they are too few, of different ceremonies, doubled or changed, or of
/// another vault.
pub fn combine(texts: &[Zeroizing<String>], vault_id: &str) -> Result<Kek> {
    let shares = parse(texts)?;
    if let Some(share) = shares.iter().find(|share| share.vault_id != vault_id) {
        let why = format!("the share of {} is of vault {}", share.custodian, share.vault_id);
        return Err(wrong(why, MIXED));
    }
    Ok(assemble(&shares)?.kek)
}

/// Rebuilds the KEK of whichever vault decrypted share files say.
///
/// # Errors
/// As [`combine`], but for the vault.
pub fn rebuild(texts: &[Zeroizing<String>]) -> Result<Rebuilt> {
    assemble(&parse(texts)?)
}

fn wrong(why: String, hint: &str) -> crate::Error {
    verification("rebuild", "the KEK", why, hint)
}

fn parse(texts: &[Zeroizing<String>]) -> Result<Vec<Share>> {
    let mut shares: Vec<Share> = Vec::new();
    for text in texts {
        let hint = "give the text that `age --decrypt` makes of a custodian's share";
        let share: Share = serde_json::from_str(text)
            .map_err(|e| wrong(format!("share {} is malformed: {e}", shares.len() + 1), hint))?;
        if share.format != FORMAT || share.version != 1 {
            return Err(wrong(format!("{} {} is not known", share.format, share.version), hint));
        }
        shares.push(share);
    }
    Ok(shares)
}

fn assemble(shares: &[Share]) -> Result<Rebuilt> {
    let first =
        shares.first().ok_or_else(|| wrong("there is no share".to_owned(), "name a quorum's"))?;
    for share in shares {
        let same = (&share.vault_id, &share.kek_id, &share.set)
            == (&first.vault_id, &first.kek_id, &first.set)
            && (&share.check_value, share.threshold) == (&first.check_value, first.threshold);
        if !same {
            let why = format!(
                "the share of {} is of another ceremony than that of {}",
                share.custodian, first.custodian
            );
            return Err(wrong(why, MIXED));
        }
    }
    if shares.len() < first.threshold {
        let why = format!("{} shares are too few: {} are needed", shares.len(), first.threshold);
        return Err(wrong(why, "ask more custodians for theirs"));
    }
    let mut raw = Zeroizing::new(Vec::new());
    for share in shares {
        let bytes = B64.decode(share.share.as_str());
        let bytes =
            bytes.map_err(|e| wrong(format!("the share of {}: {e}", share.custodian), MIXED))?;
        if raw.iter().any(|other: &Vec<u8>| other.first() == bytes.first()) {
            let why = format!("the share of {} is there twice", share.custodian);
            return Err(wrong(why, "give each share once"));
        }
        raw.push(bytes);
    }
    let id = first.kek_id.parse().map_err(|e| wrong(format!("its id: {e}"), MIXED))?;
    let kek = Kek { id, value: combine_raw(&raw)? };
    if kek.check_value(&first.vault_id) != first.check_value {
        let why = "the shares do not fit together: one of them was changed".to_owned();
        return Err(wrong(why, MIXED));
    }
    let (vault_id, check_value) = (first.vault_id.clone(), first.check_value.clone());
    Ok(Rebuilt { kek, vault_id, check_value })
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    const VAULT: &str = "0190-test";

    struct Kept {
        identity: tempfile::NamedTempFile,
        recipient: String,
    }

    fn keeper() -> Kept {
        let output = Command::new("age-keygen").output().expect("age-keygen");
        let text = String::from_utf8(output.stdout).unwrap();
        let recipient = text.split("public key: ").nth(1).unwrap().lines().next().unwrap();
        let mut identity = tempfile::NamedTempFile::new().unwrap();
        identity.write_all(text.as_bytes()).unwrap();
        Kept { identity, recipient: recipient.to_owned() }
    }

    fn decrypt(kept: &Kept, share: &EncryptedShare) -> Option<Zeroizing<String>> {
        let mut child = Command::new("age")
            .args(["-d", "-i", kept.identity.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("age");
        child.stdin.take().unwrap().write_all(share.armored.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.success().then(|| Zeroizing::new(String::from_utf8(output.stdout).unwrap()))
    }

    fn ceremony(count: usize, threshold: usize) -> (Kek, Vec<Kept>, Vec<Zeroizing<String>>) {
        let keepers: Vec<_> = (0..count).map(|_| keeper()).collect();
        let list: Vec<_> = keepers
            .iter()
            .enumerate()
            .map(|(at, kept)| (format!("c{at}"), kept.recipient.clone()))
            .collect();
        let quorum = Quorum::parse(&list, threshold).unwrap();
        let kek = Kek::generate().unwrap();
        let shares = kek.split(&quorum, VAULT).unwrap();
        assert!(decrypt(&keepers[0], &shares[count - 1]).is_none() || count == 1);
        let texts = keepers.iter().zip(&shares).map(|(k, s)| decrypt(k, s).unwrap()).collect();
        (kek, keepers, texts)
    }

    #[test]
    fn any_quorum_of_custodians_rebuilds_the_kek_with_age_alone() {
        let (kek, _, texts) = ceremony(3, 2);
        for pair in [[0, 1], [0, 2], [2, 1]] {
            let some = pair.map(|at| texts[at].clone());
            let rebuilt = combine(&some, VAULT).unwrap();
            assert_eq!(rebuilt.check_value(VAULT), kek.check_value(VAULT));
            assert_eq!(*rebuilt.value(), *kek.value());
        }
        let (kek, _, texts) = ceremony(1, 1);
        assert_eq!(*combine(&texts, VAULT).unwrap().value(), *kek.value());
    }

    #[test]
    fn shares_that_do_not_fit_are_refused_with_the_reason() {
        let (_, _, texts) = ceremony(3, 2);
        let (_, _, others) = ceremony(3, 2);
        let text = |at: usize| texts[at].clone();
        let mut share: Share = serde_json::from_str(&texts[1]).unwrap();
        let mut bytes = B64.decode(share.share.as_str()).unwrap();
        bytes[9] ^= 1;
        share.share = Zeroizing::new(B64.encode(bytes));
        let changed = Zeroizing::new(serde_json::to_string(&share).unwrap());
        for (shares, why) in [
            (vec![], "no share"),
            (vec![text(0)], "too few"),
            (vec![text(0), text(0)], "twice"),
            (vec![text(0), others[1].clone()], "another ceremony"),
            (vec![text(0), changed], "was changed"),
            (vec![text(0), Zeroizing::new("{}".to_owned())], "malformed"),
        ] {
            let error = combine(&shares, VAULT).unwrap_err();
            assert!(error.why.contains(why), "{} / {why}", error.why);
        }
        assert!(combine(&[text(0), text(1)], "another vault").is_err());
    }

    #[test]
    fn a_kek_is_not_printed() {
        let kek = Kek::generate().unwrap();
        assert!(!format!("{kek:?}").contains(&hex::encode(kek.value())));
    }
}
