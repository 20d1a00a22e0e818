//! Serving: the admin socket always, the network once there is a vault; health, the vault's own
//! certificate, renewals; and the drain.

use std::{sync::Arc, time::Duration};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::{
    Ending, Parts,
    ceremony::{Ceremony, Handover},
    restore::Restoring,
    rooms::Opened,
};
use crate::api::{AdminSocket, Context, Rooms, ServerIdentity, TlsListener, TlsSigning, router};
use crate::error::{Error, Result};

/// How often the HSM is asked whether it is there, for gRPC health.
const HEALTH: Duration = Duration::from_secs(10);
/// How soon a failed renewal of the vault's own certificate is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// A vault on its way to serve.
pub(super) struct Server {
    parts: Parts,
    context: Arc<Context>,
    tasks: JoinSet<Result<()>>,
    /// Ends what serves; the drain waits for `tasks`.
    stop: CancellationToken,
    /// This is to begin anew, as the vault that was restored.
    anew: CancellationToken,
}

impl Server {
    pub(super) fn new(parts: Parts, context: Arc<Context>) -> Self {
        let stop = context.stopping.clone();
        let anew = CancellationToken::new();
        Self { parts, context, tasks: JoinSet::new(), stop, anew }
    }

    pub(super) async fn run_initialized(
        mut self,
        opened: Opened,
        stop: CancellationToken,
    ) -> Result<()> {
        let (reporter, health) = tonic_health::server::health_reporter();
        // What may be taken or missing comes first: nothing is signed for a start that fails.
        let admin = self.bind_admin().await?;
        self.serve_network(opened, &reporter, health.clone()).await?;
        self.serve_admin(admin, health)?;
        let (_, none) = mpsc::channel(1);
        self.attend(none, reporter, stop).await
    }

    pub(super) async fn run_uninitialized(mut self, stop: CancellationToken) -> Result<Ending> {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", ServingStatus::NotServing).await;
        let (sender, receiver) = mpsc::channel(1);
        let (done, anew) = (Arc::default(), self.anew.clone());
        let ceremony = Ceremony::new(self.parts.clone(), Arc::clone(&done), sender);
        let _ = self.context.initializer.set(Arc::new(ceremony));
        let restoring = Restoring::new(self.parts.clone(), done, anew.clone());
        let _ = self.context.restorer.set(Arc::new(restoring));
        let admin = self.bind_admin().await?;
        self.serve_admin(admin, health)?;
        tracing::info!(
            "not initialised: serving the admin socket only, until `vaultctl init` or \
             `vaultctl backup restore`"
        );
        self.attend(receiver, reporter, stop).await?;
        Ok(if anew.is_cancelled() { Ending::Anew } else { Ending::Stopped })
    }

