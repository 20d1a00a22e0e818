//! From text to [`Config`], collecting every fault on the way.

use std::{collections::BTreeMap, fmt, fs, ops::Range, path::Path, time::Duration};

use serde::de::DeserializeOwned;
use toml::{Spanned, de::DeTable, de::DeValue};

use super::{Config, Http01, Install, Signer, TlsAlpn01};
use crate::error::{Error, Result};

/// No visitor of a web server waits longer.
const LONGEST_DEADLINE: Duration = Duration::from_secs(600);

/// One thing wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line from 1; 0 where the fault is that something is not there at all.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

/// Fields and tables of the file, and whether they must be there.
const KNOWN: &[(&str, bool)] = &[
    ("state_dir", true),
    ("vault", true),
    ("install", false),
    ("http01", false),
    ("tls_alpn01", false),
    ("signer", false),
];

/// Reads and checks a configuration file.
///
/// # Errors
/// `Invalid` with every fault and its line.
pub fn load(path: &Path) -> Result<Config> {
    let subject = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|e| {
        Error::invalid("read the configuration", &subject, e)
            .hint("pass --config FILE; deploy/config/agent.example.toml shows every field")
    })?;
    parse(&text).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Error::invalid("check the configuration", &subject, lines.join("\n"))
            .hint("deploy/config/agent.example.toml shows every field")
    })
}

/// Parses and checks a configuration.
///
/// # Errors
/// Every fault, in the order of their lines.
pub fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let document = DeTable::parse(text).map_err(|e| vec![fault(text, e.span(), e.message())])?;
    let mut reader = Reader { text, table: document.into_inner(), faults: Vec::new() };
    reader.refuse_unknown_and_missing();
    let state_dir: Option<std::path::PathBuf> = reader.field("state_dir");
    let vault: Option<super::Vault> = reader.field("vault");
    let http01: Option<Http01> = reader.field("http01");
    let tls_alpn01: Option<TlsAlpn01> = reader.field("tls_alpn01");
    let signer: Option<Signer> = reader.field("signer");
    let installs = reader.installs();
    let lines = reader.lines_of("vault");
    if vault.as_ref().is_some_and(|vault| vault.addresses.is_empty()) {
        reader.fault_at(lines.get("addresses"), "[vault] addresses is empty");
    }
    if let Some(path) = &state_dir {
        let at = reader.table.get("state_dir").map(Spanned::span);
        reader.absolute(at.as_ref(), "state_dir", path);
    }
    if let Some(Http01::Webroot(path)) = &http01 {
        let lines = reader.lines_of("http01");
        reader.absolute(lines.get("webroot"), "[http01] webroot", path);
    }
    if let Some(signer) = &signer {
        let lines = reader.lines_of("signer");
        reader.absolute(lines.get("socket"), "[signer] socket", &signer.socket);
        if let Some(keys) = &signer.keys {
            reader.absolute(lines.get("keys"), "[signer] keys", keys);
        }
        if signer.deadline.is_zero() || signer.deadline > LONGEST_DEADLINE {
            let why = "[signer] deadline is not between 1ms and 10m";
            reader.fault_at(lines.get("deadline"), why);
        }
    }
    for (at, placed) in installs.iter().enumerate() {
        reader.check_install(placed);
        for other in installs.iter().take(at) {
            reader.check_pair(placed, other);
        }
    }
    match (state_dir, vault) {
        (Some(state_dir), Some(vault)) if reader.faults.is_empty() => {
            let install = installs.into_iter().map(|placed| placed.install).collect();
            Ok(Config { state_dir, vault, install, http01, tls_alpn01, signer })
        }
        _ => Err(reader.sorted()),
    }
}

/// Where each field of a table is.
type Spans = BTreeMap<String, Range<usize>>;

/// An `[[install]]` and where its fields are.
struct Placed {
    install: Install,
    fields: Spans,
}

