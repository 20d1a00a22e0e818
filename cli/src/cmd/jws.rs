//! `vaultctl jws`.

use std::path::PathBuf;

use clap::Subcommand;
use vault_proto::v1;

use super::Context;
use crate::client::call;
use crate::error::Result;
use crate::{files, output};

/// ACME requests (RFC 8555 section 6.2).
#[derive(Debug, Subcommand)]
pub enum Jws {
    /// Signs a payload with an account's key; flattened JSON on stdout.
    #[command(
        after_help = "Example: vaultctl jws sign --account le --url https://ca.example/acme/order \
        --nonce 5qa... --payload order.json"
    )]
    Sign {
        /// The account's name.
        #[arg(long)]
        account: String,
        /// The `url` header.
        #[arg(long)]
        url: String,
        /// The `nonce` header. A CA's nonces may begin with a hyphen: base64url has one.
        #[arg(long, allow_hyphen_values = true)]
        nonce: Option<String>,
        /// The payload; an empty file makes a POST-as-GET.
        #[arg(long, value_name = "FILE")]
        payload: PathBuf,
    },
}

/// Runs one verb.
///
/// # Errors
/// What the vault or this machine says.
pub async fn run(context: &Context, verb: Jws) -> Result<()> {
    let Jws::Sign { account, url, nonce, payload } = verb;
    let payload = files::read(&payload)?;
    let mut keys = context.client().await?.keys();
    let request = v1::SignJwsRequest { account, url, nonce: nonce.unwrap_or_default(), payload };
    let signed = keys.sign_jws(call(request)).await?.into_inner();
    output::text(&format!("{}\n", signed.jws_json))
}