    /// Until `stop`: takes over the vault that a ceremony has made, notices what ends by itself.
    async fn attend(
        mut self,
        mut made: mpsc::Receiver<Handover>,
        reporter: HealthReporter,
        stop: CancellationToken,
    ) -> Result<()> {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.anew.cancelled() => break,
                Some((opened, ready)) = made.recv() => {
                    let health = HealthService::from_health_reporter(reporter.clone());
                    let health = HealthServer::new(health);
                    if let Err(error) = self.serve_network(opened, &reporter, health).await {
                        // The vault is made: its ceremony's answer still goes out.
                        drop(ready);
                        self.drain().await;
                        return Err(error);
                    }
                    let _ = ready.send(());
                }
                Some(ended) = self.tasks.join_next() => {
                    let ended = ended.map_err(|e| Error::internal("serve", "this vault", e));
                    ended??;
                    return Err(Error::internal("serve", "this vault", "a server ended by itself"));
                }
            }
        }
        self.drain().await;
        Ok(())
    }

    /// Lets calls under way end, ends streams, and stops.
    async fn drain(mut self) {
        tracing::info!("draining");
        let _ = sd_notify::notify(&[match self.anew.is_cancelled() {
            true => sd_notify::NotifyState::Reloading,
            false => sd_notify::NotifyState::Stopping,
        }]);
        self.stop.cancel();
        self.context.calls.close();
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            self.context.calls.wait().await;
        };
        if tokio::time::timeout(self.parts.config.listen.drain, ended).await.is_err() {
            tracing::warn!("calls were still under way at the end of the drain");
        }
    }

    async fn bind_admin(&self) -> Result<AdminSocket> {
        let path = &self.parts.config.listen.admin_socket;
        let socket = AdminSocket::bind(path).await?;
        tracing::info!(socket = %path.display(), "admin socket");
        Ok(socket)
    }

    fn serve_admin<H>(&mut self, socket: AdminSocket, health: H) -> Result<()>
    where
        H: Health,
        H::Future: Send + 'static,
    {
        let (router, stop) = (router(&self.context, health)?, self.stop.clone());
        self.tasks.spawn(async move {
            let served =
                router.serve_with_incoming_shutdown(socket.incoming(), stop.cancelled_owned());
            served.await.map_err(|e| Error::internal("serve", "the admin socket", e))
        });
        Ok(())
    }

    async fn serve_network<H>(
        &mut self,
        opened: Opened,
        reporter: &HealthReporter,
        health: H,
    ) -> Result<()>
    where
        H: Health,
        H::Future: Send + 'static,
    {
        let identity = Arc::new(ServerIdentity::default());
        let rooms = Arc::new(opened.rooms);
        let address = self.parts.config.listen.address;
        let root = rooms.identities.root_der().to_vec();
        let listener = TlsListener::bind(address, identity.clone(), root).await?;
        let lifetime = self.parts.config.listen.server_certificate_lifetime;
        renew_server_identity(&rooms, &identity, lifetime).await?;
        let _ = self.context.rooms.set(rooms.clone());
        let (router, stop) = (router(&self.context, health)?, self.stop.clone());
        let signing = TlsSigning::new(self.context.clone(), self.parts.config.hsm.workers);
        let incoming = listener.incoming(signing);
        self.tasks.spawn(async move {
            let served = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
            served.await.map_err(|e| Error::internal("serve", "the network", e))
        });
        self.tasks.spawn(keep_server_identity(
            rooms.clone(),
            identity,
            lifetime,
            self.stop.clone(),
        ));
        self.tasks.spawn(keep_backups(rooms.clone(), self.stop.clone()));
        let (rollouts, stop) = (rooms.rollouts.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            rollouts.run(stop).await;
            Ok(())
        });
        self.tasks.spawn(watch_health(rooms, reporter.clone(), self.stop.clone()));
        if let Some(dns) = opened.dns {
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                dns.run(stop).await;
                Ok(())
            });
        }
        let (revocation, stop) = (opened.revocation, self.stop.clone());
        self.tasks.spawn(async move {
            revocation.run(stop).await;
            Ok(())
        });
        let (runner, stop) = (opened.runner, self.stop.clone());
        self.tasks.spawn(async move {
            runner.run(stop).await;
            Ok(())
        });
        tracing::info!(%address, "serving");
        Ok(())
    }
}

/// A gRPC health service, whichever way it was made.
pub(super) trait Health:
    tower::Service<
        http::Request<tonic::body::Body>,
        Response = http::Response<tonic::body::Body>,
        Error = std::convert::Infallible,
    > + tonic::server::NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Health for T where
    T: tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A new key, which lives in memory only, and a certificate for it.
async fn renew_server_identity(
    rooms: &Rooms,
    identity: &ServerIdentity,
    lifetime: Duration,
) -> Result<()> {
    use rcgen::PublicKeyData as _;
    let failed = |e: rcgen::Error| Error::internal("generate", "the server's key", e);
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let lifetime = time::Duration::try_from(lifetime)
        .map_err(|e| Error::invalid("read", "[listen] server_certificate_lifetime", e))?;
    let issued = rooms.identities.issue_server(&key.subject_public_key_info(), lifetime).await?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    identity.replace(issued.der, rooms.identities.root_der().to_vec(), key)
}

/// Replaces the vault's own certificate at half its lifetime; what failed is tried again while the
/// present one still serves.
async fn keep_server_identity(
    rooms: Arc<Rooms>,
    identity: Arc<ServerIdentity>,
    lifetime: Duration,
    stop: CancellationToken,
) -> Result<()> {
    let mut pause = lifetime / 2;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = match renew_server_identity(&rooms, &identity, lifetime).await {
            Ok(()) => lifetime / 2,
            Err(error) => {
                tracing::error!(%error, "the vault's own certificate was not renewed");
                RETRY.min(lifetime / 8)
            }
        };
    }
}

/// Makes backups by schedule.
async fn keep_backups(rooms: Arc<Rooms>, stop: CancellationToken) -> Result<()> {
    rooms.keeper.run(stop.clone()).await;
    // Where there is no schedule, that is no end of this vault.
    stop.cancelled().await;
    Ok(())
}

/// Tells gRPC health whether the HSM and the audit log do their part.
async fn watch_health(
    rooms: Arc<Rooms>,
    reporter: HealthReporter,
    stop: CancellationToken,
) -> Result<()> {
    loop {
        let status = match rooms.signing.healthy().await {
            Ok(()) => ServingStatus::Serving,
            Err(error) => {
                tracing::warn!(%error, "not healthy");
                ServingStatus::NotServing
            }
        };
        reporter.set_service_status("", status).await;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(HEALTH) => {}
        }
    }
}
