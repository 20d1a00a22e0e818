//! From text to [`Config`], collecting every fault on the way.

use std::{fs, path::Path};

use vault_config::{Fault, Reader};
use vault_proto::ids::{Identity, SpiffeId};

use super::{CaLimits, Config};
use crate::error::{Error, Result};
use crate::keystore::pkcs11::TokenUri;

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
    let mut reader = Reader::new(text, TABLES)?;
    let config = read(&mut reader);
    if let Some(config) = &config {
        validate(&mut reader, config);
    }
    reader.end(config)
}

fn read(reader: &mut Reader<'_>) -> Option<Config> {
    let hsm = reader.table("hsm");
    let store = reader.table("store");
    let listen = reader.table("listen");
    let audit = reader.table("audit");
    let policy = reader.table("policy");
    let backup = reader.optional("backup").unwrap_or_default();
    let acme = reader.optional("acme").unwrap_or_default();
    let monitor = reader.optional("monitor").unwrap_or_default();
    let rollout = reader.optional("rollout").unwrap_or_default();
    let (hsm, store, listen, audit, policy) = (hsm?, store?, listen?, audit?, policy?);
    Some(Config { hsm, store, listen, audit, backup, acme, monitor, policy, rollout })
}

fn validate(reader: &mut Reader<'_>, config: &Config) {
    let mut say = |table: &str, field: &str, why: &str| {
        reader.say(&format!("{table}.{field}"), format!("[{table}] {field}: {why}"));
    };
    if let Err(error) = config.hsm.uri.parse::<TokenUri>() {
        say("hsm", "uri", &error.why);
    }
    if !(1..=256).contains(&config.hsm.workers) {
        say("hsm", "workers", "it must be from 1 to 256");
    }
    if config.hsm.queue == 0 {
        say("hsm", "queue", "it must be at least 1");
    }
    if config.audit.queue == 0 {
        say("audit", "queue", "it must be at least 1");
    }
    if !["sqlite:", "postgres:", "postgresql:"].iter().any(|s| config.store.url.starts_with(s)) {
        say("store", "url", "it must begin with sqlite: or postgres:");
    }
    if config.store.connections == 0 {
        say("store", "connections", "it must be at least 1");
    }
    if !(0.1..=0.95).contains(&config.acme.renew_after) {
        say("acme", "renew_after", "it must be from 0.1 to 0.95");
    }
    if config.acme.concurrent_orders == 0 {
        say("acme", "concurrent_orders", "it must be at least 1");
    }
    for why in CaLimits::faults(&config.acme.limits) {
        say("acme", "limits", &why);
    }
    for (field, why) in config.monitor.faults() {
        say("monitor", field, &why);
    }
    if let Err(error) = SpiffeId::new(&config.policy.trust_domain, Identity::Vault) {
        say("policy", "trust_domain", error.why);
    }
    for (index, entry) in config.acme.dns.iter().enumerate() {
        for (field, why) in entry.faults() {
            let space = if field.is_empty() { "" } else { " " };
            let what = format!("[[acme.dns]]{space}{field}: {why}");
            reader.say(&format!("acme.dns.{index}.{field}"), what);
        }
    }
    // What was taken out for a fault of its own is not missing besides.
    if !reader.is_faulty("backup") {
        for (field, why) in config.backup.faults() {
            reader.say(&format!("backup.{field}"), format!("[backup] {field}: {why}"));
        }
    }
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
