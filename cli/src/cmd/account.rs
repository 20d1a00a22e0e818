//! `vaultctl account`.

use std::path::PathBuf;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use clap::{Args, Subcommand};
use serde::Serialize;
use vault_proto::v1;
use zeroize::Zeroizing;

use super::Context;
use crate::args::AlgorithmName;
use crate::client::call;
use crate::error::{Error, Result};
use crate::files;
use crate::output::{self, Row};

/// ACME accounts, whose keys are in the HSM.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Generates an account key in the HSM and registers it with the CA.
    #[command(after_help = "Example: vaultctl account register le \
        --directory https://acme-v02.api.letsencrypt.org/directory --contact mailto:ops@shop.example --agree-tos")]
    Register(Register),
    /// Lists accounts.
    #[command(after_help = "Example: vaultctl account list")]
    List,
    /// Shows one account.
    #[command(after_help = "Example: vaultctl account show le")]
    Show {
        /// The account's name.
        name: String,
    },
    /// Rolls an account over to a new HSM key (RFC 8555 section 7.3.5).
    #[command(after_help = "Example: vaultctl account rollover le")]
    Rollover {
        /// The account's name.
        name: String,
        /// The new key's algorithm [default: as before].
        #[arg(long, value_enum)]
        algorithm: Option<AlgorithmName>,
    },
    /// Replaces an account's contacts at its CA (RFC 8555 section 7.3.2).
    #[command(after_help = "Example: vaultctl account update le --contact mailto:ops@shop.example")]
    Update(Update),
    /// Agrees to the CA's terms of service as they are now (RFC 8555 section 7.3.3).
    #[command(after_help = "Example: vaultctl account agree le")]
    Agree {
        /// The account's name.
        name: String,
    },
    /// Gives up the CA's proofs that names are yours, so that the next order proves them anew (RFC
    /// 8555 section 7.5.2). Lists what was given up.
    #[command(after_help = "Example: vaultctl account deauthorize le --domain shop.example --yes")]
    Deauthorize {
        /// The account's name.
        name: String,
        /// A DNS name, or a wildcard; may be repeated.
        #[arg(long = "domain", value_name = "NAME", required_unless_present = "ips")]
        domains: Vec<String>,
        /// An IP address; may be repeated.
        #[arg(long = "ip", value_name = "ADDRESS")]
        ips: Vec<String>,
    },
    /// Deactivates an account at its CA, for ever.
    #[command(after_help = "Example: vaultctl account deactivate le --yes")]
    Deactivate {
        /// The account's name.
        name: String,
    },
}

/// What to register.
#[derive(Debug, Args)]
pub struct Register {
    /// The account's name.
    name: String,
    /// The CA's directory URL.
    #[arg(long, value_name = "URL")]
    directory: String,
    /// A contact, for example mailto:ops@shop.example; may be repeated.
    #[arg(long = "contact", value_name = "URL")]
    contacts: Vec<String>,
    /// The external account binding's key id.
    #[arg(long, value_name = "ID", requires = "eab_hmac_file", allow_hyphen_values = true)]
    eab_kid: Option<String>,
    /// The file with the external account binding's MAC key, base64url as the CA hands it out.
    #[arg(long, value_name = "FILE", requires = "eab_kid")]
    eab_hmac_file: Option<PathBuf>,
    /// Roots of the CA's HTTPS server, PEM [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca_root: Option<PathBuf>,
    /// Agree to the CA's terms of service.
    #[arg(long)]
    agree_tos: bool,
    /// The account key's algorithm.
    #[arg(long, value_enum, default_value_t = AlgorithmName::EcP256)]
    algorithm: AlgorithmName,
}

/// The contacts that an account shall have.
#[derive(Debug, Args)]
pub struct Update {
    /// The account's name.
    name: String,
    #[command(flatten)]
    contacts: Contacts,
}

/// In place of those before.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Contacts {
    /// A contact, for example mailto:ops@shop.example; may be repeated.
    #[arg(long = "contact", value_name = "URL", conflicts_with = "no_contact")]
    contacts: Vec<String>,
    /// Leave the CA no contact.
    #[arg(long)]
    no_contact: bool,
}

/// An authorization that was given up.
#[derive(Serialize)]
struct Deauthorized {
    identifier: String,
    url: String,
}

impl Row for Deauthorized {
    const HEADER: &'static [&'static str] = &["NAME", "AUTHORIZATION"];
    fn cells(&self) -> Vec<String> {
        vec![self.identifier.clone(), self.url.clone()]
    }
}

