//! From a configuration to a running agent.

use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::blocking;
use crate::challenge::Presenter;
use crate::config::Config;
use crate::desired::{Desired, Exchange};
use crate::durable;
use crate::error::{Error, ErrorKind, Result};
use crate::identity::Identity;
use crate::install::Installer;
use crate::keys;
use crate::signer::Signer;
use crate::subscribe::{self, Subscriber};
use crate::tls_alpn::Responder;

/// Reports that may wait for the stream.
const REPORTS: usize = 64;

/// Runs until `stop`.
///
/// # Errors
/// Where the agent is not enrolled, another one runs on the same state, or a listener cannot be
/// bound. A vault that is not there is no error: the agent waits for it.
pub async fn run(config: Config, stop: CancellationToken) -> Result<()> {
    durable::create_dir(&config.state_dir)?;
    let _lock = lock(&config)?;
    let state_dir = config.state_dir.clone();
    let identity = blocking(move || Identity::load(&state_dir)).await?;
    let presenter = Presenter::new(config.http01.as_ref(), &config.state_dir, stop.clone()).await?;
    let tls_alpn01 = match &config.tls_alpn01 {
        None => None,
        Some(tls_alpn01) => Some(Responder::new(tls_alpn01.listen, stop.clone()).await?),
    };
    let signer = match &config.signer {
        None => None,
        Some(signer) => {
            let addresses = config.vault.addresses.clone();
            let keys = config.signer_keys(signer);
            Some(Signer::new(signer, keys, identity.clone(), addresses).await?)
        }
    };
    let config = Arc::new(config);
    let (desired, desired_seen) = watch::channel(Desired::default());
    let (reports, reports_received) = mpsc::channel(REPORTS);
    let (channel, channel_seen) = watch::channel(None);
    let exchange = Exchange { desired: desired_seen, reports };
    let mut tasks = JoinSet::new();
    let listed = signer.as_ref().map_or_else(|| exchange.desired.clone(), Signer::listed);
    let install = Exchange { desired: listed, ..exchange.clone() };
    tasks.spawn(presenter.run(tls_alpn01, exchange.clone(), stop.clone()));
    if let Some(signer) = signer {
        tasks.spawn(signer.run(exchange.desired.clone(), stop.clone()));
    }
    tasks.spawn(Installer { config: config.clone() }.run(install, stop.clone()));
    tasks.spawn(keys::run(config.clone(), exchange, channel_seen.clone(), stop.clone()));
    tasks.spawn(subscribe::keep_identity(identity.clone(), channel_seen, stop.clone()));
    let subscriber = Subscriber {
        config,
        identity: identity.clone(),
        desired,
        reports: reports_received,
        channel,
    };
    tasks.spawn(subscriber.run(stop.clone()));
    tracing::info!(spiffe_id = identity.spiffe_id(), "running");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let ended = tasks.join_next().await;
    let by_itself = !stop.is_cancelled();
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    match ended {
        Some(Err(error)) => Err(Error::local("run", "the agent", error)),
        Some(Ok(())) if by_itself => Err(Error::local("run", "the agent", "a task has ended")),
        _ => Ok(()),
    }
}

/// Two agents on one state would undo each other's work.
fn lock(config: &Config) -> Result<std::fs::File> {
    let path = config.state_dir.join("lock");
    let subject = path.display().to_string();
    let file = std::fs::File::create(&path).map_err(|e| Error::local("open", &subject, e))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::new(ErrorKind::Conflict, "lock", &subject, "another agent runs on this state")
            .hint("end it, or give this one a state_dir of its own in agent.toml")
    })?;
    Ok(file)
}
