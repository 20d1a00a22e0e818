//! `vaultctl csr`.

use std::path::PathBuf;

use clap::Subcommand;
use vault_proto::v1;

use super::Context;
use crate::client::call;
use crate::error::Result;
use crate::files;

/// PKCS#10 requests (RFC 2986).
#[derive(Debug, Subcommand)]
pub enum Csr {
    /// Builds a request and signs it in the HSM.
    #[command(
        after_help = "Example: vaultctl csr create --key shop --domain shop.example --out shop.csr"
    )]
    Create {
        /// The key's name.
        #[arg(long)]
        key: String,
        /// A DNS name; may be repeated.
        #[arg(long = "domain", value_name = "NAME", required_unless_present = "ips")]
        domains: Vec<String>,
        /// An IP address; may be repeated.
        #[arg(long = "ip", value_name = "ADDRESS")]
        ips: Vec<String>,
        /// Ask for must-staple (RFC 7633).
        #[arg(long)]
        must_staple: bool,
        /// Where the request goes, PEM; `-` for stdout.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Runs one verb.
///
/// # Errors
/// What the vault or this machine says.
pub async fn run(context: &Context, verb: Csr) -> Result<()> {
    let Csr::Create { key, domains, ips, must_staple, out } = verb;
    let mut keys = context.client().await?.keys();
    let request = v1::CreateCsrRequest { key, domains, ips, must_staple };
    let made = keys.create_csr(call(request)).await?.into_inner();
    files::write(&out, made.csr_pem.as_bytes())
}
