//! From text to [`Config`], collecting every fault on the way.

use std::{fmt, fs, path::Path};

use serde::de::DeserializeOwned;
use toml::{Spanned, de::DeTable, de::DeValue};

use super::Config;
use crate::error::{Error, Result};

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

const TABLES: &[&str] =
    &["hsm", "store", "listen", "audit", "backup", "acme", "monitor", "policy", "rollout"];

/// Reads and checks a configuration file.
///
/// # Errors
/// `Invalid` with every fault and its line.
pub fn load(path: &Path) -> Result<Config> {
    let subject = || path.display().to_string();
    let text = fs::read_to_string(path).map_err(|e| {
        Error::invalid("read the configuration", subject(), e)
            .hint("check --config and who may read the file")
    })?;
    parse(&text).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Error::invalid("check the configuration", subject(), lines.join("\n"))
            .hint("deploy/config/vault.example.toml shows every field")
    })
}

/// Parses and checks a configuration.
///
/// # Errors
/// Every fault, in the order of their lines.
pub fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let document = DeTable::parse(text).map_err(|e| vec![fault(text, e.span(), e.message())])?;
    let mut reader = Reader { text, table: document.into_inner(), faults: Vec::new() };
    reader.refuse_unknown_tables();
    let hsm = reader.table("hsm");
    let store = reader.table("store");
    let listen = reader.table("listen");
    let audit = reader.table("audit");
    let backup = reader.optional("backup");
    let acme = reader.optional("acme");
    let monitor = reader.optional("monitor");
    let policy = reader.table("policy");
    let rollout = reader.optional("rollout");
    let config = match (hsm, store, listen, audit, backup, acme, monitor, policy, rollout) {
        (
            Some(hsm),
            Some(store),
            Some(listen),
            Some(audit),
            Some(backup),
            Some(acme),
            Some(monitor),
            Some(policy),
            Some(rollout),
        ) => Config { hsm, store, listen, audit, backup, acme, monitor, policy, rollout },
        _ => return Err(reader.sorted()),
    };
    reader.validate(&config);
    if reader.faults.is_empty() { Ok(config) } else { Err(reader.sorted()) }
}

