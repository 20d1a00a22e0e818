//! Writing: rows in, an age file out, with one part in memory at a time.

use std::io::{self, Write};

use age::stream::StreamWriter;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zstd::stream::write::Encoder;

use crate::{Content, Facts, Manifest, Part, Recipients, Table, member};

/// A part is written once it has this many bytes.
const PART: usize = 512 * 1024;
/// zstd's level: its default, which keeps up with any disk.
const LEVEL: i32 = 3;

/// Writes a backup. One that is dropped before [`Writer::finish`] is none: it ends where no age
/// file may end.
pub struct Writer<W: Write> {
    out: Encoder<'static, StreamWriter<W>>,
    facts: Facts,
    content: Content,
    parts: Vec<Part>,
    table: Table,
    body: Vec<u8>,
    rows: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with what is known.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn begin(recipients: &Recipients, facts: Facts, out: W) -> io::Result<Self> {
        let age = recipients.encryptor()?.wrap_output(out)?;
        let mut out = Encoder::new(age, LEVEL)?;
        out.include_checksum(true)?;
        member::write(&mut out, FACTS, &json(&facts)?)?;
        Ok(Self {
            out,
            facts,
            content: Content::default(),
            parts: Vec::new(),
            table: Table::Settings,
            body: Vec::new(),
            rows: 0,
        })
    }

    /// Writes the next row: a line without its newline.
    ///
    /// # Errors
    /// `InvalidData` where it would not be read back, and where `out` cannot be written.
    pub fn row(&mut self, table: Table, line: &[u8]) -> io::Result<()> {
        if table != self.table || self.body.len() >= PART {
            self.part()?;
            self.table = table;
        }
        self.content.take(table, line).map_err(|why| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a row of {table}: {why}"))
        })?;
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
        self.rows += 1;
        Ok(())
    }

    fn part(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let name = part_name(self.parts.len(), self.table);
        member::write(&mut self.out, &name, &self.body)?;
        self.parts.push(Part {
            name,
            size: self.body.len() as u64,
            sha256: hex::encode(Sha256::digest(&self.body)),
            rows: self.rows,
        });
        self.body.clear();
        self.rows = 0;
        Ok(())
    }

    /// Writes the manifest and ends; answers it, and `out` with everything written to it.
    ///
    /// # Errors
    /// `InvalidData` where the audit log does not reach its checkpoint, and where `out` cannot be
    /// written.
    pub fn finish(mut self) -> io::Result<(Manifest, W)> {
        self.part()?;
        let log = self.content.log_ends(&self.facts);
        let counts = log
            .and_then(|()| self.content.end(&self.facts))
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        let manifest = Manifest { facts: self.facts, parts: self.parts, counts };
        member::write(&mut self.out, MANIFEST, &json(&manifest)?)?;
        member::end(&mut self.out)?;
        let mut out = self.out.finish()?.finish()?;
        out.flush()?;
        Ok((manifest, out))
    }
}

/// The first member.
pub(crate) const FACTS: &str = "backup.json";
/// The last member.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The name of the part that has `before` parts before it.
pub(crate) fn part_name(before: usize, table: Table) -> String {
    format!("{:06}-{table}.jsonl", before + 1)
}

/// Of which table a member's name makes it a part.
pub(crate) fn table_of(member: &str) -> Option<Table> {
    let table = member.split_once('-')?.1.strip_suffix(".jsonl")?;
    Table::ALL.iter().copied().find(|known| known.as_str() == table)
}

/// As facts and manifest are written.
pub(crate) fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}
