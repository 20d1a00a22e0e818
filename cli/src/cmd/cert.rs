//! `vaultctl cert`.

mod plan;
mod rollout;
mod rows;
mod update;
mod wait;

use std::time::Duration;

use clap::{Args, Subcommand};
use vault_proto::v1;

use self::rows::{Shown, Version};
use super::Context;
use crate::args::{AlgorithmName, ChallengeName, CustodyName, RevokedByName, TlsUseName};
use crate::client::call;
use crate::error::Result;
use crate::output;

/// Certificates.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Declares a certificate and orders it.
    #[command(after_help = "Example: vaultctl cert issue shop --account le --domain shop.example \
        --challenge http-01 --custody agent --deploy-to web1 --wait")]
    Issue(Issue),
    /// Lists certificates.
    #[command(after_help = "Example: vaultctl cert list")]
    List,
    /// Shows one certificate.
    #[command(after_help = "Example: vaultctl cert show shop -o json")]
    Show {
        /// The certificate's name.
        name: String,
    },
    /// Writes a certificate's chain to stdout, PEM, leaf first.
    #[command(after_help = "Example: vaultctl cert chain shop > shop.pem")]
    Chain {
        /// The certificate's name.
        name: String,
    },
    /// Lists every version that was issued, newest first.
    #[command(after_help = "Example: vaultctl cert history shop")]
    History {
        /// The certificate's name.
        name: String,
    },
    /// Changes settings of a certificate.
    ///
    /// What its key signs changes at once, the rest from the next order on.
    #[command(after_help = "Example: vaultctl cert update shop --tls-use tls13 --rotate-key true")]
    Update(update::Update),
    /// Shows what is going to be ordered in the coming days.
    #[command(after_help = "Example: vaultctl cert plan --days 30 --plot plan.svg")]
    Plan(plan::Plan),
    /// Orders a new version where one is due, or at once with --force.
    #[command(after_help = "Example: vaultctl cert renew shop --force --wait")]
    Renew {
        /// The certificate's name.
        name: String,
        /// Although it is not due, and whatever its maintenance windows say.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Revokes the version in force at the CA (RFC 8555 section 7.6).
    #[command(after_help = "Example: vaultctl cert revoke shop --reason superseded --yes")]
    Revoke {
        /// The certificate's name.
        name: String,
        /// unspecified, key-compromise, affiliation-changed, superseded or cessation-of-operation.
        #[arg(long)]
        reason: String,
        /// Who signs the request: `certificate-key` needs no account, and a key in the HSM.
        #[arg(long, value_enum, default_value_t = RevokedByName::Account)]
        by: RevokedByName,
        /// Order no new version at once. After cessation-of-operation none is ordered anyway; after
        /// key-compromise whatever is ordered is for a new key.
        #[arg(long)]
        no_replace: bool,
    },
    /// Forgets a certificate that is deployed nowhere, and destroys its HSM keys.
    #[command(after_help = "Example: vaultctl cert delete shop --yes")]
    Delete {
        /// The certificate's name.
        name: String,
    },
    /// Deploys a certificate to further agents.
    #[command(after_help = "Example: vaultctl cert deploy shop --to web2 --to web3")]
    Deploy {
        /// The certificate's name.
        name: String,
        /// An agent; may be repeated.
        #[arg(long = "to", value_name = "AGENT", required = true, num_args = 1..)]
        to: Vec<String>,
    },
    /// Stops deploying to agents; their files stay.
    #[command(after_help = "Example: vaultctl cert undeploy shop --from web2")]
    Undeploy {
        /// The certificate's name.
        name: String,
        /// An agent; may be repeated.
        #[arg(long = "from", value_name = "AGENT", required = true, num_args = 1..)]
        from: Vec<String>,
    },
    /// Shows how far a new version has come on its way to several agents.
    ///
    /// One of them, the canary, gets it first; the rest follows once it is proven there.
    #[command(after_help = "Example: vaultctl cert rollout shop --resume")]
    Rollout(rollout::Rollout),
}

/// What to issue.
#[derive(Debug, Args)]
pub struct Issue {
    /// The certificate's name.
    name: String,
    /// The ACME account.
    #[arg(long)]
    account: String,
    /// A DNS name; may be repeated.
    #[arg(long = "domain", value_name = "NAME", required_unless_present = "ips")]
    domains: Vec<String>,
    /// An IP address; may be repeated.
    #[arg(long = "ip", value_name = "ADDRESS")]
    ips: Vec<String>,
    /// How control of the names is proven.
    #[arg(long, value_enum)]
    challenge: ChallengeName,
    /// Who keeps the private key.
    #[arg(long, value_enum, default_value_t = CustodyName::Vault)]
    custody: CustodyName,
    /// The key's algorithm.
    #[arg(long, value_enum, default_value_t = AlgorithmName::EcP256)]
    algorithm: AlgorithmName,
    /// An ACME profile of the CA's; behind `issue` it may be written as --profile, too.
    #[arg(long, value_name = "P")]
    acme_profile: Option<String>,
    /// Ask for must-staple (RFC 7633).
    #[arg(long)]
    must_staple: bool,
    /// What its HSM key signs in handshakes: `tls13` and `message` see what they sign, `digest` is for
    /// the OpenSSL engine, which hands over nothing else.
    #[arg(long, value_enum, default_value_t = TlsUseName::Message)]
    tls_use: TlsUseName,
    /// Make a new HSM key for each renewal; not together with --tls-use digest.
    #[arg(long)]
    rotate_key: bool,
    /// Accounts of other CAs, tried in turn where --account's cannot issue; separated by commas.
    #[arg(long, value_name = "ACCOUNT", value_delimiter = ',')]
    fallback: Vec<String>,
    /// The issuer whose chain is taken where the CA offers several: the common name in the topmost
    /// certificate, or its SHA-256 fingerprint.
    #[arg(long, value_name = "ISSUER")]
    preferred_chain: Option<String>,
    /// A maintenance window, UTC, in which it is renewed, such as "Sat 02:00-04:00"; may be repeated.
    #[arg(long = "window", value_name = "WINDOW")]
    windows: Vec<String>,
    /// Which of several agents gets each new version first; unless set the vault chooses.
    #[arg(long, value_name = "AGENT")]
    canary: Option<String>,
    /// An agent that gets it; may be repeated.
    #[arg(long = "deploy-to", value_name = "AGENT", num_args = 1..)]
    deploy_to: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Whether to wait for the end.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait until it is issued and every agent has proven it; 1 where an attempt fails.
    #[arg(long)]
    wait: bool,
    /// How long to wait; 6 where that is over.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "5m")]
    wait_timeout: Duration,
}

