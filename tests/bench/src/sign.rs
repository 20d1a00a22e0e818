//! Signatures: the token alone; the vault over mTLS, for a program with many callers (on one stream, and by a call
//! for each) and for an agent on its connection; and the whole way from a web server's module through the
//! agent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use testkit::{
    grpc::{self, Certificate},
    programs::ours,
    signer_client::certificate_verify,
    vault::{PIN, SOFTHSM, Vault},
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use vault_proto::v1::{SignRequest, key_service_client::KeyServiceClient};

use crate::{
    Pace,
    agent_connection::AgentConnection,
    cpu::{self, OneProcessor},
    latency::Run,
    raw::Module,
    results::Results,
    sign_stream::SignStream,
    sites::{Key, Site},
};

/// Callers at once: few, and most.
const FEW: [usize; 2] = [1, 8];
const MOST: usize = 64;
/// The vault's HSM workers, and as many threads on the other side.
const THREADS: usize = 2;

/// Measures.
///
/// # Errors
/// Where anything cannot be started or fails.
pub fn measure(pace: Pace, results: &mut Results) -> Result<()> {
    let mut site = Site::new();
    let bench = Bench::new(&mut site)?;
    for key in &site.keys {
        bench.throughput(key, pace, results)?;
        bench.remote(key, pace, results)?;
    }
    Ok(())
}

/// The runs with each number of callers.
type Table = [Vec<Run>; FEW.len()];

/// Runs, and what each was beside the token's right before and right after it.
#[derive(Default)]
struct Beside {
    runs: Vec<Run>,
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

impl Beside {
    fn add(&mut self, run: Run, token: [&Run; 2]) {
        let ratio = |of: fn(&Run) -> f64| of(&run) * 2.0 / token.into_iter().map(of).sum::<f64>();
        self.rate.push(ratio(|run| run.rate));
        self.cpu.push(ratio(Run::cpu_per_thousand));
        self.runs.push(run);
    }
}

/// The sides of the comparison.
struct Bench {
    token: Module,
    agent: Module,
    channel: Channel,
    stream: SignStream,
    connection: AgentConnection,
    runtime: Runtime,
    vault: u32,
    agent_process: u32,
}

impl Bench {
    fn new(site: &mut Site) -> Result<Self> {
        // One thread, as an agent has.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let channel = runtime.block_on(connect(&site.vault))?;
        let stream = runtime.block_on(SignStream::open(channel.clone()))?;
        let connection = runtime.block_on(AgentConnection::open(&site.vault, &site.agent))?;
        let text = |path: std::path::PathBuf| path.display().to_string();
        let token = Module {
            file: SOFTHSM.into(),
            environment: vec![("SOFTHSM2_CONF".to_owned(), text(site.vault.file("softhsm2.conf")))],
            token: "vault".to_owned(),
            pin: Some(PIN.to_owned()),
        };
        let agent = Module {
            file: ours("libvault_pkcs11.so"),
            environment: site.keyless.environment(),
            token: testkit::world::AGENT.to_owned(),
            pin: None,
        };
        let (vault, agent_process) = (site.vault.process().id(), site.agent.process().id());
        Ok(Self { token, agent, channel, stream, connection, runtime, vault, agent_process })
    }

    /// The token from as many threads as the vault has, and the vault from more and more callers. Each way
    /// from most callers has the token before and after it: a machine that is slow for a while is slow for
    /// both sides.
    fn throughput(&self, key: &Key, pace: Pace, results: &mut Results) -> Result<()> {
        let mut raw = Vec::new();
        let client = KeyServiceClient::new(self.channel.clone());
        self.way("sign", &ByStream(self.stream.clone()), key, pace, &mut raw, results)?;
        self.way("sign_call", &ByCall(client), key, pace, &mut raw, results)?;
        let by_agent = ByAgent(self.connection.clone());
        self.way("sign_agent", &by_agent, key, pace, &mut raw, results)?;
        report(results, &format!("raw.{}", key.name), &raw);
        Ok(())
    }

    /// One way to the vault; the token's runs are added to `raw`.
    fn way(
        &self,
        way: &str,
        caller: &impl Caller,
        key: &Key,
        pace: Pace,
        raw: &mut Vec<Run>,
        results: &mut Results,
    ) -> Result<()> {
        let (mut most, mut few) = (Beside::default(), Table::default());
        for _ in 0..pace.rounds {
            let before = self.token.sign(&key.id, key.raw, THREADS, pace.time)?;
            let run = self.vault(caller, key, MOST, pace.time)?;
            let after = self.token.sign(&key.id, key.raw, THREADS, pace.time)?;
            most.add(run, [&before, &after]);
            raw.extend([before, after]);
            for (callers, runs) in FEW.into_iter().zip(&mut few) {
                runs.push(self.vault(caller, key, callers, pace.time)?);
            }
        }
        let way = format!("{way}.{}", key.name);
        for (callers, runs) in FEW.iter().zip(&few).chain([(&MOST, &most.runs)]) {
            report(results, &format!("{way}.callers_{callers}"), runs);
        }
        results.add(format!("{way}.ratio_raw"), "ratio", &most.rate);
        results.add(format!("{way}.cpu_ratio_raw"), "ratio", &most.cpu);
        Ok(())
    }

