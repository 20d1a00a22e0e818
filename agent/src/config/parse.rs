//! From text to [`Config`], collecting every fault on the way.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use vault_config::{Fault, Reader};

use super::{Config, Http01, Install, Signer, Vault};
use crate::error::{Error, Result};

/// No visitor of a web server waits longer.
const LONGEST_DEADLINE: Duration = Duration::from_secs(600);

/// Fields and tables of the file.
const KNOWN: &[&str] = &["state_dir", "vault", "install", "http01", "tls_alpn01", "signer"];

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
    let mut reader = Reader::new(text, KNOWN)?;
    let state_dir: Option<PathBuf> = reader.field("state_dir");
    let vault: Option<Vault> = reader.table("vault");
    let http01: Option<Http01> = reader.optional("http01");
    let tls_alpn01 = reader.optional("tls_alpn01");
    let signer: Option<Signer> = reader.optional("signer");
    let installs: Vec<(usize, Install)> = reader.each("install");
    if vault.as_ref().is_some_and(|vault| vault.addresses.is_empty()) {
        reader.say("vault.addresses", "[vault] addresses is empty");
    }
    if let Some(path) = &state_dir {
        absolute(&mut reader, "state_dir", "state_dir", path);
    }
    if let Some(Http01::Webroot(path)) = &http01 {
        absolute(&mut reader, "http01.webroot", "[http01] webroot", path);
    }
    if let Some(signer) = &signer {
        check_signer(&mut reader, signer);
    }
    for (at, placed) in installs.iter().enumerate() {
        check_install(&mut reader, placed);
        for other in installs.iter().take(at) {
            check_pair(&mut reader, placed, &other.1);
        }
    }
    let install = installs.into_iter().map(|(_, install)| install).collect();
    let config = state_dir.zip(vault).map(|(state_dir, vault)| Config {
        state_dir,
        vault,
        install,
        http01,
        tls_alpn01,
        signer,
    });
    reader.end(config)
}

fn absolute(reader: &mut Reader<'_>, at: &str, called: &str, path: &Path) {
    if !path.is_absolute() {
        reader.say(at, format!("{called} {} is not an absolute path", path.display()));
    }
}

fn check_signer(reader: &mut Reader<'_>, signer: &Signer) {
    absolute(reader, "signer.socket", "[signer] socket", &signer.socket);
    if let Some(keys) = &signer.keys {
        absolute(reader, "signer.keys", "[signer] keys", keys);
    }
    if signer.deadline.is_zero() || signer.deadline > LONGEST_DEADLINE {
        reader.say("signer.deadline", "[signer] deadline is not between 1ms and 10m");
    }
}

/// Where a field of the `[[install]]` with this index is.
fn place(index: usize, field: &str) -> String {
    format!("install.{index}.{field}")
}

/// Checks one `[[install]]`, with its index.
fn check_install(reader: &mut Reader<'_>, (index, install): &(usize, Install)) {
    let name = format!("certificate {}", install.certificate);
    let at = |field: &str| place(*index, field);
    absolute(reader, &at("chain"), &format!("{name}: chain"), &install.chain);
    if let Some(key) = &install.key {
        absolute(reader, &at("key"), &format!("{name}: key"), key);
        if *key == install.chain {
            reader.say(&at("key"), format!("{name}: chain and key are the same file"));
        }
    }
    if let Some(staple) = &install.staple {
        absolute(reader, &at("staple"), &format!("{name}: staple"), staple);
        if *staple == install.chain || install.key.as_ref() == Some(staple) {
            reader.say(&at("staple"), format!("{name}: staple is the file of chain or key"));
        }
    }
    if install.key_mode & 0o007 != 0 {
        reader.say(&at("key_mode"), format!("{name}: key_mode lets everybody read the key"));
    }
    for (field, command) in [("test", &install.test), ("reload", &install.reload)] {
        if command.as_ref().is_some_and(Vec::is_empty) {
            reader.say(&at(field), format!("{name}: {field} is empty"));
        }
    }
}

/// What two tables may not have in common.
fn check_pair(reader: &mut Reader<'_>, (index, install): &(usize, Install), earlier: &Install) {
    let (name, other) = (&install.certificate, &earlier.certificate);
    let at = |field: &str| place(*index, field);
    if name == other {
        let what = format!("certificate {name} has two [[install]] tables");
        return reader.say(&at("certificate"), what);
    }
    let files = |install: &'_ Install| {
        [Some(install.chain.clone()), install.key.clone(), install.staple.clone()]
    };
    let theirs = files(earlier);
    for (field, file) in ["chain", "key", "staple"].into_iter().zip(files(install)) {
        let Some(file) = file else { continue };
        if theirs.iter().flatten().any(|their| *their == file) {
            reader.say(&at(field), format!("{name} and {other} both go to {}", file.display()));
        }
    }
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
        assert!(text.contains(&"table [vault] is missing".to_owned()), "{text:?}");
        assert!(text[2].contains("missing field `chain`"), "{text:?}");
        let faults =
            parse("state_dir = \"/var/lib/vault-agent\"\n[vault]\n[[install]]\n").unwrap_err();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [2, 3], "{faults:?}");
    }
}
