//! The KEK's ceremony: born in locked-down memory, split with Shamir M of N, each share encrypted
//! to one custodian, proven to rebuild before anything relies on it.
//!
//! Shamir's scheme has no integrity of its own: too few or wrong shares give a wrong KEK and no
//! error. So each share carries a key check value, and what is rebuilt is held against it.

use std::{collections::BTreeSet, fmt};

use age::{
    Encryptor,
    armor::{ArmoredWriter, Format},
};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use serde::{Deserialize, Serialize};
use vault_proto::ids::{KeyId, OperatorName};
use vsss_rs::Gf256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Error, Result};

/// The most shares that GF(256) has room for.
const MOST_SHARES: usize = 255;
/// What a share says it is.
const FORMAT: &str = "keyvault-kek-share";

/// Who keeps one share.
pub struct Custodian {
    name: OperatorName,
    recipient: age::x25519::Recipient,
}

/// Custodians and how many of them rebuild the KEK.
pub struct Quorum {
    custodians: Vec<Custodian>,
    threshold: usize,
}

/// A share that only its custodian can read.
#[derive(Debug, Clone)]
pub struct EncryptedShare {
    /// Whose it is.
    pub custodian: OperatorName,
    /// The age file, ASCII-armoured.
    pub armored: String,
}

/// The key-encryption key in the clear: it exists during a ceremony only.
pub struct Kek {
    /// Its id.
    pub id: KeyId,
    value: Zeroizing<[u8; 32]>,
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
    custodian: String,
    threshold: usize,
    check_value: String,
    /// Base64 of x and f(x).
    share: Zeroizing<String>,
}

impl Quorum {
    /// Checks a list of names and age recipients.
    ///
    /// # Errors
    /// `Invalid` naming the custodian or the rule: names and recipients are unique, at least two
    /// of several custodians are needed, and no more than there are.
    pub fn parse(custodians: &[(String, String)], threshold: usize) -> Result<Self> {
        let invalid = |subject: String, why: &str| Error::invalid("read", subject, why);
        let mut parsed = Vec::new();
        let (mut names, mut recipients) = (BTreeSet::new(), BTreeSet::new());
        for (name, recipient) in custodians {
            let subject = || format!("custodian {name}");
            let name_parsed: OperatorName = name.parse()?;
            if !names.insert(name.as_str()) {
                return Err(invalid(subject(), "the name is there twice"));
            }
            if !recipients.insert(recipient.as_str()) {
                return Err(invalid(subject(), "another custodian has the same recipient"));
            }
            let recipient = recipient.parse().map_err(|why: &str| {
                invalid(subject(), why).hint("an age recipient is what `age-keygen -y` prints")
            })?;
            parsed.push(Custodian { name: name_parsed, recipient });
        }
        let count = parsed.len();
        if count > MOST_SHARES {
            return Err(invalid("the custodians".into(), "there are more than 255"));
        }
        if threshold > count || threshold == 0 {
            let why = format!("it must be from 1 to the number of custodians ({count})");
            return Err(invalid(format!("threshold {threshold}"), &why));
        }
        if threshold == 1 && count > 1 {
            return Err(invalid("threshold 1".into(), "one custodian alone could rebuild the KEK")
                .hint("use --threshold 2 or more, or a single custodian"));
        }
        Ok(Self { custodians: parsed, threshold })
    }

    /// Custodians' names.
    pub fn names(&self) -> impl Iterator<Item = &OperatorName> {
        self.custodians.iter().map(|custodian| &custodian.name)
    }

    /// How many shares rebuild the KEK.
    pub fn threshold(&self) -> usize {
        self.threshold
    }
}

impl Kek {
    /// A new KEK from the operating system's random numbers.
    ///
    /// # Errors
    /// `Unavailable` where there are none.
    pub fn generate() -> Result<Self> {
        let mut value = Zeroizing::new([0u8; 32]);
        aws_lc_rs::rand::fill(value.as_mut_slice())
            .map_err(|_| Error::unavailable("generate", "the KEK", "no random numbers"))?;
        Ok(Self { id: KeyId::random(), value })
    }

    /// A copy of its value, for the token.
    pub fn value(&self) -> Zeroizing<[u8; 32]> {
        self.value.clone()
    }

