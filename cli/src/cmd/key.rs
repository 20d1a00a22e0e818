//! `vaultctl key`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Subcommand;
use serde::Serialize;
use vault_proto::v1;

use super::Context;
use crate::args::{AlgorithmName, EscrowName, label};
use crate::client::call;
use crate::error::{Error, Result};
use crate::files;
use crate::output::{self, Row};

/// Keys in the HSM.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Generates a key pair in the HSM.
    #[command(after_help = "Example: vaultctl key generate code-signing --algorithm ec-p384")]
    Generate {
        /// The key's name.
        name: String,
        /// Its algorithm.
        #[arg(long, value_enum)]
        algorithm: AlgorithmName,
        /// Whether it can be in a backup [default: wrapped where the vault has a KEK].
        #[arg(long, value_enum)]
        escrow: Option<EscrowName>,
        /// A label; may be repeated.
        #[arg(long = "label", value_name = "K=V", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Lists keys.
    #[command(after_help = "Example: vaultctl key list -o json")]
    List,
    /// Shows one key.
    #[command(after_help = "Example: vaultctl key show code-signing")]
    Show {
        /// The key's name.
        name: String,
    },
    /// Writes a public key to stdout, SubjectPublicKeyInfo as PEM.
    #[command(after_help = "Example: vaultctl key public code-signing > public.pem")]
    Public {
        /// The key's name.
        name: String,
    },
    /// Generates the next version of a key; the present one is retired.
    #[command(after_help = "Example: vaultctl key rotate code-signing")]
    Rotate {
        /// The key's name.
        name: String,
    },
    /// Destroys every version of a key in the HSM, for ever.
    #[command(after_help = "Example: vaultctl key destroy code-signing --yes")]
    Destroy {
        /// The key's name.
        name: String,
    },
    /// Signs a file.
    #[command(after_help = "Example: vaultctl key sign code-signing --input release.tar \
        --mechanism ecdsa-sha384 --signature release.sig")]
    Sign {
        /// The key's name.
        name: String,
        /// What to sign; `-` for stdin. The vault hashes it.
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// For example ecdsa-sha256, rsa-pss-sha256, rsa-pkcs1-sha256, ed25519.
        #[arg(long)]
        mechanism: String,
        /// Where the signature goes; ECDSA as DER.
        #[arg(long, value_name = "FILE")]
        signature: PathBuf,
    },
}

#[derive(Serialize)]
struct Shown {
    name: String,
    id: String,
    version: u64,
    algorithm: &'static str,
    purpose: String,
    escrow: &'static str,
    state: String,
    created_at: Option<String>,
    labels: BTreeMap<String, String>,
    public_key_pem: String,
}

impl Row for Shown {
    const HEADER: &'static [&'static str] =
        &["NAME", "VERSION", "ALGORITHM", "PURPOSE", "ESCROW", "STATE", "CREATED", "ID"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.version.to_string(),
            self.algorithm.to_owned(),
            self.purpose.clone(),
            self.escrow.to_owned(),
            self.state.clone(),
            output::short(&self.created_at),
            self.id.clone(),
        ]
    }
}

fn pem(der: &[u8]) -> Result<String> {
    use der::pem::{LineEnding, encode_string};
    encode_string("PUBLIC KEY", LineEnding::LF, der)
        .map_err(|e| Error::local("encode", "the public key", e))
}

fn shown(key: v1::Key) -> Result<Shown> {
    Ok(Shown {
        algorithm: output::algorithm(key.algorithm()),
        escrow: output::escrow(key.escrow()),
        created_at: output::time(key.created_at),
        public_key_pem: pem(&key.public_key_der)?,
        name: key.name,
        id: key.id,
        version: key.version,
        purpose: key.purpose,
        state: key.state,
        labels: key.labels.into_iter().collect(),
    })
}

/// Runs one verb.
///
/// # Errors
/// What the vault or this machine says.
pub async fn run(context: &Context, verb: Key) -> Result<()> {
    let one = |key: v1::Key| output::one(context.format, &shown(key)?);
    match verb {
        Key::Generate { name, algorithm, escrow, labels } => {
            let request = v1::GenerateKeyRequest {
                name,
                algorithm: algorithm.wire().into(),
                escrow: escrow.map_or(v1::Escrow::Unspecified, EscrowName::wire).into(),
                labels: labels.into_iter().collect(),
            };
            let mut keys = context.client().await?.keys();
            one(keys.generate_key(call(request)).await?.into_inner())
        }
        Key::List => {
            let mut keys = context.client().await?.keys();
            let all = keys.list_keys(call(v1::ListKeysRequest {})).await?.into_inner().keys;
            let rows: Result<Vec<_>> = all.into_iter().map(shown).collect();
            output::list(context.format, &rows?)
        }
        Key::Show { name } => one(get(context, name).await?),
        Key::Public { name } => {
            let key = shown(get(context, name).await?)?;
            output::text(&key.public_key_pem)
        }
        Key::Rotate { name } => {
            let mut keys = context.client().await?.keys();
            one(keys.rotate_key(call(v1::RotateKeyRequest { name })).await?.into_inner())
        }
        Key::Destroy { name } => {
            context.confirm(&format!("destroy every version of key {name}, for ever"))?;
            let mut keys = context.client().await?.keys();
            one(keys.destroy_key(call(v1::DestroyKeyRequest { name })).await?.into_inner())
        }
        Key::Sign { name, input, mechanism, signature } => {
            let message = files::read(&input)?;
            let mut keys = context.client().await?.keys();
            let request = v1::SignRequest { name, mechanism, message };
            let signed = keys.sign(call(request)).await?.into_inner();
            files::write(&signature, &signed.signature)
        }
    }
}

async fn get(context: &Context, name: String) -> Result<v1::Key> {
    let mut keys = context.client().await?.keys();
    Ok(keys.get_key(call(v1::GetKeyRequest { name })).await?.into_inner())
}