    /// One web server's worker, then many: module, agent, vault, token.
    fn remote(&self, key: &Key, pace: Pace, results: &mut Results) -> Result<()> {
        let name = key.name;
        let (mut raw, mut one, mut many, mut ratio) = (vec![], vec![], vec![], vec![]);
        let (mut cpu_vault, mut cpu_agent, mut on_one) = (vec![], vec![], vec![]);
        for _ in 0..pace.rounds {
            raw.push(self.token.sign(&key.id, key.raw, 1, pace.time)?);
            let before = cpu::seconds_of(self.vault)?;
            let run = self.agent.sign(key.certificate, key.remote, 1, pace.time)?;
            one.push(Run { cpu: cpu::seconds_of(self.vault)? - before, ..run });
            on_one.push({
                let _on_one = OneProcessor::of(&[self.vault, self.agent_process])?;
                let raw = self.token.sign(&key.id, key.raw, 1, pace.time)?;
                self.agent.sign(key.certificate, key.remote, 1, pace.time)?.p50_us - raw.p50_us
            });
            let most = self.token.sign(&key.id, key.raw, THREADS, pace.time)?;
            let before = (cpu::seconds_of(self.vault)?, cpu::seconds_of(self.agent_process)?);
            let run = self.agent.sign(key.certificate, key.remote, 32, pace.time)?;
            let of_vault = Run { cpu: cpu::seconds_of(self.vault)? - before.0, ..run };
            let of_agent = Run { cpu: cpu::seconds_of(self.agent_process)? - before.1, ..run };
            cpu_vault.push(of_vault.cpu_per_thousand() / most.cpu_per_thousand());
            cpu_agent.push(of_agent.cpu_per_thousand());
            ratio.push(run.rate / most.rate);
            many.push(of_vault);
        }
        report(results, &format!("remote.{name}.callers_1"), &one);
        report(results, &format!("remote.{name}.callers_32"), &many);
        results.add(format!("remote.{name}.ratio_raw"), "ratio", &ratio);
        results.add(format!("remote.{name}.cpu_ratio_raw"), "ratio", &cpu_vault);
        results.add(format!("remote.{name}.agent_cpu_per_1000"), "s", &cpu_agent);
        let added: Vec<_> =
            one.iter().zip(&raw).map(|(one, raw)| one.p50_us - raw.p50_us).collect();
        results.add(format!("sign.{name}.added_p50_us"), "us", &added);
        results.add(format!("sign.{name}.added_p50_on_one_processor_us"), "us", &on_one);
        Ok(())
    }

    /// Callers of the vault, each of whom asks again when he is answered.
    fn vault(
        &self,
        caller: &impl Caller,
        key: &Key,
        callers: usize,
        time: Duration,
    ) -> Result<Run> {
        let stop = Arc::new(AtomicBool::new(false));
        let (began, before) = (Instant::now(), cpu::seconds_of(self.vault)?);
        let calls = self.runtime.block_on(async {
            let again = || again(caller.clone(), key.clone(), stop.clone());
            let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(again())).collect();
            tokio::time::sleep(time).await;
            stop.store(true, Ordering::Relaxed);
            let mut calls = Vec::new();
            for task in tasks {
                calls.extend(task.await??);
            }
            anyhow::Ok(calls)
        })?;
        let used = cpu::seconds_of(self.vault)? - before;
        Ok(Run::of(calls, began.elapsed(), used))
    }
}

/// One who has things signed.
trait Caller: Clone + Send + 'static {
    /// Once.
    fn sign(&mut self, key: &Key, message: &[u8]) -> impl Future<Output = Result<()>> + Send;
}

/// In an operator's program that has one stream for all its callers.
#[derive(Clone)]
struct ByStream(SignStream);

impl Caller for ByStream {
    async fn sign(&mut self, key: &Key, message: &[u8]) -> Result<()> {
        self.0.sign(request(key, message)).await.map(drop)
    }
}

/// In an operator's program, with a call for each signature.
#[derive(Clone)]
struct ByCall(KeyServiceClient<Channel>);

impl Caller for ByCall {
    async fn sign(&mut self, key: &Key, message: &[u8]) -> Result<()> {
        self.0.sign(request(key, message)).await?;
        Ok(())
    }
}

/// As an agent, for its web servers.
#[derive(Clone)]
struct ByAgent(AgentConnection);

impl Caller for ByAgent {
    async fn sign(&mut self, key: &Key, message: &[u8]) -> Result<()> {
        let Key { certificate_id, remote_mechanism, .. } = key;
        self.0.sign(certificate_id, remote_mechanism, message).await.map(drop)
    }
}

fn request(key: &Key, message: &[u8]) -> SignRequest {
    SignRequest {
        name: key.algorithm.to_owned(),
        mechanism: key.mechanism.to_owned(),
        message: message.to_vec(),
    }
}

async fn again(mut caller: impl Caller, key: Key, stop: Arc<AtomicBool>) -> Result<Vec<Duration>> {
    let message = certificate_verify([7; 32]);
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        caller.sign(&key, &message).await?;
        calls.push(began.elapsed());
    }
    Ok(calls)
}

async fn connect(vault: &Vault) -> Result<Channel> {
    let (certificate, root) = Certificate::issued(vault, "bench", "operator");
    Ok(grpc::network(vault.address, &root, Some(&certificate)).await?)
}

fn report(results: &mut Results, name: &str, runs: &[Run]) {
    let all = |of: fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<_>>();
    results.add(format!("{name}.rate"), "1/s", &all(|run| run.rate));
    results.add(format!("{name}.p50_us"), "us", &all(|run| run.p50_us));
    results.add(format!("{name}.p99_us"), "us", &all(|run| run.p99_us));
    results.add(format!("{name}.cpu_per_1000"), "s", &all(Run::cpu_per_thousand));
}