    /// Tells one KEK from another without telling anything of it: HMAC-SHA256 under the KEK over a
    /// fixed text and the vault's id, 16 bytes as lower-case hex.
    pub fn check_value(&self, vault_id: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.value.as_slice());
        let tag = hmac::sign(&key, format!("keyvault kek check value 1 {vault_id}").as_bytes());
        hex::encode(tag.as_ref().get(..16).unwrap_or_default())
    }

    /// Splits it, proves that the shares rebuild it, and encrypts each to its custodian.
    ///
    /// # Errors
    /// `Internal` where the shares do not rebuild it: then nothing may rely on it.
    pub fn split(&self, quorum: &Quorum, vault_id: &str) -> Result<Vec<EncryptedShare>> {
        let failed = |why: String| Error::internal("split", "the KEK", why);
        let mut raw = self.raw_shares(quorum)?;
        let rebuilt = combine_raw(raw.get(..quorum.threshold).unwrap_or_default());
        if rebuilt.as_ref().ok() != Some(&self.value) {
            return Err(failed("its shares do not rebuild it".to_owned()));
        }
        let shares = quorum.custodians.iter().zip(&raw).map(|(custodian, raw)| {
            let share = Share {
                format: FORMAT.to_owned(),
                version: 1,
                vault_id: vault_id.to_owned(),
                kek_id: self.id.to_string(),
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
        let failed = |why: String| Error::internal("split", "the KEK", why);
        let count = quorum.custodians.len();
        if count == 1 {
            // Shamir wants two at least; one custodian's share is the KEK itself.
            let mut only = vec![1];
            only.extend_from_slice(self.value.as_slice());
            return Ok(vec![only]);
        }
        Gf256::split_array(quorum.threshold, count, self.value.as_slice(), rand::rng())
            .map_err(|e| failed(e.to_string()))
    }
}

fn combine_raw(raw: &[Vec<u8>]) -> Result<Zeroizing<[u8; 32]>> {
    let wrong = |why: String| Error::verification("rebuild", "the KEK", why);
    let bytes = match raw {
        [only] => Zeroizing::new(only.get(1..).unwrap_or_default().to_vec()),
        raw => Zeroizing::new(Gf256::combine_array(raw).map_err(|e| wrong(e.to_string()))?),
    };
    let mut value = Zeroizing::new([0u8; 32]);
    if bytes.len() != value.len() {
        return Err(wrong("the shares have another length".to_owned()));
    }
    value.copy_from_slice(&bytes);
    Ok(value)
}

fn encrypt(custodian: &Custodian, share: &Share) -> Result<EncryptedShare> {
    use std::io::Write as _;
    let failed =
        |why: String| Error::internal("encrypt", format!("the share of {}", custodian.name), why);
    let text = serde_json::to_vec(share).map(Zeroizing::new).map_err(|e| failed(e.to_string()))?;
    let recipient: &dyn age::Recipient = &custodian.recipient;
    let encryptor = Encryptor::with_recipients(std::iter::once(recipient))
        .map_err(|e| failed(e.to_string()))?;
    let io = |e: std::io::Error| failed(e.to_string());
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(io)?;
    let mut writer = encryptor.wrap_output(armor).map_err(io)?;
    writer.write_all(&text).map_err(io)?;
    let armored = writer.finish().and_then(ArmoredWriter::finish).map_err(io)?;
    let armored = String::from_utf8(armored).map_err(|e| failed(e.to_string()))?;
    Ok(EncryptedShare { custodian: custodian.name.clone(), armored })
}

/// Rebuilds a KEK from decrypted share files.
///
/// # Errors
/// `Verification` where they are too few, of different ceremonies, doubled or changed.
pub fn combine(texts: &[Zeroizing<String>], vault_id: &str) -> Result<Kek> {
    let wrong = |why: String| Error::verification("rebuild", "the KEK", why);
    let mut shares: Vec<Share> = Vec::new();
    for text in texts {
        let share: Share = serde_json::from_str(text)
            .map_err(|e| wrong(format!("share {} is malformed: {e}", shares.len() + 1)))?;
        if share.format != FORMAT || share.version != 1 {
            return Err(wrong(format!("{} {} is not known", share.format, share.version)));
        }
        if share.vault_id != vault_id {
            let why = format!("the share of {} is of vault {}", share.custodian, share.vault_id);
            return Err(wrong(why));
        }
        shares.push(share);
    }
    let first = shares.first().ok_or_else(|| wrong("there is no share".to_owned()))?;
    for share in &shares {
        if (&share.kek_id, &share.check_value) != (&first.kek_id, &first.check_value) {
            let why = format!("the share of {} is of another ceremony", share.custodian);
            return Err(wrong(why));
        }
    }
    if shares.len() < first.threshold {
        let why = format!("{} shares are too few: {} are needed", shares.len(), first.threshold);
        return Err(wrong(why));
    }
    let mut raw = Vec::new();
    for share in &shares {
        let bytes = B64.decode(share.share.as_str());
        let bytes = bytes.map_err(|e| wrong(format!("the share of {}: {e}", share.custodian)))?;
        if raw.iter().any(|other: &Vec<u8>| other.first() == bytes.first()) {
            return Err(wrong(format!("the share of {} is there twice", share.custodian)));
        }
        raw.push(bytes);
    }
    let value = combine_raw(&raw);
    raw.zeroize();
    let id = first.kek_id.parse()?;
    let kek = Kek { id, value: value? };
    if kek.check_value(vault_id) != first.check_value {
        return Err(wrong("the shares do not fit together: one of them was changed".to_owned()));
    }
    Ok(kek)
}

#[cfg(test)]
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
    fn a_quorum_that_protects_nothing_is_refused() {
        let [a, b] = [keeper().recipient, keeper().recipient];
        let list = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(n, r)| ((*n).to_owned(), (*r).to_owned())).collect()
        };
        for (custodians, threshold) in [
            (list(&[("a", &a), ("a", &b)]), 2),
            (list(&[("a", &a), ("b", &a)]), 2),
            (list(&[("a", &a), ("b", &b)]), 1),
            (list(&[("a", &a), ("b", &b)]), 3),
            (list(&[("a", &a)]), 0),
            (list(&[("a", "age1nonsense")]), 1),
            (list(&[("A b", &a)]), 1),
        ] {
            assert!(Quorum::parse(&custodians, threshold).is_err(), "{custodians:?} {threshold}");
        }
    }

    #[test]
    fn a_kek_is_not_printed() {
        let kek = Kek::generate().unwrap();
        assert!(!format!("{kek:?}").contains(&hex::encode(kek.value().as_slice())));
    }
}
