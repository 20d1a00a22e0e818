//! The rooms of an initialised vault, from its configuration and settings.

use std::sync::Arc;

use backon::{BlockingRetryable as _, ConstantBuilder};
use time::Duration;
use tokio::{runtime::Handle, sync::Notify};

use super::{Parts, blocking, officer::OfficerProcess};
use crate::accounts::Accounts;
use crate::acme;
use crate::alerts::Alerts;
use crate::api::Rooms;
use crate::audit::Record;
use crate::backup::drills::Drills;
use crate::backup::keks::{self, Keks};
use crate::backup::{Backups, Keeper};
use crate::config::Hsm;
use crate::dns::Dns;
use crate::error::{Error, ErrorKind, Result};
use crate::identities::Identities;
use crate::keyless::Keyless;
use crate::keystore::{
    KeyStore, TokenInfo,
    pkcs11::{Module, Options, Pkcs11KeyStore, TokenState, TokenUri},
};
use crate::monitor::revocation::Revocation;
use crate::push::{Hub, Rollouts};
use crate::renewal::{
    Aftermath, Ari, Issuer, IssuerParts, Planning, Presenters, Runner, planner::Policy,
};
use crate::settings::Vault;
use crate::signing::{Finding, Signing};

/// How often a token that is not there is looked for again at start.
const LOOKS: usize = 4;
/// Between two looks.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// What [`assemble`] makes.
pub(super) struct Opened {
    pub(super) rooms: Rooms,
    pub(super) runner: Runner,
    /// Where dns-01 challenges are shown, if the configuration says so.
    pub(super) dns: Option<Dns>,
    /// Whether CAs have revoked what they have issued.
    pub(super) revocation: Revocation,
}

/// Logs in to the token.
pub(super) async fn open_keystore(hsm: &Hsm) -> Result<Arc<dyn KeyStore>> {
    let uri: TokenUri = hsm.uri.parse()?;
    let pin = hsm.pin.read()?;
    let options = Options { workers: hsm.workers, queue: hsm.queue, deadline: hsm.deadline };
    blocking(move || {
        let module = Module::load(uri.module_path())?;
        let store: Arc<dyn KeyStore> =
            Arc::new(Pkcs11KeyStore::open(&module, &uri, &pin, options)?);
        Ok(store)
    })
    .await
}

/// The spine over an open key store.
pub(super) fn signing(parts: &Parts, keystore: Arc<dyn KeyStore>) -> Signing {
    let Parts { store, audit, authorizer, clock, .. } = parts.clone();
    Signing::new(keystore, store, audit, authorizer, clock)
}

/// Opens the token of an initialised vault and brings HSM, store and audit log together.
pub(super) async fn restart(
    parts: &Parts,
    vault: &Vault,
    pending: Vec<Record>,
) -> Result<(Signing, Vec<Finding>)> {
    if parts.config.policy.trust_domain != vault.trust_domain {
        let subject = format!("trust domain {}", parts.config.policy.trust_domain);
        let why = format!("this vault was initialised with {}", vault.trust_domain);
        return Err(Error::invalid("use", subject, why)
            .hint("set [policy] trust_domain back: it is fixed at init"));
    }
    check_token(&parts.config.hsm, vault).await?;
    let signing = signing(parts, open_keystore(&parts.config.hsm).await?);
    let mut findings = signing.reconcile(pending).await?;
    findings.extend(keks::reconcile(parts.store.as_ref(), &signing).await?);
    Ok((signing, findings))
}

/// Refuses another vault's token before anything is compared with it: every key would seem lost.
async fn check_token(hsm: &Hsm, vault: &Vault) -> Result<TokenInfo> {
    let uri: TokenUri = hsm.uri.parse()?;
    let found = blocking(move || {
        let module = Module::load(uri.module_path())?;
        let look = || match module.token(&uri)? {
            TokenState::Ready(info) => Ok(info),
            TokenState::Absent => {
                let subject = format!("token {}", uri.label());
                Err(Error::not_found("find", subject, "no token has this label")
                    .hint("check token= in [hsm] uri and the module's own configuration"))
            }
        };
        // Processes that start at once on one SoftHSM token sometimes do not see it.
        let schedule = ConstantBuilder::default().with_delay(LOOK_AGAIN).with_max_times(LOOKS);
        look.retry(schedule).when(|error: &Error| error.kind == ErrorKind::NotFound).call()
    });
    let token = found.await?;
    if token.serial != vault.token_serial {
        let why = format!("its serial is {}, this vault's is {}", token.serial, vault.token_serial);
        return Err(Error::conflict("use", format!("token {}", token.label), why)
            .hint("it is another token with the same label: correct [hsm] uri"));
    }
    Ok(token)
}

