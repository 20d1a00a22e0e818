//! A thousand corruptions of a real backup: of the file as it is, and of what is inside, put together
//! anew with everything that age and zstd would notice made right. None verifies, none is a crash,
//! and each says where and why.

use std::{fs, io::Read as _, panic, path::PathBuf};

use age::Identity;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use testkit::{escrow::Escrowed, programs::Ended};
use vault_backup::{Fault, Identities, Recipients, Table};

/// How many.
const CORRUPTIONS: u32 = 1000;
/// age's payload comes in chunks of this size.
const CHUNK: usize = 64 * 1024 + 16;
/// tar's come in these.
const BLOCK: usize = 512;

/// What is done to a backup; the numbers choose where, whatever its size.
#[derive(Debug, Clone)]
enum Harm {
    /// To the file.
    File(Bytes),
    /// The file's chunks in another order.
    Chunks(usize, usize),
    /// To the archive inside.
    Archive(Bytes),
    /// Two members change places.
    Swap(usize, usize),
    /// A member is not there.
    Drop(usize),
    /// A member is there twice.
    Double(usize),
    /// A member has another's name.
    Rename(usize, usize),
    /// A line of a part is not there, or stands where another should.
    Lines(usize, usize, usize),
}

#[derive(Debug, Clone)]
enum Bytes {
    Flip(usize, u8),
    Cut(usize),
    Append(Vec<u8>),
    Remove(usize, usize),
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Bytes::Flip(at, bit)),
        1 => any::<usize>().prop_map(Bytes::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..64).prop_map(Bytes::Append),
        1 => (any::<usize>(), 1usize..2048).prop_map(|(at, count)| Bytes::Remove(at, count)),
    ]
}

fn harm() -> impl Strategy<Value = Harm> {
    let n = any::<usize>;
    prop_oneof![
        4 => bytes().prop_map(Harm::File),
        1 => (n(), n()).prop_map(|(a, b)| Harm::Chunks(a, b)),
        6 => bytes().prop_map(Harm::Archive),
        2 => (n(), n()).prop_map(|(a, b)| Harm::Swap(a, b)),
        2 => n().prop_map(Harm::Drop),
        2 => n().prop_map(Harm::Double),
        1 => (n(), n()).prop_map(|(a, b)| Harm::Rename(a, b)),
        3 => (n(), n(), n()).prop_map(|(member, a, b)| Harm::Lines(member, a, b)),
    ]
}

/// A backup, opened.
struct Backup {
    escrowed: Escrowed,
    file: Vec<u8>,
    /// Where the age file's payload begins.
    payload: usize,
    archive: Vec<u8>,
    identities: Identities,
}

