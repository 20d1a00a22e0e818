//! `make bench`: the vault and what it is built on, side by side in one run.
//!
//! Every ratio is formed within a round, from runs that follow each other, so that a machine that
//! is slow for a while is slow for both sides. A result is the median of the rounds.

mod acme;
mod agent_connection;
mod backup;
mod cpu;
mod footprint;
mod latency;
mod plot;
mod raw;
mod results;
mod sign;
mod sign_stream;
mod sites;
mod tls;
mod tokens;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};

use results::Results;

/// Measures the vault.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Rounds; a result is their median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one side of one round runs, in milliseconds.
    #[arg(long, default_value_t = 1500)]
    millis: u64,
    /// Keys of the vault whose backup is measured.
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Certificates that are ordered at once.
    #[arg(long, default_value_t = 1_000)]
    certificates: usize,
    /// What to measure; everything without.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Where results.json goes.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where the plot goes; nowhere without.
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Sign,
    Tls,
    Backup,
    Acme,
    Footprint,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Signs by a PKCS#11 module from several threads; says as JSON how fast.
    Raw(raw::Args),
    /// Makes, wraps or unwraps a token's keys; says as JSON what came of it.
    Tokens(tokens::Args),
    /// Draws the ratios of an earlier run.
    Plot {
        /// Its results.json.
        results: PathBuf,
        /// Where the plot goes.
        plot: PathBuf,
    },
}

/// How often and how long.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rounds: usize,
    time: Duration,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match &args.command {
        Some(Command::Raw(raw)) => return raw::run(raw),
        Some(Command::Tokens(tokens)) => return tokens::run(tokens),
        Some(Command::Plot { results, plot }) => return plot::draw(&Results::read(results)?, plot),
        None => {}
    }
    let pace = Pace { rounds: args.rounds.max(1), time: Duration::from_millis(args.millis) };
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut results = Results::default();
    if wanted(Part::Sign) {
        sign::measure(pace, &mut results)?;
    }
    if wanted(Part::Tls) {
        tls::measure(pace, &mut results)?;
    }
    if wanted(Part::Backup) {
        backup::measure(pace, args.keys, &mut results)?;
    }
    if wanted(Part::Acme) {
        acme::measure(pace, args.certificates, &mut results)?;
    }
    if wanted(Part::Footprint) {
        footprint::measure(pace, &mut results)?;
    }
    fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    results.write(&args.out.join("results.json"))?;
    if let Some(file) = &args.plot {
        plot::draw(&results, file)?;
    }
    if !testkit::namespace::is_inside() {
        results.print();
    }
    Ok(())
}