/// What orders, and what else is done beside it.
fn runner(parts: &Parts, issuer: &Issuer) -> Runner {
    let acme = &parts.config.acme;
    let runner = Runner::new(issuer.clone());
    let aftermath = Aftermath::new(issuer.clone(), parts.audit.clone(), runner.waker());
    let ari = Ari::new(issuer.clone(), runner.waker());
    let runner = runner.with_aftermath(aftermath);
    if acme.ari { runner.with_ari(ari) } else { runner }
}

/// What brings agents their desired state.
fn push(parts: &Parts, alerts: &Alerts) -> Result<(Arc<Hub>, Rollouts)> {
    let patience = Duration::try_from(parts.config.rollout.canary_patience)
        .map_err(|e| Error::invalid("read", "[rollout] canary_patience", e))?;
    let hub = Hub::with_patience(parts.store.clone(), parts.clock.clone(), patience);
    let rollouts = Rollouts::new(hub.clone(), alerts.clone());
    Ok((hub, rollouts))
}

/// Asks CAs what they have revoked.
fn watch_revocation(
    parts: &Parts,
    hub: Arc<Hub>,
    alerts: Alerts,
    wake: Arc<Notify>,
) -> Result<Revocation> {
    let Parts { config, store, clock, .. } = parts.clone();
    Revocation::new(store, hub, alerts, clock, wake, config.monitor.clone())
}

/// What orders certificates, and the DNS where challenges are written there.
fn issuer(
    parts: &Parts,
    signing: &Signing,
    hub: &Arc<Hub>,
    accounts: &Accounts,
    alerts: &Alerts,
) -> Result<(Issuer, Option<Dns>)> {
    let Parts { config, store, clock, .. } = parts.clone();
    let dns = Dns::new(&config.acme, store.clone(), clock.clone(), alerts.clone())?;
    let presenters = Presenters::new(hub.clone());
    let presenters = match &dns {
        Some(dns) => presenters.with_dns(Arc::new(dns.clone())),
        None => presenters,
    };
    let issuer = Issuer::new(IssuerParts {
        store,
        signing: signing.clone(),
        hub: hub.clone(),
        presenters,
        clock,
        policy: Policy { renew_after: config.acme.renew_after },
        accounts: accounts.clone(),
        alerts: alerts.clone(),
        planning: Planning::new(config.acme.limits.clone(), config.acme.concurrent_orders),
    });
    Ok((if config.acme.ari { issuer.with_ari() } else { issuer }, dns))
}

/// Everything above the spine.
pub(super) fn assemble(
    parts: &Parts,
    signing: Signing,
    vault: &Vault,
    findings: Vec<Finding>,
) -> Result<Opened> {
    let Parts { config, store, clock, .. } = parts.clone();
    let alerts = Alerts::new(store.clone(), parts.audit.clone(), clock.clone());
    let (hub, rollouts) = push(parts, &alerts)?;
    let options = acme::Options { request_timeout: config.acme.request_timeout };
    let accounts = Accounts::new(store.clone(), signing.clone(), clock.clone(), options);
    let (issuer, dns) = issuer(parts, &signing, &hub, &accounts, &alerts)?;
    let runner = runner(parts, &issuer);
    let revocation = watch_revocation(parts, hub.clone(), alerts, runner.waker())?;
    let lifetime = Duration::try_from(config.listen.identity_lifetime)
        .map_err(|e| Error::invalid("read", "[listen] identity_lifetime", e))?;
    let rate = config.policy.tls_signatures_per_second;
    let keyless =
        Keyless::new(store.clone(), signing.clone(), clock.clone(), rate, Handle::current());
    let officer = Arc::new(OfficerProcess::new(config.hsm.clone()));
    let keks = Keks::new(store.clone(), signing.clone(), clock.clone(), officer);
    let (audit, recipients) = (parts.audit.clone(), config.backup.recipients.clone());
    let backups =
        Backups::new(store.clone(), signing.clone(), audit.clone(), clock.clone(), recipients);
    let keeper = Keeper::new(
        store.clone(),
        audit,
        clock.clone(),
        backups.clone(),
        &vault.id,
        &config.backup,
    )?;
    let drills = Drills::new(store.clone(), signing.clone(), clock.clone());
    let identities = Identities::new(
        signing.clone(),
        store,
        clock,
        vault.root_der()?,
        vault.ca_key,
        &vault.trust_domain,
        lifetime,
    );
    let rooms = Rooms {
        vault_id: vault.id.clone(),
        signing,
        identities,
        hub,
        issuer,
        keyless,
        rollouts,
        wake: runner.waker(),
        accounts,
        backups,
        keeper: keeper.into(),
        drills,
        keks,
        findings,
    };
    Ok(Opened { rooms, runner, dns, revocation })
}
