//! Reading: what was read counts once the manifest has been reached and holds.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use age::{DecryptError, Decryptor, stream::StreamReader};
use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;

use crate::{
    Content, Entry, FORMAT, Facts, Fault, Identities, Manifest, Part, Table, VERSION,
    member::{self, Member, cause},
    writer::{FACTS, MANIFEST, json, part_name},
};

/// The widest window of zstd's that is read: 8 MiB, more than the writer's level needs.
const WINDOW_LOG: u32 = 23;

/// A row as it stands in its part.
#[derive(Debug, Clone)]
pub struct Row {
    /// Of which table.
    pub table: Table,
    /// Its line, without the newline.
    pub line: String,
    /// What it says.
    pub entry: Entry,
}

type Plain<R> = Decoder<'static, BufReader<StreamReader<Counted<R>>>>;

/// Reads a backup row by row. Nothing of it may be relied on before [`Reader::row`] has answered
/// that there is no more: only then has all of it been checked.
pub struct Reader<R: BufRead> {
    input: Option<Plain<R>>,
    at: Arc<AtomicU64>,
    facts: Facts,
    content: Content,
    parts: Vec<Part>,
    part: Option<Open>,
    manifest: Option<Manifest>,
}

/// The part that is being read.
struct Open {
    table: Table,
    name: String,
    body: Vec<u8>,
    read: usize,
    line: u64,
}

impl<R: BufRead> Reader<R> {
    /// Opens a backup and reads what it says of itself.
    ///
    /// # Errors
    /// `Given` where no identity opens it, `Broken` where it is no backup or one of another format.
    pub fn open(identities: &Identities, file: R) -> Result<Self, Fault> {
        let at = Arc::new(AtomicU64::new(0));
        let header = |error: DecryptError| match error {
            DecryptError::NoMatchingKeys => Fault::given(
                "no identity given opens it: it is encrypted to others, or its header was changed",
            ),
            DecryptError::Io(error) => Fault::broken("age header", cause(&error)),
            error => Fault::broken("age header", error),
        };
        let file = Counted { file, at: at.clone() };
        let decryptor = Decryptor::new_buffered(file).map_err(header)?;
        let plain = BufReader::new(decryptor.decrypt(identities.iter()).map_err(header)?);
        let place = format!("byte {}", at.load(Ordering::Relaxed));
        let set_up = |e: io::Error| Fault::broken(place.as_str(), e);
        let mut input = Decoder::with_buffer(plain).map_err(set_up)?.single_frame();
        input.window_log_max(WINDOW_LOG).map_err(set_up)?;
        let mut reader = Self {
            input: Some(input),
            at,
            facts: Facts::nothing(),
            content: Content::default(),
            parts: Vec::new(),
            part: None,
            manifest: None,
        };
        reader.facts = reader.read_facts()?;
        Ok(reader)
    }

    /// What it says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How many bytes of the file were read.
    pub fn position(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    /// The manifest, once the last row was read and everything was held against it.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The next row; `None` once there is no more and all of it holds.
    ///
    /// # Errors
    /// `Broken` where it does not hold, with the place.
    pub fn row(&mut self) -> Result<Option<Row>, Fault> {
        loop {
            if self.manifest.is_some() {
                return Ok(None);
            }
            let Some(part) = &mut self.part else {
                self.next_part()?;
                continue;
            };
            let rest = part.body.get(part.read..).unwrap_or_default();
            if rest.is_empty() {
                self.part = None;
                continue;
            }
            part.line += 1;
            let place = format!("{} line {}", part.name, part.line);
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return Err(Fault::broken(place, "it is cut off"));
            };
            let line = rest.get(..end).unwrap_or_default();
            part.read += end + 1;
            let table = part.table;
            let entry = self.content.take(table, line).map_err(|e| Fault::broken(&place, e))?;
            let line = std::str::from_utf8(line).map_err(|e| Fault::broken(&place, e))?.to_owned();
            return Ok(Some(Row { table, line, entry }));
        }
    }

    fn member(&mut self) -> Result<Option<Member>, Fault> {
        let at = self.at.clone();
        let place = move || format!("near byte {} of the file", at.load(Ordering::Relaxed));
        match &mut self.input {
            Some(input) => member::read(input, &place),
            None => Ok(None),
        }
    }

    fn read_facts(&mut self) -> Result<Facts, Fault> {
        let first = self.member()?;
        let Some(Member { body, .. }) = first.filter(|first| first.name == FACTS) else {
            return Err(Fault::broken(FACTS, "it is not the first member: this is no backup"));
        };
        let said: serde_json::Value =
            serde_json::from_slice(&body).map_err(|e| Fault::broken(FACTS, e))?;
        let (format, version) = (&said["format"], &said["version"]);
        if format != FORMAT || version != VERSION {
            let why = format!(
                "it is {format} version {version}; this program reads {FORMAT} version {VERSION}"
            );
            return Err(Fault::broken(FACTS, why));
        }
        let facts: Facts = serde_json::from_slice(&body).map_err(|e| Fault::broken(FACTS, e))?;
        as_written(FACTS, &facts, &body)?;
        Ok(facts)
    }