#[derive(Serialize)]
struct Shown {
    name: String,
    directory: String,
    url: String,
    status: String,
    contacts: Vec<String>,
    /// What the CA was told of and has not confirmed yet.
    pending_contacts: Option<Vec<String>>,
    key_id: String,
    thumbprint: String,
    eab_kid: String,
    created_at: Option<String>,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] = &["NAME", "STATUS", "DIRECTORY", "KEY", "CREATED"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.status.clone(),
            self.directory.clone(),
            self.key_id.clone(),
            output::short(&self.created_at),
        ]
    }
}

impl From<v1::Account> for Shown {
    fn from(account: v1::Account) -> Self {
        Self {
            created_at: output::time(account.created_at),
            name: account.name,
            directory: account.directory,
            url: account.url,
            status: account.status,
            contacts: account.contacts,
            pending_contacts: account.contacts_pending.then_some(account.pending_contacts),
            key_id: account.key_id,
            thumbprint: account.thumbprint,
            eab_kid: account.eab_kid,
        }
    }
}

fn request(args: Register) -> Result<v1::RegisterAccountRequest> {
    let eab_hmac = match &args.eab_hmac_file {
        None => Vec::new(),
        Some(path) => {
            let text = Zeroizing::new(files::read_text(path)?);
            let decoded = B64.decode(text.trim().trim_end_matches('='));
            decoded.map_err(|e| {
                Error::invalid("read", path.display().to_string(), e)
                    .hint("it must hold the MAC key as base64url, as the CA shows it")
            })?
        }
    };
    let ca_root_pem = args.ca_root.as_deref().map(files::read_text).transpose()?;
    Ok(v1::RegisterAccountRequest {
        name: args.name,
        directory: args.directory,
        contacts: args.contacts,
        eab_kid: args.eab_kid.unwrap_or_default(),
        eab_hmac,
        ca_root_pem: ca_root_pem.unwrap_or_default(),
        agree_tos: args.agree_tos,
        algorithm: args.algorithm.wire().into(),
    })
}

/// Runs one verb.
///
/// # Errors
/// What the vault or this machine says.
pub async fn run(context: &Context, verb: Account) -> Result<()> {
    let one = |account: v1::Account| output::one(context.format, &Shown::from(account));
    match &verb {
        Account::Deactivate { name } => {
            context.confirm(&format!("deactivate account {name} at its CA, for ever"))?;
        }
        Account::Deauthorize { name, .. } => {
            context.confirm(&format!("give up authorizations of account {name}"))?;
        }
        _ => {}
    }
    let register = match verb {
        Account::Register(args) => Ok(request(args)?),
        other => Err(other),
    };
    let mut accounts = context.client().await?.accounts();
    match register {
        Ok(request) => one(accounts.register_account(call(request)).await?.into_inner()),
        Err(Account::Show { name }) => {
            let request = v1::GetAccountRequest { name };
            one(accounts.get_account(call(request)).await?.into_inner())
        }
        Err(Account::Rollover { name, algorithm }) => {
            let algorithm = algorithm.map_or(v1::KeyAlgorithm::Unspecified, AlgorithmName::wire);
            let request = v1::RolloverAccountRequest { name, algorithm: algorithm.into() };
            one(accounts.rollover_account(call(request)).await?.into_inner())
        }
        Err(Account::Update(args)) => {
            let (name, contacts) = (args.name, args.contacts.contacts);
            let request = v1::UpdateAccountRequest { name, contacts };
            one(accounts.update_account(call(request)).await?.into_inner())
        }
        Err(Account::Agree { name }) => {
            let request = v1::AgreeAccountRequest { name };
            one(accounts.agree_account(call(request)).await?.into_inner())
        }
        Err(Account::Deauthorize { name, domains, ips }) => {
            let request = v1::DeauthorizeAccountRequest { name, domains, ips };
            let all = accounts.deauthorize_account(call(request)).await?.into_inner();
            let row = |d: v1::Deauthorized| Deauthorized { identifier: d.identifier, url: d.url };
            let rows: Vec<_> = all.deauthorized.into_iter().map(row).collect();
            if rows.is_empty() {
                output::note(
                    "nothing to do: the CA has no valid authorization of these names that the vault knows of",
                );
            }
            output::list(context.format, &rows)
        }
        Err(Account::Deactivate { name }) => {
            let request = v1::DeactivateAccountRequest { name };
            one(accounts.deactivate_account(call(request)).await?.into_inner())
        }
        Err(Account::List | Account::Register(_)) => {
            let all = accounts.list_accounts(call(v1::ListAccountsRequest {})).await?;
            let rows: Vec<_> = all.into_inner().accounts.into_iter().map(Shown::from).collect();
            output::list(context.format, &rows)
        }
    }
}
