//! Signatures: the token alone, the vault over mTLS (by the stream that agents have, and by a call
//! for each), and the whole way from a web server's module through the agent.

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
    cpu::{self, Awake},
    latency::Run,
    raw::Module,
    results::Results,
    sites::{Key, Site},
    stream::Stream,
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
    stream: Stream,
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
        let stream = runtime.block_on(Stream::open(&site.vault, &site.agent))?;
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
        Ok(Self { token, agent, channel, stream, runtime, vault, agent_process })
    }

    /// The token from as many threads as the vault has, and the vault from more and more callers. Both ways
    /// from most callers have the token before and after them: a machine that is slow for a while is
    /// slow for both sides.
    fn throughput(&self, key: &Key, pace: Pace, results: &mut Results) -> Result<()> {
        let name = key.name;
        let (mut streamed, mut unary) = (Beside::default(), Beside::default());
        let (mut raw, mut few) = (Vec::new(), [Table::default(), Table::default()]);
        let by_stream = ByStream { stream: self.stream.clone(), key: key.clone() };
        let client = KeyServiceClient::new(self.channel.clone());
        let by_call = ByCall { client, key: key.clone() };
        let token = || self.token.sign(&key.id, key.raw, THREADS, pace.time);
        for _ in 0..pace.rounds {
            let before = token()?;
            let by_stream_most = self.vault(&by_stream, MOST, pace.time)?;
            let between = token()?;
            let by_call_most = self.vault(&by_call, MOST, pace.time)?;
            let after = token()?;
            streamed.add(by_stream_most, [&before, &between]);
            unary.add(by_call_most, [&between, &after]);
            raw.extend([before, between, after]);
            for (number, callers) in FEW.into_iter().enumerate() {
                few[0][number].push(self.vault(&by_stream, callers, pace.time)?);
                few[1][number].push(self.vault(&by_call, callers, pace.time)?);
            }
        }
        report(results, &format!("raw.{name}"), &raw);
        for (way, most, few) in [("sign_stream", streamed, &few[0]), ("sign", unary, &few[1])] {
            for (callers, runs) in FEW.iter().zip(few).chain([(&MOST, &most.runs)]) {
                report(results, &format!("{way}.{name}.callers_{callers}"), runs);
            }
            results.add(format!("{way}.{name}.ratio_raw"), "ratio", &most.rate);
            results.add(format!("{way}.{name}.cpu_ratio_raw"), "ratio", &most.cpu);
        }
        Ok(())
    }

    /// One web server's worker, then many: module, agent, vault, token.
    fn remote(&self, key: &Key, pace: Pace, results: &mut Results) -> Result<()> {
        let name = key.name;
        let (mut raw, mut one, mut many, mut ratio) = (vec![], vec![], vec![], vec![]);
        let (mut cpu_vault, mut cpu_agent, mut awake) = (vec![], vec![], vec![]);
        for _ in 0..pace.rounds {
            raw.push(self.token.sign(&key.id, key.raw, 1, pace.time)?);
            let before = cpu::seconds_of(self.vault)?;
            let run = self.agent.sign(key.certificate, key.remote, 1, pace.time)?;
            one.push(Run { cpu: cpu::seconds_of(self.vault)? - before, ..run });
            awake.push({
                let _awake = Awake::new()?;
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
        results.add(format!("sign.{name}.added_p50_awake_us"), "us", &awake);
        Ok(())
    }

    /// Callers of the vault, each of whom asks again when he is answered.
    fn vault(&self, caller: &impl Caller, callers: usize, time: Duration) -> Result<Run> {
        let stop = Arc::new(AtomicBool::new(false));
        let (began, before) = (Instant::now(), cpu::seconds_of(self.vault)?);
        let calls = self.runtime.block_on(async {
            let tasks: Vec<_> =
                (0..callers).map(|_| tokio::spawn(again(caller.clone(), stop.clone()))).collect();
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
    fn sign(&mut self, message: &[u8]) -> impl Future<Output = Result<()>> + Send;
}

/// As an agent, for its web servers.
#[derive(Clone)]
struct ByStream {
    stream: Stream,
    key: Key,
}

impl Caller for ByStream {
    async fn sign(&mut self, message: &[u8]) -> Result<()> {
        let Key { certificate_id, remote_mechanism, .. } = &self.key;
        self.stream.sign(certificate_id, remote_mechanism, message).await.map(drop)
    }
}

/// As an operator's program, with a call for each signature.
#[derive(Clone)]
struct ByCall {
    client: KeyServiceClient<Channel>,
    key: Key,
}

impl Caller for ByCall {
    async fn sign(&mut self, message: &[u8]) -> Result<()> {
        let request = SignRequest {
            name: self.key.algorithm.to_owned(),
            mechanism: self.key.mechanism.to_owned(),
            message: message.to_vec(),
        };
        self.client.sign(request).await?;
        Ok(())
    }
}

async fn again(mut caller: impl Caller, stop: Arc<AtomicBool>) -> Result<Vec<Duration>> {
    let message = certificate_verify([7; 32]);
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        caller.sign(&message).await?;
        calls.push(began.elapsed());
    }
    Ok(calls)
}

async fn connect(vault: &Vault) -> Result<Channel> {
    let dir = vault.issue("bench", "operator");
    let certificate = Certificate::of(&dir);
    let root = std::fs::read_to_string(dir.join("ca.pem"))?;
    Ok(grpc::network(vault.address, &root, Some(&certificate)).await?)
}

fn report(results: &mut Results, name: &str, runs: &[Run]) {
    let all = |of: fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<_>>();
    results.add(format!("{name}.rate"), "1/s", &all(|run| run.rate));
    results.add(format!("{name}.p50_us"), "us", &all(|run| run.p50_us));
    results.add(format!("{name}.p99_us"), "us", &all(|run| run.p99_us));
    results.add(format!("{name}.cpu_per_1000"), "s", &all(Run::cpu_per_thousand));
}
