//! The command line, as `docs` and scripts know it.

use std::ffi::OsString;

use clap::{Parser, Subcommand, ValueEnum};
use vault_proto::v1;

use crate::cmd::{
    account, agent, audit, backup, cert, csr, drill, fleet, init, jws, kek, key, meta, operator,
};
use crate::output::Format;
use crate::profile::Connection;

/// Keys, certificates, accounts, agents and audit of a vault.
#[derive(Debug, Parser)]
#[command(name = "vaultctl", version, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    /// A table for people, or JSON for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Do not ask before what cannot be undone.
    #[arg(long, global = true)]
    pub yes: bool,
    #[command(subcommand)]
    pub noun: Noun,
}

/// Everything there is to do.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Initialises a vault: token, internal CA, key-encryption key and its shares.
    Init(init::Init),
    /// Writes the encrypted shares of the KEK once more.
    Shares(init::Shares),
    /// Shows how vault, HSM, store, CAs, agents and renewals are.
    #[command(after_help = "Example: vaultctl status -o json")]
    Status,
    /// The key-encryption key and its custodians.
    #[command(subcommand)]
    Kek(kek::Kek),
    /// Keys in the HSM.
    #[command(subcommand)]
    Key(key::Key),
    /// Certificate requests.
    #[command(subcommand)]
    Csr(csr::Csr),
    /// ACME requests.
    #[command(subcommand)]
    Jws(jws::Jws),
    /// ACME accounts.
    #[command(subcommand)]
    Account(account::Account),
    /// Certificates.
    #[command(subcommand)]
    Cert(cert::Cert),
    /// All certificates together.
    #[command(subcommand)]
    Fleet(fleet::Fleet),
    /// Agents on web servers.
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Operators' and auditors' client certificates.
    #[command(subcommand)]
    Operator(operator::Operator),
    /// The audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Backups.
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Restores that are tried.
    #[command(subcommand)]
    Drill(drill::Drill),
    /// Writes shell completions to stdout.
    Completions(meta::Completions),
    /// Writes man pages into a directory.
    Man(meta::Man),
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident, $wire:ty { $($variant:ident = $text:literal => $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
        pub enum $name {
            $(#[value(name = $text)] #[doc = $text] $variant,)*
        }
        impl $name {
            /// As the vault's messages have it.
            pub fn wire(self) -> $wire {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
}

names!(
    /// A key's algorithm.
    AlgorithmName, v1::KeyAlgorithm {
        EcP256 = "ec-p256" => v1::KeyAlgorithm::EcP256,
        EcP384 = "ec-p384" => v1::KeyAlgorithm::EcP384,
        Rsa2048 = "rsa-2048" => v1::KeyAlgorithm::Rsa2048,
        Rsa3072 = "rsa-3072" => v1::KeyAlgorithm::Rsa3072,
        Rsa4096 = "rsa-4096" => v1::KeyAlgorithm::Rsa4096,
        Ed25519 = "ed25519" => v1::KeyAlgorithm::Ed25519,
    }
);
names!(
    /// Whether a key can be in a backup.
    EscrowName, v1::Escrow {
        Wrapped = "wrapped" => v1::Escrow::Wrapped,
        None = "none" => v1::Escrow::None,
    }
);
names!(
    /// Who keeps a private key.
    CustodyName, v1::Custody {
        Vault = "vault" => v1::Custody::Vault,
        Agent = "agent" => v1::Custody::Agent,
    }
);
names!(
    /// How control of a name is proven.
    ChallengeName, &'static str {
        Http01 = "http-01" => "http-01",
        Dns01 = "dns-01" => "dns-01",
        TlsAlpn01 = "tls-alpn-01" => "tls-alpn-01",
    }
);

names!(
    /// What a certificate's HSM key signs in handshakes.
    TlsUseName, &'static str {
        Tls13 = "tls13" => "tls13",
        Message = "message" => "message",
        Digest = "digest" => "digest",
    }
);

names!(
    /// Who signs a revocation.
    RevokedByName, &'static str {
        Account = "account" => "account",
        CertificateKey = "certificate-key" => "certificate-key",
    }
);

impl TlsUseName {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.wire()
    }
}

impl ChallengeName {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        self.wire()
    }
}

/// The contract has two options `--profile`: the connection's, anywhere, and the CA's behind `cert
/// issue` and `cert update`. The latter is told apart by its place before the command line is parsed.
pub fn tell_profiles_apart(mut args: Vec<OsString>) -> Vec<OsString> {
    let declares =
        |pair: &[OsString]| pair[0] == "cert" && (pair[1] == "issue" || pair[1] == "update");
    let verb = args.windows(2).position(declares);
    for arg in args.iter_mut().skip(verb.map_or(usize::MAX, |at| at + 2)) {
        let Some(text) = arg.to_str() else { continue };
        if text == "--" {
            break;
        }
        if let Some(rest) = text.strip_prefix("--profile")
            && (rest.is_empty() || rest.starts_with('='))
        {
            *arg = format!("--acme-profile{rest}").into();
        }
    }
    args
}

/// `K=V`.
///
/// # Errors
/// Where there is no `=` or nothing before it.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_two_profiles_are_told_apart_by_their_place() {
        let line = |text: &str| text.split(' ').map(Into::into).collect::<Vec<_>>();
        let text = "vaultctl --profile prod cert issue shop --account a --domain a.example \
                    --challenge http-01 --profile shortlived --deploy-to web1";
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let cli = Cli::try_parse_from(tell_profiles_apart(line(&text))).unwrap();
        assert_eq!(cli.connection.profile.as_deref(), Some("prod"));
        let text = "vaultctl --profile prod cert update shop --profile shortlived";
        let cli = Cli::try_parse_from(tell_profiles_apart(line(text))).unwrap();
        assert_eq!(cli.connection.profile.as_deref(), Some("prod"));
        let cli = Cli::try_parse_from(line("vaultctl cert list --profile prod")).unwrap();
        assert_eq!(cli.connection.profile.as_deref(), Some("prod"));
    }

    #[test]
    fn the_command_line_is_sound_and_every_verb_has_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut left = vec![command];
        while let Some(command) = left.pop() {
            let (mut inner, mut any) = (command.get_subcommands(), false);
            for sub in inner.by_ref() {
                any = true;
                left.push(sub.clone());
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(any || help.contains("Example: vaultctl "), "{}", command.get_name());
        }
    }
}
