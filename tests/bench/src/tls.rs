//! Full TLS 1.3 handshakes with nginx: the key on disk, in SoftHSM through OpenSSL's engine, in the
//! vault through our module. Every side shows a chain of the same CA, so that visitors have the same to
//! verify.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use testkit::{
    keyless::Keyless,
    process::{Process, free_port},
    programs::{must, ours},
    softhsm::SoftHsm,
    vault::PIN,
    visitor::Visitor,
};

use crate::{
    Pace,
    latency::Run,
    results::Results,
    sites::{Site, on_disk},
};

/// Visitors at once; each of nginx's workers signs one handshake at a time.
const VISITORS: usize = 16;
/// nginx's workers: more than cores, since one that waits for a signature does nothing else.
const WORKERS: usize = 8;
/// The kinds of keys, as results and certificates name them.
const KINDS: [&str; 2] = ["p256", "rsa2048"];

/// Measures.
///
/// # Errors
/// Where anything cannot be started or fails.
pub fn measure(pace: Pace, results: &mut Results) -> Result<()> {
    let site = Site::new();
    let text = |path: PathBuf| path.display().to_string();
    let files = |name: &str| {
        let file = |what: &str| text(site.keyless.file(&format!("{name}.{what}")));
        (file("pem"), file("key"))
    };
    let token = InToken::new(|kind| files(&on_disk(kind)).1)?;
    let in_token = |kind: &str| {
        let uri = format!("pkcs11:token=bench;object={kind};type=private;pin-value={PIN}");
        (files(&on_disk(kind)).0, format!("engine:pkcs11:{uri}"))
    };
    let by_engine = |kind: &str| {
        let uri = format!("pkcs11:token={};object={kind};type=private", testkit::world::AGENT);
        (files(kind).0, format!("engine:pkcs11:{uri}"))
    };
    let engine = Keyless::by_engine();
    let mut ours_by_engine = engine.environment();
    ours_by_engine.retain(|(name, _)| name != "VAULT_AGENT_SOCKET");
    ours_by_engine.push(("VAULT_AGENT_SOCKET".to_owned(), text(site.keyless.socket())));
    let sides = [
        ("file", Nginx::start(&[], false, |kind| files(&on_disk(kind)))?),
        ("ours", Nginx::start(&site.keyless.environment(), false, files)?),
        // Right after and right before what it is compared with.
        ("engine", Nginx::start(&token.environment()?, true, in_token)?),
        ("ours_engine", Nginx::start(&ours_by_engine, true, by_engine)?),
    ];
    let roots = site.roots();
    for (number, kind) in KINDS.iter().enumerate() {
        let domain = format!("{kind}.example");
        let mut runs: [Vec<Run>; 4] = Default::default();
        for _ in 0..pace.rounds {
            for ((side, nginx), runs) in sides.iter().zip(&mut runs) {
                let address = *nginx.addresses.get(number).context("no address")?;
                let visitor = Visitor::new(address, &domain, &roots, &rustls::version::TLS13);
                runs.push(visit(&visitor, pace.time).with_context(|| format!("{side} {kind}"))?);
            }
        }
        report(results, kind, &sides.each_ref().map(|(side, _)| *side), &runs);
    }
    Ok(())
}

fn report(results: &mut Results, kind: &str, sides: &[&str; 4], runs: &[Vec<Run>; 4]) {
    for (side, runs) in sides.iter().zip(runs) {
        let all = |of: fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<_>>();
        results.add(format!("tls.nginx.{kind}.{side}.rate"), "1/s", &all(|run| run.rate));
        results.add(format!("tls.nginx.{kind}.{side}.p50_us"), "us", &all(|run| run.p50_us));
        results.add(format!("tls.nginx.{kind}.{side}.p99_us"), "us", &all(|run| run.p99_us));
    }
    let [file, ours, engine, ours_engine] = runs;
    let ratio =
        |a: &[Run], b: &[Run]| a.iter().zip(b).map(|(a, b)| a.rate / b.rate).collect::<Vec<_>>();
    results.add(format!("tls.nginx.{kind}.ratio_engine"), "ratio", &ratio(ours, engine));
    results.add(format!("tls.nginx.{kind}.ratio_file"), "ratio", &ratio(ours, file));
    results.add(
        format!("tls.nginx.{kind}.by_engine.ratio_engine"),
        "ratio",
        &ratio(ours_engine, engine),
    );
}

