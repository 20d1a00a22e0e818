//! Installing chains: files exchanged atomically, the web server reloaded by the agent's own
//! commands, the new leaf seen in a handshake; else everything as it was.
//!
//! Level-triggered: what is wanted is compared with what is held whenever either may have changed,
//! so that a missed message, a restart or a repaired configuration all lead to the same place. What was in
//! place is looked at again once an hour.

mod owner;
mod standing;
pub mod staple;
pub mod target;
pub mod transaction;
mod verify;

pub use owner::user;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vault_proto::v1::{self, Custody, resource_report::Resource};

use standing::Standing;
use transaction::{Files, Held, Interrupted, Keeper};
use verify::Chain;

use crate::config::{Config, Install};
use crate::desired::{Exchange, Report};
use crate::error::{Error, Result};
use crate::signer::uri;
use crate::{blocking, command, prove};

/// Installs what is wanted.
pub struct Installer {
    /// Where, and with which commands.
    pub config: Arc<Config>,
}

/// How often the files of everything that is wanted are looked at, whether or not anything is new.
const LOOK_AT_ALL: Duration = Duration::from_secs(3600);

impl Installer {
    /// Follows the desired state until `stop`; what a crash left open is settled first.
    pub async fn run(self, mut exchange: Exchange, stop: CancellationToken) {
        for install in &self.config.install {
            if let Err(error) = self.settle(install).await {
                tracing::error!(certificate = %install.certificate, %error,
                    "an interrupted installation was not settled");
            }
        }
        let mut standings: BTreeMap<String, Standing> = BTreeMap::new();
        let (mut seen, mut all_at) = (0, Instant::now() + LOOK_AT_ALL);
        loop {
            let now = Instant::now();
            let desired = exchange.desired.borrow_and_update().clone();
            for (name, wanted) in desired.certificates.since(seen) {
                match (wanted.filter(|wanted| wanted.version > 0), standings.get_mut(name)) {
                    (Some(wanted), Some(standing)) => standing.want(wanted.clone()),
                    (Some(wanted), None) => {
                        standings.insert(name.to_owned(), Standing::new(wanted.clone()));
                    }
                    (None, _) => drop(standings.remove(name)),
                }
            }
            seen = desired.certificates.revision();
            if now >= all_at {
                all_at = now + LOOK_AT_ALL;
                standings.values_mut().for_each(Standing::unsettle);
            }
            let connection = desired.connection;
            for standing in standings.values_mut().filter(|one| !one.rests(connection, now)) {
                let Some(report) = self.look(standing, connection).await else { continue };
                let report = Report { connection, report };
                if exchange.reports.send(report).await.is_err() {
                    return;
                }
            }
            let next = standings.values().filter_map(Standing::again_at).min();
            let next = next.map_or(all_at, |again| again.min(all_at));
            tokio::select! {
                () = stop.cancelled() => return,
                changed = exchange.desired.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Brings one certificate to where it is wanted; a report where there is something to say.
    async fn look(&self, standing: &mut Standing, connection: u64) -> Option<v1::ResourceReport> {
        let wanted = standing.wanted().clone();
        let known = standing.is_reported_on(connection);
        standing.report_on(connection);
        if let Some(why) = standing.failed_lately(Instant::now()) {
            return (!known).then(|| report(&wanted, v1::Outcome::Failed, why.to_owned()));
        }
        match self.hold(&wanted).await {
            Ok((held, fresh)) => {
                standing.settle();
                let outcome =
                    if held.served { v1::Outcome::Serving } else { v1::Outcome::Installed };
                (fresh || !known).then(|| report(&wanted, outcome, held.proof))
            }
            Err(error) => {
                tracing::warn!(certificate = wanted.name, version = wanted.version, %error,
                    hint = error.hint, "not installed");
                standing.fail(&error);
                Some(report(&wanted, v1::Outcome::Failed, error.to_string()))
            }
        }
    }

    /// Holds a version: nothing where it is in place, else an installation. Answers whether it was
    /// installed now.
    async fn hold(&self, wanted: &v1::WantedCertificate) -> Result<(Held, bool)> {
        let subject = || format!("certificate {}", wanted.name);
        let install = self.config.install.iter().find(|i| i.certificate.as_str() == wanted.name);
        let install = install.ok_or_else(|| {
            Error::invalid("install", subject(), "agent.toml has no [[install]] for it")
                .hint("add one and restart the agent")
        })?;
        let chain = Chain::parse(&wanted.chain_pem)?;
        let keeper = match wanted.custody() {
            Custody::Agent => Keeper::Agent,
            _ => {
                Keeper::Vault(wanted.tls_keys.first().map(|key| uri::of(&wanted.name, &key.key_id)))
            }
        };
        let (state_dir, own, own_chain) =
            (self.config.state_dir.clone(), install.clone(), chain.clone());
        let sent = wanted.clone();
        let (files, key, present, staple) = blocking(move || {
            let files = Files::open(&state_dir, &own)?;
            let key = files.key_for(&own_chain, &keeper)?;
            let held = files.held()?.filter(|held| held.fingerprint == own_chain.fingerprint());
            let present = match held {
                Some(held) if files.intact(&own_chain, key.as_ref())? => Some(held),
                _ => None,
            };
            let staple = new_staple(&own, &files, &sent)?;
            Ok((Arc::new(files), key, present, staple))
        })
        .await?;
        if let Some(held) = present.filter(|held| held.version == wanted.version) {
            if let Some(staple) = staple {
                restaple(install, files, staple).await?;
            }
            return Ok((held, false));
        }
        let version = wanted.version;
        let (swap_files, swap_chain, swap_key) = (files.clone(), chain.clone(), key.clone());
        let tried = async {
            blocking(move || {
                swap_files.swap(version, &swap_chain, swap_key.as_ref(), staple.as_deref())
            })
            .await?;
            apply(install, &chain).await
        };
        match tried.await {
            Ok(proof) => {
                let held = held(version, &chain, proof);
                let (commit, record) = (files.clone(), held.clone());
                blocking(move || commit.commit(&record, key.as_ref())).await?;
                tracing::info!(
                    certificate = wanted.name,
                    version,
                    serial = held.serial,
                    proof = held.proof,
                    "installed"
                );
                Ok((held, true))
            }
            Err(error) => Err(self.undo(install, files, error).await),
        }
    }

    /// Puts the last good files back and reloads; the error says what became of that.
    async fn undo(&self, install: &Install, files: Arc<Files>, error: Error) -> Error {
        let rolled_back = blocking(move || files.roll_back()).await;
        let subject = format!("certificate {}", install.certificate);
        if let Err(second) = rolled_back {
            let why = format!("{error}; and the last good files were not restored: {second}");
            return Error::local("install", subject, why);
        }
        if let Some(reload) = &install.reload
            && let Err(second) = command::run("reload", reload, install.command_timeout).await
        {
            let why = format!("{error}; the last good files are back, but: {second}");
            return Error::local("install", subject, why);
        }
        Error::local("install", subject, format!("{error}; the last good files are back"))
            .hint(error.hint)
    }

    /// Ends an exchange that a crash left open: kept where the new leaf is served, else undone.
    async fn settle(&self, install: &Install) -> Result<()> {
        let (state_dir, own) = (self.config.state_dir.clone(), install.clone());
        let (files, open) = blocking(move || {
            let files = Files::open(&state_dir, &own)?;
            let open = files.interrupted()?;
            Ok((Arc::new(files), open))
        })
        .await?;
        let Some(Interrupted { version, chain, with_key }) = open else { return Ok(()) };
        tracing::warn!(certificate = %install.certificate, version, "an installation was interrupted");
        if let (Some(chain), Some(check)) = (&chain, &install.check)
            && prove::leaf_of(check.address, &check.server_name)
                .await
                .is_ok_and(|seen| seen == chain.leaf_der)
            && let Ok(key) = files.key_in_place(chain, with_key)
        {
            let held = held(version, chain, Some(proof(install, chain)));
            return blocking(move || files.commit(&held, key.as_ref())).await;
        }
        blocking(move || files.roll_back()).await?;
        match &install.reload {
            Some(reload) => command::run("reload", reload, install.command_timeout).await,
            None => Ok(()),
        }
    }
}

/// The staple that is to be put in place, where one is configured. What is refused is said and changes nothing.
fn new_staple(
    install: &Install,
    files: &Files,
    wanted: &v1::WantedCertificate,
) -> Result<Option<Vec<u8>>> {
    if install.staple.is_none() {
        return Ok(None);
    }
    let present = files.present_staple()?;
    let new = staple::wanted(wanted, present.as_deref(), OffsetDateTime::now_utc());
    Ok(new.unwrap_or_else(|error| {
        tracing::warn!(certificate = wanted.name, %error, hint = error.hint, "staple refused");
        None
    }))
}

/// Exchanges the staple alone: where the web server does not take it, the one before is back.
async fn restaple(install: &Install, files: Arc<Files>, staple: Vec<u8>) -> Result<()> {
    let put = files.clone();
    let before = blocking(move || {
        let before = put.present_staple()?;
        put.put_staple(Some(&staple))?;
        Ok(before)
    })
    .await?;
    let taken = async {
        if let Some(test) = &install.test {
            command::run("test", test, install.command_timeout).await?;
        }
        match &install.reload {
            Some(reload) => command::run("reload", reload, install.command_timeout).await,
            None => Ok(()),
        }
    };
    match taken.await {
        Ok(()) => {
            tracing::info!(certificate = %install.certificate, "stapled anew");
            Ok(())
        }
        Err(error) => {
            tracing::warn!(certificate = %install.certificate, %error, "the staple before is back");
            blocking(move || files.put_staple(before.as_deref())).await
        }
    }
}

/// Tests, reloads and proves; `None` where nothing can be proven.
async fn apply(install: &Install, chain: &Chain) -> Result<Option<String>> {
    if let Some(test) = &install.test {
        command::run("test", test, install.command_timeout).await?;
    }
    if let Some(reload) = &install.reload {
        command::run("reload", reload, install.command_timeout).await?;
    }
    match &install.check {
        Some(check) => {
            prove::serves(check, &chain.leaf_der).await?;
            Ok(Some(proof(install, chain)))
        }
        None => Ok(None),
    }
}

fn proof(install: &Install, chain: &Chain) -> String {
    let seen_at = install
        .check
        .as_ref()
        .map_or(String::new(), |check| format!("{} for {}", check.address, check.server_name));
    format!("a handshake with {seen_at} showed serial {}", chain.serial)
}

fn held(version: u64, chain: &Chain, proof: Option<String>) -> Held {
    Held {
        version,
        fingerprint: chain.fingerprint(),
        serial: chain.serial.clone(),
        key_fingerprint: chain.key_fingerprint(),
        not_before: chain.not_before,
        not_after: chain.not_after,
        served: proof.is_some(),
        proof: proof.unwrap_or_else(|| "installed; no check is configured".to_owned()),
        since: OffsetDateTime::now_utc(),
    }
}

fn report(
    wanted: &v1::WantedCertificate,
    outcome: v1::Outcome,
    detail: String,
) -> v1::ResourceReport {
    v1::ResourceReport {
        resource: Some(Resource::Certificate(wanted.name.clone())),
        version: wanted.version,
        outcome: outcome.into(),
        detail,
    }
}
