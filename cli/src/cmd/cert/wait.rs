//! Waiting for a version to be issued and proven.

use std::time::Duration;

use tonic::Request;
use vault_proto::{error::ErrorKind, v1};

use super::Wait;
use crate::client::Client;
use crate::error::{Error, Result};

/// What a look at a certificate says of the version that is waited for.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Issued, and every agent has proven it.
    Done,
    /// Under way.
    NotYet,
    /// An attempt has failed, or an agent has refused it.
    Failed(String),
}

/// Watches until `version` is issued and proven on every agent; with no wish to wait, answers what
/// there is.
pub(super) async fn end(
    client: &Client,
    certificate: v1::Certificate,
    version: u64,
    wait: Wait,
) -> Result<v1::Certificate> {
    if !wait.wait {
        return Ok(certificate);
    }
    let subject = format!("certificate {}", certificate.name);
    let failures = certificate.failed_attempts;
    let watched = watch(client, certificate.name, version, failures);
    match tokio::time::timeout(wait.wait_timeout, watched).await {
        Ok(done) => done,
        Err(_) => Err(Error::new(
            ErrorKind::Unavailable,
            "wait",
            subject,
            format!("version {version} is not proven after {:?}", wait.wait_timeout),
        )
        .hint("the order goes on; `vaultctl cert show` says how far it has come")),
    }
}

async fn watch(
    client: &Client,
    name: String,
    version: u64,
    failures: u32,
) -> Result<v1::Certificate> {
    let subject = format!("certificate {name}");
    loop {
        let request = Request::new(v1::WatchCertificateRequest { name: name.clone() });
        let mut stream = client.certificates().watch_certificate(request).await?.into_inner();
        while let Some(now) = stream.message().await? {
            match judge(&now, version, failures) {
                Verdict::Done => return Ok(now),
                Verdict::NotYet => {}
                Verdict::Failed(why) => {
                    return Err(Error::new(ErrorKind::Conflict, "issue", subject, why).hint(
                        "what was served before stays; the vault tries again by itself, `vaultctl \
                         status` says when",
                    ));
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn judge(now: &v1::Certificate, version: u64, failures: u32) -> Verdict {
    if now.version < version {
        return match now.failed_attempts > failures {
            true => Verdict::Failed(now.last_error.clone()),
            false => Verdict::NotYet,
        };
    }
    if matches!(now.rollout_state.as_str(), "stopped" | "abandoned") {
        return Verdict::Failed(now.rollout_detail.clone());
    }
    for deployment in &now.deployments {
        if deployment.held_version >= now.version {
            continue;
        }
        if deployment.status == "failed" {
            let why = format!("agent {}: {}", deployment.agent, deployment.detail);
            return Verdict::Failed(why);
        }
        return Verdict::NotYet;
    }
    Verdict::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(version: u64, failed_attempts: u32, held: &[(u64, &str)]) -> v1::Certificate {
        let deployment = |(held_version, status): &(u64, &str)| v1::Deployment {
            held_version: *held_version,
            status: (*status).to_owned(),
            ..Default::default()
        };
        v1::Certificate {
            version,
            failed_attempts,
            deployments: held.iter().map(deployment).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn done_is_issued_and_proven_everywhere() {
        assert_eq!(judge(&certificate(1, 0, &[(1, "serving")]), 1, 0), Verdict::Done);
        assert_eq!(
            judge(&certificate(1, 0, &[(1, "serving"), (0, "pending")]), 1, 0),
            Verdict::NotYet
        );
        assert_eq!(judge(&certificate(0, 0, &[]), 1, 0), Verdict::NotYet);
        assert!(matches!(judge(&certificate(0, 1, &[]), 1, 0), Verdict::Failed(_)));
        assert!(matches!(judge(&certificate(2, 0, &[(1, "failed")]), 2, 0), Verdict::Failed(_)));
        for (state, verdict) in [
            ("running", Verdict::NotYet),
            ("stopped", Verdict::Failed("why".to_owned())),
            ("abandoned", Verdict::Failed("why".to_owned())),
        ] {
            let now = v1::Certificate {
                rollout_state: state.to_owned(),
                rollout_detail: "why".to_owned(),
                ..certificate(2, 0, &[(1, "serving"), (1, "serving")])
            };
            assert_eq!(judge(&now, 2, 0), verdict);
        }
    }
}