struct Reader<'a> {
    text: &'a str,
    table: DeTable<'a>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn sorted(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| fault.line);
        self.faults
    }

    fn refuse_unknown_and_missing(&mut self) {
        for key in self.table.keys() {
            if !KNOWN.iter().any(|(name, _)| *name == key.get_ref().as_ref()) {
                let what = format!("unknown table or field `{}`", key.get_ref());
                self.faults.push(fault(self.text, Some(key.span()), &what));
            }
        }
        for (name, _) in KNOWN.iter().filter(|(_, must)| *must) {
            if !self.table.contains_key(*name) {
                self.faults.push(Fault { line: 0, what: format!("{name} is missing") });
            }
        }
    }

    /// One field or table of the file; `None` where it is not there or nothing can be read of it.
    fn field<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.table.get(name)?.clone();
        self.read(name, value)
    }

    /// Every `[[install]]` of which anything can be read.
    fn installs(&mut self) -> Vec<Placed> {
        let Some(value) = self.table.get("install").cloned() else { return Vec::new() };
        let DeValue::Array(tables) = value.get_ref() else {
            self.faults.push(fault(self.text, Some(value.span()), "install is no [[install]]"));
            return Vec::new();
        };
        let read = tables.iter().filter_map(|table| {
            let fields = spans(table);
            self.read("[install]", table.clone()).map(|install| Placed { install, fields })
        });
        read.collect()
    }

    /// Reads a value. After a fault at a field the field is taken out and the value read again, so
    /// that every fault is found and not only the first.
    fn read<T: DeserializeOwned>(&mut self, name: &str, value: Spanned<DeValue<'a>>) -> Option<T> {
        let span = value.span();
        let mut value = value.into_inner();
        let mut removed: Vec<String> = Vec::new();
        loop {
            let spanned = Spanned::new(span.clone(), value.clone());
            let error = match T::deserialize(toml::de::ValueDeserializer::from(spanned)) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let what = match value {
                DeValue::Table(_) => format!("[{name}] {}", error.message()),
                _ => format!("{name}: {}", error.message()),
            };
            let found = fault(self.text, error.span(), &what);
            // A field that was taken out is not missing besides.
            let taken = |field: &String| what.ends_with(&format!("missing field `{field}`"));
            let empty = matches!(&value, DeValue::Table(left) if left.is_empty());
            if !self.faults.contains(&found) && !removed.iter().any(taken) && !empty {
                self.faults.push(found);
            }
            removed.push(remove_at(&mut value, error.span())?);
        }
    }

    fn lines_of(&self, table: &str) -> Spans {
        self.table.get(table).map(spans).unwrap_or_default()
    }

    fn fault_at(&mut self, at: Option<&Range<usize>>, what: &str) {
        self.faults.push(fault(self.text, at.cloned(), what));
    }

    fn absolute(&mut self, at: Option<&Range<usize>>, what: &str, path: &Path) {
        if !path.is_absolute() {
            self.fault_at(at, &format!("{what} {} is not an absolute path", path.display()));
        }
    }

    fn check_install(&mut self, placed: &Placed) {
        let Placed { install, fields } = placed;
        let name = format!("certificate {}", install.certificate);
        self.absolute(fields.get("chain"), &format!("{name}: chain"), &install.chain);
        if let Some(key) = &install.key {
            self.absolute(fields.get("key"), &format!("{name}: key"), key);
            if *key == install.chain {
                let what = format!("{name}: chain and key are the same file");
                self.fault_at(fields.get("key"), &what);
            }
        }
        if let Some(staple) = &install.staple {
            self.absolute(fields.get("staple"), &format!("{name}: staple"), staple);
            if *staple == install.chain || install.key.as_ref() == Some(staple) {
                let what = format!("{name}: staple is the file of chain or key");
                self.fault_at(fields.get("staple"), &what);
            }
        }
        if install.key_mode & 0o007 != 0 {
            let what = format!("{name}: key_mode lets everybody read the key");
            self.fault_at(fields.get("key_mode"), &what);
        }
        for (field, command) in [("test", &install.test), ("reload", &install.reload)] {
            if command.as_ref().is_some_and(Vec::is_empty) {
                self.fault_at(fields.get(field), &format!("{name}: {field} is empty"));
            }
        }
    }

    /// What two tables may not have in common.
    fn check_pair(&mut self, placed: &Placed, earlier: &Placed) {
        let (name, other) = (&placed.install.certificate, &earlier.install.certificate);
        if name == other {
            let what = format!("certificate {name} has two [[install]] tables");
            return self.fault_at(placed.fields.get("certificate"), &what);
        }
        let files = |install: &'_ Install| {
            [Some(install.chain.clone()), install.key.clone(), install.staple.clone()]
        };
        let theirs = files(&earlier.install);
        for (field, file) in ["chain", "key", "staple"].into_iter().zip(files(&placed.install)) {
            let Some(file) = file else { continue };
            if theirs.iter().flatten().any(|their| *their == file) {
                let what = format!("{name} and {other} both go to {}", file.display());
                self.fault_at(placed.fields.get(field), &what);
            }
        }
    }
}