impl Backup {
    fn new() -> Self {
        let escrowed = Escrowed::new();
        for at in 0..13 {
            let mut noise = [0u8; 12_000];
            aws_lc_rs::rand::fill(&mut noise).unwrap();
            let (name, label) = (format!("k{at}"), format!("noise={}", hex::encode(noise)));
            let key = ["key", "generate", &name, "--algorithm", "ec-p256", "--label", &label];
            escrowed.vault.ok(&key);
        }
        let (_, path) = escrowed.backup("b.age");
        let file = fs::read(path).unwrap();
        let text = fs::read_to_string(&escrowed.keeper.identity).unwrap();
        let mut identities = Identities::default();
        identities.add(&text).unwrap();
        let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).unwrap();
        let identity: age::x25519::Identity = secret.parse().unwrap();
        let mut packed = Vec::new();
        let known = std::iter::once(&identity as &dyn Identity);
        let mut reader = age::Decryptor::new(&file[..]).unwrap().decrypt(known).unwrap();
        reader.read_to_end(&mut packed).unwrap();
        let archive = zstd::decode_all(&packed[..]).unwrap();
        let mac = file.windows(5).position(|part| part == b"\n--- ").unwrap();
        let end = file[mac + 1..].iter().position(|byte| *byte == b'\n').unwrap();
        let payload = mac + 1 + end + 1 + 16;
        Self { escrowed, file, payload, archive, identities }
    }

    /// Members as they stand in the archive, header and padding with them, without its end.
    fn members(&self) -> Vec<Vec<u8>> {
        let (mut all, mut at) = (Vec::new(), 0);
        while self.archive[at] != 0 {
            let size = std::str::from_utf8(&self.archive[at + 124..at + 135]).unwrap();
            let size = usize::from_str_radix(size, 8).unwrap();
            let end = at + BLOCK + size.next_multiple_of(BLOCK);
            all.push(self.archive[at..end].to_vec());
            at = end;
        }
        all
    }

    /// An archive of these members, packed as a vault packs it.
    fn pack(&self, archive: &[u8]) -> Vec<u8> {
        let recipient: age::x25519::Recipient = self.escrowed.keeper.recipient.parse().unwrap();
        let packed = zstd::encode_all(archive, 1).unwrap();
        age::encrypt(&recipient, &packed).unwrap()
    }

    fn join(&self, members: &[Vec<u8>]) -> Vec<u8> {
        self.pack(&[members.concat(), vec![0; 2 * BLOCK]].concat())
    }

    /// The harmed file; nothing where it would be the same.
    fn harmed(&self, harm: &Harm) -> Option<Vec<u8>> {
        let mut members = self.members();
        let count = members.len();
        let harmed = match harm {
            Harm::File(bytes) => bytes.done_to(&self.file),
            Harm::Chunks(a, b) => {
                let (header, payload) = self.file.split_at(self.payload);
                let mut chunks: Vec<_> = payload.chunks(CHUNK).collect();
                let (a, b) = (a % chunks.len(), b % chunks.len());
                chunks.swap(a, b);
                [header, &chunks.concat()].concat()
            }
            Harm::Archive(bytes) => match bytes.done_to(&self.archive) {
                same if same == self.archive => return None,
                archive => self.pack(&archive),
            },
            Harm::Swap(a, b) if a % count == b % count => return None,
            Harm::Swap(a, b) => {
                members.swap(a % count, b % count);
                self.join(&members)
            }
            Harm::Drop(at) => {
                members.remove(at % count);
                self.join(&members)
            }
            Harm::Double(at) => {
                members.insert(at % count, members[at % count].clone());
                self.join(&members)
            }
            Harm::Rename(a, b) if a % count == b % count => return None,
            Harm::Rename(a, b) => {
                let other = members[b % count][..100].to_vec();
                rename(&mut members[a % count], &other);
                self.join(&members)
            }
            Harm::Lines(member, a, b) => {
                let member = &mut members[member % count];
                if !swap_lines(member, *a, *b) {
                    return None;
                }
                self.join(&members)
            }
        };
        (harmed != self.file).then_some(harmed)
    }
}

impl Bytes {
    fn done_to(&self, to: &[u8]) -> Vec<u8> {
        let mut bytes = to.to_vec();
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at % length] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(at % length),
            Self::Append(more) => bytes.extend(more),
            Self::Remove(at, count) => {
                let from = at % length;
                bytes.drain(from..(from + count).min(length));
            }
        }
        bytes
    }
}