struct Reader<'a> {
    text: &'a str,
    table: DeTable<'a>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn sorted(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| fault.line);
        self.faults
    }

    fn refuse_unknown_tables(&mut self) {
        for key in self.table.keys() {
            if !TABLES.contains(&key.get_ref().as_ref()) {
                let what = format!("unknown table or field `{}`", key.get_ref());
                self.faults.push(fault(self.text, Some(key.span()), &what));
            }
        }
    }

    fn optional<T: DeserializeOwned + Default>(&mut self, name: &str) -> Option<T> {
        match self.table.contains_key(name) {
            true => self.table(name),
            false => Some(T::default()),
        }
    }

    /// Reads one table. After a fault at a field the field is taken out and the table read again,
    /// so that every fault is found and not only the first.
    fn table<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let Some(value) = self.table.get(name) else {
            self.faults.push(Fault { line: 0, what: format!("table [{name}] is missing") });
            return None;
        };
        let span = value.span();
        let mut value = value.get_ref().clone();
        let mut removed: Vec<String> = Vec::new();
        loop {
            let spanned = Spanned::new(span.clone(), value.clone());
            let error = match T::deserialize(toml::de::ValueDeserializer::from(spanned)) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let what = format!("[{name}] {}", error.message());
            let found = fault(self.text, error.span(), &what);
            // A field that was taken out is not missing besides.
            let taken = |field: &String| what.ends_with(&format!("missing field `{field}`"));
            if !self.faults.contains(&found) && !removed.iter().any(taken) {
                self.faults.push(found);
            }
            removed.push(remove_at(&mut value, error.span())?);
        }
    }

    fn validate(&mut self, config: &Config) {
        use crate::keystore::pkcs11::TokenUri;
        if let Err(error) = config.hsm.uri.parse::<TokenUri>() {
            self.semantic("hsm", "uri", &error.why);
        }
        if !(1..=256).contains(&config.hsm.workers) {
            self.semantic("hsm", "workers", "it must be from 1 to 256");
        }
        if config.hsm.queue == 0 {
            self.semantic("hsm", "queue", "it must be at least 1");
        }
        if config.audit.queue == 0 {
            self.semantic("audit", "queue", "it must be at least 1");
        }
        if !["sqlite:", "postgres:", "postgresql:"].iter().any(|s| config.store.url.starts_with(s))
        {
            self.semantic("store", "url", "it must begin with sqlite: or postgres:");
        }
        if config.store.connections == 0 {
            self.semantic("store", "connections", "it must be at least 1");
        }
        // What was taken out for a fault of its own is not missing besides.
        if !self.faults.iter().any(|fault| fault.what.starts_with("[backup]")) {
            for (field, why) in config.backup.faults() {
                self.semantic("backup", field, &why);
            }
        }
        if !(0.1..=0.95).contains(&config.acme.renew_after) {
            self.semantic("acme", "renew_after", "it must be from 0.1 to 0.95");
        }
        for (index, entry) in config.acme.dns.iter().enumerate() {
            for (field, why) in entry.faults() {
                self.semantic_of_dns(index, &field, &why);
            }
        }
        for why in super::CaLimits::faults(&config.acme.limits) {
            self.semantic("acme", "limits", &why);
        }
        for (field, why) in config.monitor.faults() {
            self.semantic("monitor", field, &why);
        }
        if config.acme.concurrent_orders == 0 {
            self.semantic("acme", "concurrent_orders", "it must be at least 1");
        }
        let vault = vault_proto::ids::Identity::Vault;
        if let Err(error) = vault_proto::ids::SpiffeId::new(&config.policy.trust_domain, vault) {
            self.semantic("policy", "trust_domain", error.why);
        }
    }

    fn semantic(&mut self, table: &str, field: &str, why: &str) {
        let there = self.table.get(table);
        let found = there.and_then(|table| field.split('.').try_fold(table, within));
        self.say(found.map(Spanned::span), &format!("[{table}] {field}: {why}"));
    }

    /// A fault of one `[[acme.dns]]`, or of one field there.
    fn semantic_of_dns(&mut self, index: usize, field: &str, why: &str) {
        let entry = format!("dns.{index}");
        let (path, subject) = match field {
            "" => (entry, String::new()),
            field => (format!("{entry}.{field}"), format!(" {field}")),
        };
        let acme = self.table.get("acme");
        let found = acme.and_then(|acme| path.split('.').try_fold(acme, within));
        self.say(found.map(Spanned::span), &format!("[[acme.dns]]{subject}: {why}"));
    }

    fn say(&mut self, span: Option<std::ops::Range<usize>>, what: &str) {
        self.faults.push(fault(self.text, span, what));
    }
}