    /// Opens the next part, or ends with the manifest.
    fn next_part(&mut self) -> Result<(), Fault> {
        let Some(Member { name, body }) = self.member()? else {
            return Err(Fault::broken(MANIFEST, "it is not there"));
        };
        if name == MANIFEST {
            return self.end(&body);
        }
        let before = self.parts.len();
        let table = Table::ALL.iter().find(|table| part_name(before, **table) == name);
        let Some(table) = table.copied() else {
            let why = format!("it stands where part {} should: it was moved or added", before + 1);
            return Err(Fault::broken(name, why));
        };
        self.parts.push(Part {
            name: name.clone(),
            size: body.len() as u64,
            sha256: hex::encode(Sha256::digest(&body)),
            rows: body.iter().filter(|byte| **byte == b'\n').count() as u64,
        });
        self.part = Some(Open { table, name, body, read: 0, line: 0 });
        Ok(())
    }

    fn end(&mut self, body: &[u8]) -> Result<(), Fault> {
        let broken = |why: String| Fault::broken(MANIFEST, why);
        let manifest: Manifest = serde_json::from_slice(body).map_err(|e| broken(e.to_string()))?;
        as_written(MANIFEST, &manifest, body)?;
        if manifest.facts != self.facts {
            return Err(broken(format!("it says other things than {FACTS}")));
        }
        for (said, read) in manifest.parts.iter().zip(&self.parts) {
            if said != read {
                let why = format!("SHA-256, size or rows are not what {MANIFEST} says of it");
                return Err(Fault::broken(&read.name, why));
            }
        }
        let (said, read) = (manifest.parts.len(), self.parts.len());
        if said != read {
            return Err(broken(format!("it names {said} parts and there are {read}")));
        }
        let log = self.content.log_ends(&self.facts);
        log.map_err(|why| broken(why).of(Table::Audit))?;
        let counts = self.content.end(&self.facts).map_err(broken)?;
        if counts != manifest.counts {
            return Err(broken(format!("it counts {:?}; there are {counts:?}", manifest.counts)));
        }
        if let Some(more) = self.member()? {
            return Err(Fault::broken(more.name, format!("it stands behind {MANIFEST}")));
        }
        self.nothing_behind()?;
        self.manifest = Some(manifest);
        Ok(())
    }

    /// The archive, the compressed stream and the file end together.
    fn nothing_behind(&mut self) -> Result<(), Fault> {
        let Some(mut input) = self.input.take() else { return Ok(()) };
        let place = || format!("near byte {} of the file", self.at.load(Ordering::Relaxed));
        let failed = |e: io::Error| Fault::broken(place(), cause(&e));
        let mut more = [0; 1];
        let archive = input.read(&mut more).map_err(failed)?;
        let mut compressed = input.finish();
        if archive > 0 || compressed.read(&mut more).map_err(failed)? > 0 {
            return Err(Fault::broken(place(), "there is something behind the archive's end"));
        }
        Ok(())
    }
}

/// Read again as it was written: what reads the same and is not is refused, too.
fn as_written(name: &str, value: &impl serde::Serialize, body: &[u8]) -> Result<(), Fault> {
    let again = json(value).map_err(|e| Fault::broken(name, e))?;
    match again == body {
        true => Ok(()),
        false => Err(Fault::broken(name, "it is not as a vault writes it")),
    }
}

impl Facts {
    fn nothing() -> Self {
        Self {
            format: String::new(),
            version: 0,
            vault_id: String::new(),
            created_at: time::OffsetDateTime::UNIX_EPOCH,
            software: String::new(),
            schema_version: 0,
            kek: None,
            audit: crate::Checkpoint { sequence: 0, head: String::new() },
        }
    }
}

/// Checks a whole backup; `progress` hears how many bytes of the file were read.
///
/// # Errors
/// `Given` where no identity opens it, `Broken` where it does not hold, with the place.
pub fn verify(
    identities: &Identities,
    file: impl BufRead,
    mut progress: impl FnMut(u64),
) -> Result<Manifest, Fault> {
    let mut reader = Reader::open(identities, file)?;
    while reader.row()?.is_some() {
        progress(reader.position());
    }
    let end = || Fault::broken(MANIFEST, "it was not reached");
    reader.manifest().cloned().ok_or_else(end)
}

/// What another file says of itself, where it is a newer backup of the same vault than `facts` is of.
/// Only its beginning is read, and a file that cannot be opened is none.
pub fn newer_than(facts: &Facts, identities: &Identities, other: impl BufRead) -> Option<Facts> {
    let other = Reader::open(identities, other).ok()?.facts;
    let newer = other.vault_id == facts.vault_id && other.created_at > facts.created_at;
    newer.then_some(other)
}

/// Counts what was read, so that a fault has a place.
struct Counted<R> {
    file: R,
    at: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.at.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.at.fetch_add(amount as u64, Ordering::Relaxed);
        self.file.consume(amount);
    }
}
