//! The vault's side: keys in SoftHSM, an account's key beside them, an agent that puts challenges into a
//! web server's directory and installs what comes.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use testkit::{
    agent::Agent,
    grpc,
    nginx::Nginx,
    vault::Vault,
    world::{ACCOUNT, AGENT, Install, wait_connected, webroot},
};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::transport::Channel;
use vault_proto::v1::{
    Custody, IssueCertificateRequest, RenewCertificateRequest,
    certificate_service_client::CertificateServiceClient,
};

use super::{Ordered, ca::Authority};
use crate::cpu;

/// How often is looked whether all are there.
const LOOK: Duration = Duration::from_millis(50);
/// All must be there by then.
const PATIENCE: Duration = Duration::from_secs(900);
/// Declarations that are under way at once.
const DECLARED_AT_ONCE: usize = 8;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Certificates with keys of their own.
    First,
    /// The same once more, with the keys that they have.
    Renewal,
    /// Others, whose keys their web server's agent makes and keeps, as lego does.
    FirstOfAgent,
}

impl Asked {
    /// The first part of the names.
    fn fleet(self) -> &'static str {
        match self {
            Self::First | Self::Renewal => "fleet",
            Self::FirstOfAgent => "own",
        }
    }
}

/// The name of a round's certificate, which is the first label of its domain, too.
fn name(asked: Asked, round: usize, number: usize) -> String {
    format!("{}-{round}-{number}", asked.fleet())
}

/// The domain of a round's certificate.
pub fn domain(asked: Asked, round: usize, number: usize) -> String {
    format!("{}.example", name(asked, round, number))
}

/// A vault with an account, and its agent.
pub struct Fleet {
    vault: Vault,
    agent: Agent,
    runtime: Runtime,
    channel: Channel,
}

impl Fleet {
    /// Starts a vault and an agent whose challenges a web server answers, and registers an account at the CA.
    ///
    /// # Errors
    /// Where anything cannot be started.
    pub fn new(
        authority: &Authority,
        nginx: &Nginx,
        round: usize,
        certificates: usize,
    ) -> Result<Self> {
        let mut vault = Vault::new();
        let at_once = authority.orders_at_once();
        let acme = format!("request_timeout = \"60s\"\nconcurrent_orders = {at_once}");
        vault.reconfigure("request_timeout = \"5s\"", &acme);
        vault.start();
        vault.ok(&["init"]);
        let mut agent = Agent::new(&vault, "");
        let of = |asked| (0..certificates).map(move |number| name(asked, round, number));
        let installs: String = of(Asked::First)
            .chain(of(Asked::FirstOfAgent))
            .map(|name| {
                let key = Some(agent.file(&format!("{name}.key")));
                Install { key, ..Install::file(&name, agent.file(&format!("{name}.pem"))) }.toml()
            })
            .collect();
        let signer = format!("[signer]\nsocket = {:?}\n", agent.file("signer.sock"));
        agent.config = format!("{installs}{}{signer}", webroot(nginx));
        let ended = agent.enroll(&vault, AGENT);
        ensure!(ended.code == 0, "{ended:?}");
        agent.start();
        wait_connected(&vault, AGENT);
        let (directory, root) = (authority.directory(), authority.root().display().to_string());
        let account = ["account", "register", ACCOUNT, "--agree-tos", "--directory", &directory];
        vault.ok(&[&account[..], &["--ca-root", &root]].concat());
        let runtime = Runtime::new()?;
        let channel = runtime.block_on(grpc::local(&vault.file("admin.sock")))?;
        Ok(Self { vault, agent, runtime, channel })
    }

    /// Asks for a round's certificates at once, and waits until all are issued.
    ///
    /// # Errors
    /// Where one is refused or not there in time.
    pub fn order(
        &mut self,
        asked: Asked,
        authority: &Authority,
        round: usize,
        certificates: usize,
    ) -> Result<Ordered> {
        let (vault, agent) = (self.vault.process().id(), self.agent.process().id());
        let used = || {
            Ok::<_, anyhow::Error>((
                cpu::seconds_of(vault)?,
                cpu::seconds_of(agent)?,
                authority.cpu_seconds()?,
            ))
        };
        let issued = |vault: &mut Vault| vault.process().log().matches(" issued ").count();
        let failed = |vault: &mut Vault| -> Vec<String> {
            let log = vault.process().log();
            log.lines().filter(|line| line.contains("order failed")).map(str::to_owned).collect()
        };
        let (issued_before, failed_before) =
            (issued(&mut self.vault), failed(&mut self.vault).len());
        let (before, began) = (used()?, Instant::now());
        let channel = &self.channel;
        let asked = at_once(certificates, |number| ask(channel.clone(), asked, round, number));
        self.runtime.block_on(asked)?;
        while issued(&mut self.vault) - issued_before < certificates {
            ensure!(began.elapsed() < PATIENCE, "not all were issued within {PATIENCE:?}");
            thread::sleep(LOOK);
        }
        let (took, after) = (began.elapsed().as_secs_f64(), used()?);
        let failures = failed(&mut self.vault).split_off(failed_before);
        for line in &failures {
            writeln!(std::io::stderr(), "{line}")?;
        }
        #[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
        let (count, failures) = (certificates as f64, failures.len() as f64);
        Ok(Ordered {
            rate: count / took,
            client_ms: (after.0 - before.0) * 1e3 / count,
            answers_ms: (after.1 - before.1) * 1e3 / count,
            authority_ms: (after.2 - before.2) * 1e3 / count,
            authority_share: (after.2 - before.2) / took / cpu::processors()?,
            failures,
        })
    }
}

/// Makes a call for each, a few at a time.
async fn at_once<F>(certificates: usize, call: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    for number in 0..certificates {
        if calls.len() >= DECLARED_AT_ONCE {
            calls.join_next().await.context("no call")???;
        }
        calls.spawn(call(number));
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(())
}

async fn ask(channel: Channel, asked: Asked, round: usize, number: usize) -> Result<()> {
    let (mut client, name) = (CertificateServiceClient::new(channel), name(asked, round, number));
    let custody = if asked == Asked::First { Custody::Vault } else { Custody::Agent };
    let answer = match asked {
        Asked::First | Asked::FirstOfAgent => {
            let request = IssueCertificateRequest {
                name,
                account: ACCOUNT.to_owned(),
                domains: vec![domain(asked, round, number)],
                challenge: "http-01".to_owned(),
                custody: custody.into(),
                deploy_to: vec![AGENT.to_owned()],
                ..Default::default()
            };
            client.issue_certificate(request).await
        }
        Asked::Renewal => {
            client.renew_certificate(RenewCertificateRequest { name, force: true }).await
        }
    };
    answer.map(drop).context("a certificate is refused")
}
