//! Joining a vault: a one-time token and the fingerprint of its root are all that is known.

use std::{fs, path::Path, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tonic::Request;
use vault_proto::v1::{self, agent_session_service_client::AgentSessionServiceClient};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::connect::{self, Fingerprint};
use crate::durable;
use crate::error::{Error, ErrorKind, Result};
use crate::identity::{Candidate, Identity};

/// How long the vault may take to answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Reads a token file; a newline at its end is not part of the token.
///
/// # Errors
/// `Invalid` where it cannot be read or is empty.
pub fn read_token(path: &Path) -> Result<SecretString> {
    let bad = |why: String| {
        Error::invalid("read", format!("token file {}", path.display()), why)
            .hint("it must hold what `vaultctl agent token` has printed")
    };
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|e| bad(e.to_string()))?;
    match text.trim() {
        "" => Err(bad("it is empty".to_owned())),
        token => Ok(SecretString::from(token)),
    }
}

/// Enrols and stores the identity; answers the SPIFFE id.
///
/// # Errors
/// `Conflict` where the agent is enrolled and `replace` is not set, `Verification` where the
/// server is not the pinned vault, `Denied` where the token does not count: then nothing changed.
pub async fn enroll(
    config: &Config,
    vault: &str,
    fingerprint: Fingerprint,
    token: &SecretString,
    replace: bool,
) -> Result<String> {
    durable::create_dir(&config.state_dir)?;
    if Identity::exists(&config.state_dir) && !replace {
        let subject = config.state_dir.display().to_string();
        let why = "this agent is enrolled already";
        return Err(Error::new(ErrorKind::Conflict, "enrol", subject, why)
            .hint("pass --replace to give it a new identity"));
    }
    let candidate = Candidate::new()?;
    let channel = connect::open(vault, connect::pinned(fingerprint)?).await?;
    let mut request = Request::new(v1::EnrollRequest {
        token: token.expose_secret().to_owned(),
        csr_der: candidate.csr_der.clone(),
    });
    request.set_timeout(DEADLINE);
    let answer = AgentSessionServiceClient::new(channel).enroll(request).await?.into_inner();
    Identity::store(&config.state_dir, &candidate, &answer)?;
    Ok(answer.spiffe_id)
}