fn issue_request(args: Issue) -> v1::IssueCertificateRequest {
    v1::IssueCertificateRequest {
        name: args.name,
        account: args.account,
        domains: args.domains,
        ips: args.ips,
        challenge: args.challenge.as_str().to_owned(),
        custody: args.custody.wire().into(),
        algorithm: args.algorithm.wire().into(),
        profile: args.acme_profile.unwrap_or_default(),
        deploy_to: args.deploy_to,
        must_staple: args.must_staple,
        tls_use: args.tls_use.as_str().to_owned(),
        rotate_key: args.rotate_key,
        fallback: args.fallback,
        preferred_chain: args.preferred_chain.unwrap_or_default(),
        windows: args.windows,
        canary: args.canary.unwrap_or_default(),
    }
}

/// Runs one verb.
///
/// # Errors
/// What the vault says, and where the wait ends without a proof.
pub async fn run(context: &Context, verb: Cert) -> Result<()> {
    match &verb {
        Cert::Revoke { name, .. } => context.confirm(&format!("revoke certificate {name}"))?,
        Cert::Delete { name } => {
            context.confirm(&format!("forget certificate {name} and destroy its keys"))?;
        }
        _ => {}
    }
    let client = context.client().await?;
    let mut certificates = client.certificates();
    let certificate = match verb {
        Cert::List => {
            let all = certificates.list_certificates(call(v1::ListCertificatesRequest {})).await?;
            let all = all.into_inner().certificates;
            let rows: Vec<_> = all.into_iter().map(Shown::from).collect();
            return output::list(context.format, &rows);
        }
        Cert::History { name } => {
            let request = v1::CertificateHistoryRequest { name };
            let all = certificates.certificate_history(call(request)).await?.into_inner();
            let rows: Vec<_> = all.versions.into_iter().map(Version::from).collect();
            return output::list(context.format, &rows);
        }
        Cert::Plan(args) => return plan::run(context, &client, args).await,
        Cert::Chain { name } => {
            let request = v1::GetCertificateRequest { name };
            let found = certificates.get_certificate(call(request)).await?.into_inner();
            return chain(&found);
        }
        Cert::Delete { name } => {
            let request = v1::DeleteCertificateRequest { name };
            certificates.delete_certificate(call(request)).await?;
            return Ok(());
        }
        Cert::Rollout(args) => return rollout::run(context, &client, args).await,
        Cert::Issue(args) => {
            let wait = args.wait;
            let issued = certificates.issue_certificate(call(issue_request(args))).await?;
            wait::end(&client, issued.into_inner(), 1, wait).await?
        }
        Cert::Update(args) => {
            certificates.update_certificate(call(args.request())).await?.into_inner()
        }
        Cert::Renew { name, force, wait } => renew(&client, name, force, wait).await?,
        Cert::Show { name } => certificates
            .get_certificate(call(v1::GetCertificateRequest { name }))
            .await?
            .into_inner(),
        Cert::Revoke { name, reason, by, no_replace } => {
            let by = by.wire().to_owned();
            let request = v1::RevokeCertificateRequest { name, reason, by, no_replace };
            certificates.revoke_certificate(call(request)).await?.into_inner()
        }
        Cert::Deploy { name, to } => {
            let request = v1::DeployCertificateRequest { name, agents: to };
            certificates.deploy_certificate(call(request)).await?.into_inner()
        }
        Cert::Undeploy { name, from } => {
            let request = v1::UndeployCertificateRequest { name, agents: from };
            certificates.undeploy_certificate(call(request)).await?.into_inner()
        }
    };
    output::one(context.format, &Shown::from(certificate))
}

fn chain(certificate: &v1::Certificate) -> Result<()> {
    use crate::error::Error;
    use vault_proto::error::ErrorKind;
    if certificate.chain_pem.is_empty() {
        let subject = format!("certificate {}", certificate.name);
        let why = "no version was issued yet";
        return Err(Error::new(ErrorKind::NotFound, "show the chain", subject, why)
            .hint("`vaultctl cert show` says how far its order has come"));
    }
    output::text(&certificate.chain_pem)
}

async fn renew(
    client: &crate::client::Client,
    name: String,
    force: bool,
    wait: Wait,
) -> Result<v1::Certificate> {
    let mut certificates = client.certificates();
    let request = v1::GetCertificateRequest { name: name.clone() };
    let before = certificates.get_certificate(call(request)).await?.into_inner();
    let request = v1::RenewCertificateRequest { name, force };
    let renewed = certificates.renew_certificate(call(request)).await?.into_inner();
    if renewed.progress == "idle" && renewed.version == before.version {
        let at = output::short(&output::time(renewed.renew_at));
        output::note(&format!("nothing to do: it is due at {at}; --force orders it now"));
        return Ok(renewed);
    }
    wait::end(client, renewed, before.version + 1, wait).await
}
