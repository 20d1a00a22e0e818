//! `vaultctl operator`: client certificates for people and programs. The key is made here and never
//! sent.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use vault_proto::v1;
use zeroize::Zeroizing;

use super::Context;
use crate::client::call;
use crate::error::{Error, Result};
use crate::{files, output};

/// Operators and auditors.
#[derive(Debug, Subcommand)]
pub enum Operator {
    /// Makes a key here and has the vault certify it; writes key.pem, cert.pem, ca.pem.
    #[command(after_help = "Example: vaultctl operator issue ada --role auditor --out ./ada")]
    Issue {
        /// The person's or program's name.
        name: String,
        /// What it may do.
        #[arg(long, value_enum, default_value_t = Role::Operator)]
        role: Role,
        /// The directory for the files; created 0700.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Roles that can be given.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// May change things.
    Operator,
    /// May look and verify.
    Auditor,
}

/// A key and the request to certify it.
pub struct Candidate {
    key_pem: Zeroizing<String>,
    /// PKCS#10, DER.
    pub csr_der: Vec<u8>,
}

#[derive(Serialize)]
struct Issued {
    spiffe_id: String,
    not_after: Option<String>,
    key: String,
    cert: String,
    ca: String,
}

impl Candidate {
    /// A P-256 key; the vault ignores the request's names.
    ///
    /// # Errors
    /// Where there are no random numbers.
    pub fn new() -> Result<Self> {
        let failed = |e: rcgen::Error| Error::local("generate", "a key", e);
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let params = rcgen::CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        let csr_der = params.serialize_request(&key).map_err(failed)?.der().to_vec();
        Ok(Self { key_pem: Zeroizing::new(key.serialize_pem()), csr_der })
    }

    /// Writes the key, before anything is asked of the vault: a certificate without its key is
    /// worth nothing.
    ///
    /// # Errors
    /// Where a file exists or cannot be written.
    pub fn keep(&self, dir: &Path) -> Result<()> {
        files::create_secret_dir(dir)?;
        for name in ["key.pem", "cert.pem", "ca.pem"] {
            files::check_new(&dir.join(name))?;
        }
        files::write_new(&dir.join("key.pem"), self.key_pem.as_bytes(), 0o600)
    }
}

/// Removes the key of a certificate that was refused.
pub fn discard(dir: &Path) {
    let _ = std::fs::remove_file(dir.join("key.pem"));
}

/// Writes the certificate beside its key.
///
/// # Errors
/// Where a file exists or cannot be written.
pub fn complete(dir: &Path, issued: &v1::IssueIdentityResponse) -> Result<()> {
    files::write_new(&dir.join("cert.pem"), issued.chain_pem.as_bytes(), 0o644)?;
    files::write_new(&dir.join("ca.pem"), issued.ca_pem.as_bytes(), 0o644)
}

/// A profile for the configuration file.
pub fn profile(name: &str, dir: &Path) -> String {
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let file = |name: &str| dir.join(name).display().to_string();
    format!(
        "[profile.{name}]\naddress = \"HOST:PORT\"\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    )
}

/// Runs one verb.
///
/// # Errors
/// What the vault or this machine says.
pub async fn run(context: &Context, verb: Operator) -> Result<()> {
    let Operator::Issue { name, role, out } = verb;
    let role = match role {
        Role::Operator => "operator",
        Role::Auditor => "auditor",
    };
    let mut system = context.client().await?.system();
    let candidate = Candidate::new()?;
    candidate.keep(&out)?;
    let request = v1::IssueIdentityRequest {
        name: name.clone(),
        role: role.to_owned(),
        csr_der: candidate.csr_der.clone(),
    };
    let issued = match system.issue_identity(call(request)).await {
        Ok(issued) => issued.into_inner(),
        Err(status) => {
            discard(&out);
            return Err(status.into());
        }
    };
    complete(&out, &issued)?;
    output::note(&format!(
        "a profile for ~/.config/vaultctl/config.toml:\n{}",
        profile(&name, &out)
    ));
    let file = |name: &str| out.join(name).display().to_string();
    let shown = Issued {
        not_after: output::time(issued.not_after),
        spiffe_id: issued.spiffe_id,
        key: file("key.pem"),
        cert: file("cert.pem"),
        ca: file("ca.pem"),
    };
    output::one(context.format, &shown)
}