/// Gives a member another name, with a checksum that is right.
fn rename(member: &mut [u8], name: &[u8]) {
    member[..100].copy_from_slice(name);
    member[148..156].fill(b' ');
    let sum: u32 = member[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    member[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Swaps two lines, so that size and padding stay; `false` where they are one or the same.
fn swap_lines(member: &mut [u8], a: usize, b: usize) -> bool {
    let size = usize::from_str_radix(std::str::from_utf8(&member[124..135]).unwrap(), 8).unwrap();
    let body = member[BLOCK..BLOCK + size].to_vec();
    let mut lines: Vec<_> = body.split_inclusive(|byte| *byte == b'\n').collect();
    let (a, b) = (a % lines.len(), b % lines.len());
    lines.swap(a, b);
    let changed = lines.concat();
    let same = changed == body;
    member[BLOCK..BLOCK + size].copy_from_slice(&changed);
    !same
}

/// What a check of a file finds.
fn found(identities: &Identities, file: &[u8]) -> Result<(), Fault> {
    vault_backup::verify(identities, file, |_| {}).map(drop)
}

#[test]
fn of_a_thousand_corruptions_none_verifies_none_crashes_and_each_says_why() {
    let backup = Backup::new();
    assert!(backup.file.len() > 2 * CHUNK && backup.members().len() > 4, "too small to swap");
    // What is put together anew without any harm is as good as the vault's own.
    for whole in [backup.file.clone(), backup.join(&backup.members())] {
        found(&backup.identities, &whole).unwrap();
    }
    let config = Config { cases: CORRUPTIONS, failure_persistence: None, ..Config::default() };
    let judged = TestRunner::new(config).run(&harm(), |harm| {
        let Some(harmed) = backup.harmed(&harm) else { return Err(TestCaseError::reject("same")) };
        let checked =
            panic::catch_unwind(panic::AssertUnwindSafe(|| found(&backup.identities, &harmed)));
        match checked {
            Err(_) => Err(TestCaseError::fail("it crashed")),
            Ok(Ok(())) => Err(TestCaseError::fail("it verifies")),
            Ok(Err(Fault::Given { why })) => {
                // Whom it is encrypted to stands in the header alone.
                let header = matches!(harm, Harm::File(_)) && why.contains("header was changed");
                prop_assert!(header, "{why}");
                Ok(())
            }
            Ok(Err(Fault::Broken { place, why, .. })) => {
                prop_assert!(!place.is_empty() && !why.is_empty());
                Ok(())
            }
        }
    });
    judged.unwrap();
}

#[test]
fn what_does_not_hold_is_known_by_its_table() {
    let backup = Backup::new();
    let last = backup.members().len() - 1;
    let fault = |harm| found(&backup.identities, &backup.harmed(&harm).unwrap()).unwrap_err();
    let (keys, audit) = (fault(Harm::Lines(2, 0, 1)), fault(Harm::Lines(last - 1, 0, 1)));
    let whole = fault(Harm::Drop(last));
    for (fault, table) in [(&keys, Table::Keys), (&audit, Table::Audit)] {
        assert!(fault.is_of(table), "{fault}");
    }
    for table in Table::ALL {
        assert!(!whole.is_of(*table), "{whole}: {table}");
        assert!(*table == Table::Audit || !audit.is_of(*table), "{audit}: {table}");
    }
}

#[test]
fn vaultctl_says_what_is_wrong_with_7() {
    let backup = Backup::new();
    let path: PathBuf = backup.escrowed.vault.file("harmed.age");
    let verify = |harmed: &[u8]| -> Ended {
        fs::write(&path, harmed).unwrap();
        backup.escrowed.verify(&path, &[])
    };
    let last = backup.members().len() - 1;
    for (harm, why) in [
        (Harm::File(Bytes::Cut(backup.file.len() - 1)), "near byte"),
        (Harm::File(Bytes::Cut(100)), "age header"),
        (Harm::File(Bytes::Flip(backup.file.len() - 5, 3)), "near byte"),
        (Harm::File(Bytes::Append(vec![0])), "near byte"),
        (Harm::Chunks(0, 1), "near byte"),
        (Harm::Swap(1, 2), "it stands where part 1 should"),
        (Harm::Drop(0), "backup.json: it is not the first member"),
        (Harm::Drop(2), "it stands where part 2 should"),
        (Harm::Drop(last), "manifest.json: it is not there"),
        (Harm::Double(2), "it stands where part 3 should"),
        (Harm::Double(last), "manifest.json: it stands behind manifest.json"),
        (Harm::Lines(2, 0, 1), "000002-keys.jsonl line 2: it is not in order"),
        (Harm::Lines(last - 1, 0, 1), "audit.jsonl line 1: its number is 2, not 1"),
        (Harm::Archive(Bytes::Flip(BLOCK + 20, 0)), "backup.json"),
    ] {
        let ended = verify(&backup.harmed(&harm).unwrap());
        ended.refused(7, why);
        assert_eq!(ended.stdout, "", "{harm:?}: something is said of it all the same");
    }
    assert_eq!(verify(&backup.file).code, 0);
}

#[test]
fn a_backup_that_would_not_be_read_back_is_not_written() {
    use vault_backup::{Checkpoint, FORMAT, Facts, Table, VERSION, Writer};
    let backup = Backup::new();
    let recipients =
        Recipients::parse(std::slice::from_ref(&backup.escrowed.keeper.recipient)).unwrap();
    let facts = || Facts {
        format: FORMAT.to_owned(),
        version: VERSION,
        vault_id: "v".to_owned(),
        created_at: time::OffsetDateTime::UNIX_EPOCH,
        software: "test".to_owned(),
        schema_version: 1,
        kek: None,
        audit: Checkpoint { sequence: 0, head: vault_proto::audit::GENESIS.to_owned() },
    };
    let vault = br#"{"name":"vault","value":"{\"id\":\"v\",\"kek\":null}"}"#;
    let begin = || Writer::begin(&recipients, facts(), Vec::new()).unwrap();
    let mut whole = begin();
    whole.row(Table::Settings, vault).unwrap();
    let (_, file) = whole.finish().unwrap();
    found(&backup.identities, &file).unwrap();
    for (rows, why) in [
        (vec![(Table::Settings, &vault[..]), (Table::Settings, &vault[..])], "not in order"),
        (vec![(Table::Agents, &br#"{"name":"A B"}"#[..])], "agent name"),
        (vec![(Table::Audit, &b"{}"[..])], "missing field"),
        (vec![(Table::Keys, &br#"{"row":{},"status":"wrapped","wrapped":null}"#[..])], "missing"),
    ] {
        let mut writer = begin();
        let written = rows.iter().try_for_each(|(table, line)| writer.row(*table, line));
        let error = written.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let error = begin().finish().err().unwrap().to_string();
    assert!(error.contains("which vault"), "{error}");
}