/// Handshakes by all visitors for a time.
fn visit(visitor: &Visitor, time: Duration) -> Result<Run> {
    visitor.shake_hands()?;
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let calls = thread::scope(|scope| {
        let visit = || {
            let mut calls = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                visitor.shake_hands()?;
                calls.push(began.elapsed());
            }
            anyhow::Ok(calls)
        };
        let threads: Vec<_> = (0..VISITORS).map(|_| scope.spawn(visit)).collect();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        for thread in threads {
            calls.extend(thread.join().map_err(|_| anyhow::anyhow!("a visitor has failed"))??);
        }
        anyhow::Ok(calls)
    })?;
    Ok(Run::of(calls, began.elapsed(), 0.0))
}

/// The keys that are on disk, in a SoftHSM token.
struct InToken {
    token: SoftHsm,
}

impl InToken {
    fn new(key: impl Fn(&str) -> String) -> Result<Self> {
        let own = Self { token: SoftHsm::new() };
        own.softhsm("--init-token --free --label bench --so-pin 1234-test");
        for (kind, id) in KINDS.iter().zip(["01", "02"]) {
            let key = key(kind);
            own.softhsm(&format!("--import {key} --token bench --label {kind} --id {id}"));
        }
        // nginx's workers are nobody's in particular.
        must("chmod", &["-R", "a+rwX", &own.token.dir().display().to_string()]);
        Ok(own)
    }

    fn softhsm(&self, args: &str) {
        let (name, file) = self.token.environment();
        let line = format!("{name}={} softhsm2-util {args} --pin {PIN}", file.display());
        must("sh", &["-c", &line]);
    }

    /// The variables of a web server that uses them through OpenSSL's engine.
    fn environment(&self) -> Result<Vec<(String, String)>> {
        // As for our module, but with SoftHSM's.
        let keyless = Keyless::by_engine();
        let config = keyless.environment().into_iter().find(|(name, _)| name == "OPENSSL_CONF");
        let (_, config) = config.context("no OPENSSL_CONF")?;
        let module = |file: PathBuf| file.display().to_string();
        let config = fs::read_to_string(config)?
            .replace(&module(ours("libvault_pkcs11.so")), &module(SoftHsm::module()));
        let file = self.token.dir().join("openssl.cnf");
        fs::write(&file, config)?;
        let (name, value) = self.token.environment();
        Ok(vec![
            ("OPENSSL_CONF".to_owned(), file.display().to_string()),
            (name.to_owned(), value.display().to_string()),
        ])
    }
}

/// An nginx with a server for each kind of key.
struct Nginx {
    addresses: Vec<SocketAddr>,
    process: Process,
    _dir: TempDir,
}

impl Nginx {
    fn start(
        environment: &[(String, String)],
        engine: bool,
        files: impl Fn(&str) -> (String, String),
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (mut servers, mut addresses) = (String::new(), Vec::new());
        for kind in KINDS {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let (chain, key) = files(kind);
            servers += &format!(
                "server {{ listen {address} ssl reuseport; server_name {kind}.example; return 204;\n\
                 ssl_protocols TLSv1.3; ssl_certificate {chain}; ssl_certificate_key \"{key}\"; }}\n"
            );
            addresses.push(address);
        }
        let variables: String =
            environment.iter().map(|(name, _)| format!("env {name};\n")).collect();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "{variables}daemon off; worker_processes {WORKERS}; pid {pid};\n\
             error_log stderr error; {engine}\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; ssl_session_tickets off;\n\
             client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp};\n\
             uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n{servers} }}\n",
            engine = if engine { "ssl_engine pkcs11;" } else { "" },
            pid = at("nginx.pid"),
            tmp = at("tmp"),
        );
        fs::write(dir.path().join("nginx.conf"), config)?;
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p", &at(""), "-c", &at("nginx.conf")]);
        command.envs(environment.iter().cloned());
        let mut process = Process::spawn("nginx", command, dir.path());
        for address in &addresses {
            process.wait_listening(*address);
        }
        Ok(Self { addresses, process, _dir: dir })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.end_by(rustix::process::Signal::TERM);
    }
}