/// The field of a table, or the element of an array by its index.
fn within<'a, 'b>(value: &'a Spanned<DeValue<'b>>, step: &str) -> Option<&'a Spanned<DeValue<'b>>> {
    match value.get_ref() {
        DeValue::Table(fields) => fields.get(step),
        DeValue::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Removes the field whose key or value an error points at; answers its name.
fn remove_at(value: &mut DeValue<'_>, span: Option<std::ops::Range<usize>>) -> Option<String> {
    let (DeValue::Table(fields), Some(span)) = (value, span) else { return None };
    let hit = |other: &std::ops::Range<usize>| span.start >= other.start && span.end <= other.end;
    let found = fields.iter().find(|(key, value)| hit(&key.span()) || hit(&value.span()));
    let name = found.map(|(key, _)| key.get_ref().to_string());
    match name {
        Some(name) => fields.remove(name.as_str()).map(|_| name),
        // The span of a table with a header of its own is that header's.
        None => {
            fields.iter_mut().find_map(|(_, inner)| remove_at(inner.get_mut(), Some(span.clone())))
        }
    }
}

fn fault(text: &str, span: Option<std::ops::Range<usize>>, what: &str) -> Fault {
    let line = span.map_or(0, |span| {
        text.bytes().take(span.start.min(text.len())).filter(|b| *b == b'\n').count() + 1
    });
    Fault { line, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[hsm]
uri = "pkcs11:token=vault?module-path=/usr/lib/softhsm/libsofthsm2.so"
pin = { file = "/etc/vaultd/pin" }
[store]
url = "sqlite:/var/lib/vaultd/vault.db"
[listen]
address = "127.0.0.1:8200"
admin_socket = "/run/vaultd/admin.sock"
[audit]
path = "/var/lib/vaultd/audit.log"
[policy]
trust_domain = "example.org"
"#;

    #[test]
    fn the_smallest_configuration_is_enough() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.hsm.workers, 4);
        assert_eq!(config.acme.concurrent_orders, 32);
        assert_eq!(config.rollout.canary_patience.as_secs(), 3600);
    }

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let bad = GOOD
            .replace("[store]", "colour = 1\nworkers = \"many\"\n[store]")
            .replace("127.0.0.1:8200", "nowhere")
            .replace("example.org", "Example Org");
        let faults = parse(&bad).unwrap_err();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [5, 6, 10], "{faults:?}");
        let faults = parse(&GOOD.replace("example.org", "Example Org")).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].line, 13);
    }

    #[test]
    fn a_missing_table_and_an_unknown_one_are_named() {
        let bad = GOOD.replace("[policy]", "[polices]");
        let text: String =
            parse(&bad).unwrap_err().iter().map(|fault| format!("{fault}\n")).collect();
        assert!(text.contains("table [policy] is missing"), "{text}");
        assert!(text.contains("line 12: unknown table or field `polices`"), "{text}");
    }

    #[test]
    fn a_fault_of_one_of_several_dns_providers_is_reported_where_it_is() {
        let dns = r#"
[acme]
renew_after = 0.5
[[acme.dns]]
provider = "rfc2136"
server = "192.0.2.1"
key_name = "acme"
secret = { file = "/etc/vaultd/tsig-key" }
[[acme.dns]]
provider = "route35"
[[acme.dns]]
provider = "ovh"
credentials = { application_key = { file = "/a" }, application_secret = { file = "/b" } }
options = { endpoint = "ovh-eu", region = "eu" }
[[acme.dns]]
provider = "acme-dns"
url = "http://auth.example"
zones = ["auth.example"]
credentials = { username = { env = "U" }, password = { env = "P" }, subdomain = { env = "S" } }
"#;
        let first = GOOD.lines().count();
        let faults = parse(&format!("{GOOD}{dns}")).unwrap_err();
        let said: Vec<_> = faults.iter().map(|f| (f.line - first, f.what.as_str())).collect();
        let begins = [
            (10, "[[acme.dns]] provider: there is none of this name: rfc2136, exec, acme-dns,"),
            (11, "[[acme.dns]]: provider ovh needs credentials.consumer_key"),
            (14, "[[acme.dns]] options.region: it is not for provider ovh"),
            (17, "[[acme.dns]] url: it must be https, or http to a loopback address"),
            (18, "[[acme.dns]] zones: acme-dns writes below its subdomain and nowhere else"),
        ];
        assert_eq!(said.len(), begins.len(), "{said:?}");
        for ((line, what), (expected, begin)) in said.iter().zip(begins) {
            assert!(*line == expected && what.starts_with(begin), "line {line}: {what}");
        }
    }

    #[test]
    fn a_pin_in_the_file_itself_is_refused() {
        let bad = GOOD.replace("{ file = \"/etc/vaultd/pin\" }", "\"1234\"");
        assert!(parse(&bad).is_err());
    }
}
