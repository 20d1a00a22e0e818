//! A fleet's backup: made, verified and drilled, beside what the token alone takes for its keys.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use testkit::{
    custodians::{Custodian, Kept, share_flags},
    softhsm::SoftHsm,
};
use time::OffsetDateTime;
use vault::{
    keystore::{Algorithm, Escrow},
    store::{KeyPurpose, KeyRecord, KeyState, Keys as _, sql::SqlStore},
};

use crate::{
    Pace, cpu,
    results::Results,
    tokens::{self, Made, Took, Work},
};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Measures, with this many keys.
///
/// # Errors
/// Where anything cannot be started or fails.
pub fn measure(pace: Pace, keys: usize, results: &mut Results) -> Result<()> {
    let mut fleet = Fleet::new(keys)?;
    let scratch = SoftHsm::new();
    let scratch = tokens::scratch(&scratch)?;
    let mut rounds = Rounds::default();
    for round in 0..pace.rounds {
        let file = fleet.kept.vault.path(&format!("{round}.age"));
        let wrapped = fleet.token(Work::Wrap)?.seconds;
        let (made, peak) = fleet.create(&file)?;
        let verified = fleet.verify(&file)?;
        let recovered = recover(&scratch, keys)?.seconds;
        let drilled = fleet.drill(&file, &format!("report-{round}"))?;
        rounds.create.push(made);
        rounds.create_ratio.push(made / wrapped);
        rounds.verify.push(verified);
        rounds.drill.push(drilled);
        rounds.drill_ratio.push(drilled / recovered);
        rounds.wrap_us.push(per_key(wrapped, keys));
        rounds.recover_us.push(per_key(recovered, keys));
        rounds.peak.push(peak);
    }
    rounds.report(results);
    Ok(())
}

#[derive(Default)]
struct Rounds {
    create: Vec<f64>,
    create_ratio: Vec<f64>,
    verify: Vec<f64>,
    drill: Vec<f64>,
    drill_ratio: Vec<f64>,
    wrap_us: Vec<f64>,
    recover_us: Vec<f64>,
    peak: Vec<f64>,
}

impl Rounds {
    fn report(&self, results: &mut Results) {
        results.add("backup.raw.wrap_us", "us", &self.wrap_us);
        results.add("backup.raw.recover_us", "us", &self.recover_us);
        results.add("backup.create.seconds", "s", &self.create);
        results.add("backup.create.ratio_raw", "ratio", &self.create_ratio);
        results.add("backup.verify.seconds", "s", &self.verify);
        results.add("backup.drill.seconds", "s", &self.drill);
        results.add("backup.drill.ratio_raw", "ratio", &self.drill_ratio);
        results.add("backup.peak_mib", "MiB", &self.peak);
    }
}

/// A vault with many escrowed keys, whose KEK custodians have.
struct Fleet {
    kept: Kept,
    /// Whom backups are encrypted to.
    reader: Custodian,
    keys: usize,
}

impl Fleet {
    /// Makes the keys in the token and their rows in the store, past the vault: by its own calls,
    /// one by one and each acknowledged for itself, it would take far longer than what is measured.
    fn new(keys: usize) -> Result<Self> {
        let mut kept = Kept::new();
        let reader = Custodian::new(kept.vault.dir(), "reader");
        kept.vault.stop();
        let made = tokens::apart(&kept.vault.file("softhsm2.conf"), "vault", Work::Make, keys)?;
        let store = format!("sqlite:{}", kept.vault.path("vault.db"));
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let store = SqlStore::open(&store, 1).await?;
            for (line, number) in made.lines().zip(1..) {
                let Made { id, spki } = serde_json::from_str(line)?;
                let record = KeyRecord {
                    id,
                    name: format!("fleet-{number}"),
                    version: 1,
                    purpose: KeyPurpose::General,
                    algorithm: Algorithm::EcP256,
                    escrow: Escrow::Wrapped,
                    state: KeyState::Active,
                    spki_der: hex::decode(spki)?,
                    labels: std::collections::BTreeMap::new(),
                    created_at: OffsetDateTime::now_utc(),
                };
                store.insert_key(&record, None).await?;
            }
            anyhow::Ok(())
        })?;
        kept.vault.start();
        let fleet = Self { kept, reader, keys };
        // What a token is asked for the first time, it reads from its files.
        fleet.create_once(&fleet.kept.vault.path("first.age"))?;
        Ok(fleet)
    }

    fn token(&self, work: Work) -> Result<Took> {
        let config = self.kept.vault.file("softhsm2.conf");
        let took = tokens::apart(&config, "vault", work, self.keys)?;
        Ok(serde_json::from_str(&took)?)
    }

    /// Makes a backup; answers what it took and how much more memory than idle the vault had, in MiB.
    fn create(&mut self, file: &str) -> Result<(f64, f64)> {
        let pid = self.kept.vault.process().id();
        let idle = cpu::resident_mib(pid)?;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = idle;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(cpu::resident_mib(pid).unwrap_or(most));
                    thread::sleep(LOOK);
                }
                most - idle
            });
            let took = self.create_once(file);
            done.store(true, Ordering::Relaxed);
            let more = watch.join().map_err(|_| anyhow::anyhow!("who looked on has failed"))?;
            Ok((took?, more))
        })
    }

    fn create_once(&self, file: &str) -> Result<f64> {
        let recipient = self.reader.recipient.as_str();
        let began = Instant::now();
        self.kept.vault.ok(&["backup", "create", "--out", file, "--recipient", recipient]);
        Ok(began.elapsed().as_secs_f64())
    }

    fn verify(&self, file: &str) -> Result<f64> {
        let identity = self.reader.identity.display().to_string();
        let began = Instant::now();
        let said = self.kept.vault.json(&["backup", "verify", file, "--identity", &identity]);
        let took = began.elapsed().as_secs_f64();
        let wrapped = said["counts"]["keys_wrapped"].as_u64().unwrap_or_default();
        ensure!(wrapped >= self.keys as u64, "{said}");
        Ok(took)
    }

    fn drill(&self, file: &str, report: &str) -> Result<f64> {
        let Kept { vault, keepers, .. } = &self.kept;
        let mut args = vec!["drill".to_owned(), "run".to_owned(), file.to_owned()];
        args.extend(["--identity".to_owned(), self.reader.identity.display().to_string()]);
        args.extend(share_flags(keepers.iter().take(2), &self.kept.shares()));
        args.extend(["--report".to_owned(), vault.path(report)]);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let began = Instant::now();
        vault.ok(&args);
        Ok(began.elapsed().as_secs_f64())
    }
}

/// The cost of unwrapping and signing in a token of its own.
fn recover(scratch: &Path, keys: usize) -> Result<Took> {
    Ok(serde_json::from_str(&tokens::apart(scratch, tokens::SCRATCH, Work::Recover, keys)?)?)
}

#[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
fn per_key(seconds: f64, keys: usize) -> f64 {
    seconds * 1e6 / keys as f64
}
