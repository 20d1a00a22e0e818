//! What `cert update` may change.

use clap::{Args, builder::NonEmptyStringValueParser};
use vault_proto::v1;

use crate::args::{ChallengeName, TlsUseName};

/// What to change of which certificate.
#[derive(Debug, Args)]
pub struct Update {
    /// The certificate's name.
    name: String,
    #[command(flatten)]
    changes: Changes,
}

/// At least one; what is not named stays.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// What its HSM key signs in handshakes, at once: `tls13` and `message` see what they sign, `digest`
    /// is for the OpenSSL engine, which hands over nothing else.
    #[arg(long, value_enum)]
    tls_use: Option<TlsUseName>,
    /// Whether to make a new HSM key for each renewal; not together with --tls-use digest.
    #[arg(long)]
    rotate_key: Option<bool>,
    /// An ACME profile of the CA's; behind `update` it may be written as --profile, too.
    #[arg(long, value_name = "P", value_parser = NonEmptyStringValueParser::new())]
    acme_profile: Option<String>,
    /// Take the CA's default profile.
    #[arg(long, conflicts_with = "acme_profile")]
    no_profile: bool,
    /// Accounts of other CAs, tried in turn where its own cannot issue; separated by commas.
    #[arg(long, value_name = "ACCOUNT", value_delimiter = ',', num_args = 1..)]
    fallback: Option<Vec<String>>,
    /// Ask no other CA.
    #[arg(long, conflicts_with = "fallback")]
    no_fallback: bool,
    /// The issuer whose chain is taken where the CA offers several: the common name in the topmost
    /// certificate, or its SHA-256 fingerprint.
    #[arg(long, value_name = "ISSUER", value_parser = NonEmptyStringValueParser::new())]
    preferred_chain: Option<String>,
    /// Take the CA's default chain.
    #[arg(long, conflicts_with = "preferred_chain")]
    no_preferred_chain: bool,
    /// Which of several agents gets each new version first, from the next one on.
    #[arg(long, value_name = "AGENT", value_parser = NonEmptyStringValueParser::new())]
    canary: Option<String>,
    /// Let the vault choose it.
    #[arg(long, conflicts_with = "canary")]
    no_canary: bool,
    /// How control of the names is proven.
    #[arg(long, value_enum)]
    challenge: Option<ChallengeName>,
    /// A maintenance window, UTC, in which it is replaced, such as "Sat 02:00-04:00"; may be repeated.
    #[arg(long, value_name = "WINDOW")]
    window: Option<Vec<String>>,
    /// Replace it at any time.
    #[arg(long, conflicts_with = "window")]
    no_window: bool,
}

impl Update {
    /// As the vault's messages have it.
    pub(super) fn request(self) -> v1::UpdateCertificateRequest {
        let Changes {
            tls_use,
            rotate_key,
            acme_profile,
            no_profile,
            fallback,
            no_fallback,
            preferred_chain,
            no_preferred_chain,
            canary,
            no_canary,
            challenge,
            window,
            no_window,
        } = self.changes;
        let windows = if no_window { Some(Vec::new()) } else { window };
        let fallback = if no_fallback { Some(Vec::new()) } else { fallback };
        v1::UpdateCertificateRequest {
            name: self.name,
            challenge: challenge.map(|challenge| challenge.as_str().to_owned()),
            profile: if no_profile { Some(String::new()) } else { acme_profile },
            tls_use: tls_use.map(|tls_use| tls_use.as_str().to_owned()),
            rotate_key,
            fallback: fallback.map(|names| v1::AccountList { names }),
            preferred_chain: if no_preferred_chain { Some(String::new()) } else { preferred_chain },
            windows: windows.map(|windows| v1::WindowList { windows }),
            canary: if no_canary { Some(String::new()) } else { canary },
        }
    }
}
