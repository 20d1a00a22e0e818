//! Signatures by a PKCS#11 module as fast as it makes them: in a process of its own, whose CPU
//! counts and whose environment says which token or agent the module speaks to.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass},
    session::{Session, UserType},
    slot::Slot,
};
use sha2::{Digest as _, Sha256};

use testkit::signer_client::certificate_verify;

use crate::{cpu, latency::Run};

/// What `bench raw` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The module.
    #[arg(long)]
    module: PathBuf,
    /// The token's label.
    #[arg(long)]
    token: String,
    /// The key's CKA_ID in hex, or its label.
    #[arg(long)]
    key: String,
    /// The user PIN; without it nobody logs in.
    #[arg(long, env = "BENCH_PIN")]
    pin: Option<String>,
    /// How to sign.
    #[arg(long, value_enum)]
    how: How,
    /// Threads, each with a session.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// For how long, in milliseconds.
    #[arg(long)]
    millis: u64,
}

/// How to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// SHA-256 here, then CKM_ECDSA: what a vault does, since not every token hashes.
    Ecdsa,
    /// CKM_ECDSA_SHA256.
    EcdsaSha256,
    /// CKM_SHA256_RSA_PKCS.
    RsaPkcs,
    /// CKM_SHA256_RSA_PKCS_PSS.
    RsaPss,
}

/// One side of a comparison by a module: what to run and where.
#[derive(Debug, Clone)]
pub struct Module {
    /// The module's file.
    pub file: PathBuf,
    /// Its variables.
    pub environment: Vec<(String, String)>,
    /// The token's label.
    pub token: String,
    /// The user PIN.
    pub pin: Option<String>,
}

impl Module {
    /// Signs with a key from several threads for a time, in a process of its own.
    ///
    /// # Errors
    /// Where it fails; with what it said.
    pub fn sign(&self, key: &str, how: How, threads: usize, time: Duration) -> Result<Run> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("raw").arg("--module").arg(&self.file);
        command.args(["--token", &self.token, "--key", key]);
        let how = how.to_possible_value().context("a way to sign")?;
        command.args(["--how", how.get_name(), "--threads", &threads.to_string()]);
        command.args(["--millis", &time.as_millis().to_string()]);
        command.envs(self.environment.iter().cloned());
        command.envs(self.pin.iter().map(|pin| ("BENCH_PIN", pin)));
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", self.file.display());
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Signs and says as JSON how fast.
///
/// # Errors
/// Where the module refuses anything.
pub fn run(args: &Args) -> Result<()> {
    let pkcs11 = Pkcs11::new(&args.module)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slot = slot(&pkcs11, &args.token)?;
    let stop = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(args.threads + 1));
    let mut threads = Vec::new();
    for number in 0..args.threads {
        let session = pkcs11.open_ro_session(slot)?;
        if let Some(pin) = &args.pin
            && number == 0
        {
            session.login(UserType::User, Some(&pin.as_str().into()))?;
        }
        let (args, stop, start) = (args.clone(), stop.clone(), start.clone());
        threads.push(thread::spawn(move || sign(&session, &args, &start, &stop)));
    }
    start.wait();
    let (began, before) = (Instant::now(), cpu::seconds_of(std::process::id())?);
    thread::sleep(Duration::from_millis(args.millis));
    stop.store(true, Ordering::Relaxed);
    let used = cpu::seconds_of(std::process::id())? - before;
    let time = began.elapsed();
    let mut calls = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(done) => calls.extend(done?),
            Err(_) => bail!("a thread has ended in a fault"),
        }
    }
    serde_json::to_writer(std::io::stdout(), &Run::of(calls, time, used))?;
    Ok(())
}

/// The slot of a token.
///
/// # Errors
/// Where no token has this label.
pub fn slot(pkcs11: &Pkcs11, token: &str) -> Result<Slot> {
    for slot in pkcs11.get_slots_with_token()? {
        if pkcs11.get_token_info(slot)?.label() == token {
            return Ok(slot);
        }
    }
    bail!("no token {token}")
}

fn sign(
    session: &Session,
    args: &Args,
    start: &Barrier,
    stop: &AtomicBool,
) -> Result<Vec<Duration>> {
    let named = match args.key.len() == 32 {
        true => Attribute::Id(hex::decode(&args.key)?),
        false => Attribute::Label(args.key.clone().into_bytes()),
    };
    let found = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), named])?;
    let key = *found.first().with_context(|| format!("no key {}", args.key))?;
    let mechanism = match args.how {
        How::Ecdsa => Mechanism::Ecdsa,
        How::EcdsaSha256 => Mechanism::EcdsaSha256,
        How::RsaPkcs => Mechanism::Sha256RsaPkcs,
        How::RsaPss => Mechanism::Sha256RsaPkcsPss(cryptoki::mechanism::rsa::PkcsPssParams {
            hash_alg: cryptoki::mechanism::MechanismType::SHA256,
            mgf: cryptoki::mechanism::rsa::PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        }),
    };
    let message = certificate_verify([7; 32]);
    let once = || match args.how {
        How::Ecdsa => session.sign(&mechanism, key, &Sha256::digest(&message)),
        _ => session.sign(&mechanism, key, &message),
    };
    once()?;
    let mut calls = Vec::new();
    start.wait();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        once()?;
        calls.push(began.elapsed());
    }
    Ok(calls)
}