fn spans(table: &Spanned<DeValue<'_>>) -> Spans {
    match table.get_ref() {
        DeValue::Table(fields) => {
            fields.iter().map(|(key, _)| (key.get_ref().to_string(), key.span())).collect()
        }
        _ => Spans::new(),
    }
}

/// Removes the field whose key or value an error points at, of a table within where it is one;
/// answers its name.
fn remove_at(value: &mut DeValue<'_>, span: Option<Range<usize>>) -> Option<String> {
    let (DeValue::Table(fields), Some(span)) = (value, span) else { return None };
    let hit = |other: &Range<usize>| span.start >= other.start && span.end <= other.end;
    let (key, _) = fields.iter().find(|(key, value)| hit(&key.span()) || hit(&value.span()))?;
    let name = key.get_ref().to_string();
    let within = fields.get_mut(name.as_str())?.get_mut();
    if let Some(inner) = remove_at(within, Some(span)) {
        return Some(inner);
    }
    fields.remove(name.as_str()).map(|_| name)
}

fn fault(text: &str, span: Option<Range<usize>>, what: &str) -> Fault {
    let line = span.map_or(0, |span| {
        text.bytes().take(span.start.min(text.len())).filter(|b| *b == b'\n').count() + 1
    });
    Fault { line, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
state_dir = "/var/lib/vault-agent"
[vault]
addresses = ["vault.example:8200"]
[[install]]
certificate = "shop"
chain = "/etc/nginx/tls/shop.pem"
key = "/etc/nginx/tls/shop.key"
test = ["nginx", "-t"]
reload = ["systemctl", "reload", "nginx"]
check = { address = "127.0.0.1:443", server_name = "shop.example" }
[http01]
webroot = "/var/www/html"
"#;

    #[test]
    fn a_whole_configuration_reads_with_its_defaults() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.install[0].mode, 0o644);
        assert_eq!(config.install[0].key_mode, 0o600);
        assert!(matches!(config.http01, Some(Http01::Webroot(_))));
    }

    #[test]
    fn what_would_be_unsafe_or_is_unknown_is_refused_by_name() {
        for (from, to, line, why) in [
            ("reload =", "reloads =", 10, "unknown field `reloads`"),
            ("\"/etc/nginx/tls/shop.pem\"", "\"tls/shop.pem\"", 7, "not an absolute path"),
            ("shop.key\"", "shop.pem\"", 8, "same file"),
            ("test = [\"nginx\", \"-t\"]", "test = []", 9, "test is empty"),
            ("test = [\"nginx\", \"-t\"]", "test = \"nginx -t\"", 9, "sequence"),
            ("[http01]", "key_mode = \"0644\"\n[http01]", 12, "everybody"),
            ("[http01]", "mode = \"4755\"\n[http01]", 12, "more than permissions"),
            ("\"vault.example:8200\"", "", 4, "addresses is empty"),
            ("[http01]", "[http02]", 12, "unknown table or field `http02`"),
            ("127.0.0.1:443", "localhost:443", 11, "address"),
            ("webroot =", "docroot =", 13, "unknown variant `docroot`"),
            ("[http01]", "[signer]\ndeadline = \"0s\"\n[http01]", 13, "not between"),
            ("[http01]", "[signer]\ndeadline = \"1h\"\n[http01]", 13, "not between"),
        ] {
            let faults = parse(&GOOD.replace(from, to)).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].line, line, "{faults:?}");
            assert!(faults[0].what.contains(why), "{faults:?} / {why}");
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let second = "[[install]]\ncertificate = \"Shop\"\nchain = \"relative.pem\"\n[http01]";
        let bad = GOOD
            .replace("state_dir = \"/var", "colour = 1\nstate_dir = \"var")
            .replace("\"127.0.0.1:443\"", "\"nowhere\", timeout = \"soon\"")
            .replace("[http01]", second);
        let faults = parse(&bad).unwrap_err();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [2, 3, 12, 12, 14], "{faults:?}");
    }

    #[test]
    fn what_must_be_there_is_named() {
        let faults = parse("[[install]]\ncertificate = \"shop\"\n").unwrap_err();
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(text.contains(&"state_dir is missing".to_owned()), "{text:?}");
        assert!(text.contains(&"vault is missing".to_owned()), "{text:?}");
        assert!(text[2].contains("missing field `chain`"), "{text:?}");
    }
}
