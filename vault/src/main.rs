//! `vaultd`: arguments, logging, signals. Everything else is `app`'s.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    thread,
};

use clap::{Parser, Subcommand, ValueEnum, error::ErrorKind};
use tikv_jemallocator::Jemalloc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use vault::{
    app::{Ending, drill, officer},
    backup::ceremony::Rebuilt,
    config::{self, Config, SecretSource},
    error::{Error, Result},
    keystore::pkcs11::TokenUri,
};

/// Also what the HSM's module and its libraries call as `malloc`: they allocate more for a signature than the
/// vault does, and from many threads.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Keeps private keys in an HSM, signs with them, and gets, renews and pushes certificates.
#[derive(Parser)]
#[command(name = "vaultd", version, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the vault.
    #[command(after_help = "Example: vaultd run --config /etc/vaultd/vault.toml")]
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How log lines are written to stderr. RUST_LOG says which.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Puts a quorum's KEK into a token, for unwrapping only.
    #[command(after_help = "Example: vaultd install-kek --share ops.json --share audit.json \
        --pin-file pin --token 'pkcs11:token=drill?module-path=/usr/lib/softhsm/libsofthsm2.so'")]
    InstallKek {
        /// The token: of a standby or a drill host, never a live vault's.
        #[arg(long, value_name = "URI")]
        token: TokenUri,
        /// The file that holds the token's user PIN.
        #[arg(long, value_name = "FILE")]
        pin_file: PathBuf,
        /// A custodian's share, as an age file or opened; a quorum's are needed.
        #[arg(long = "share", value_name = "FILE", required = true)]
        shares: Vec<PathBuf>,
        /// An age identity that opens shares; may be repeated.
        #[arg(long = "identity", value_name = "FILE")]
        identities: Vec<PathBuf>,
    },
    /// Started by a running vault itself, to create a KEK as the security officer.
    #[command(hide = true)]
    CreateKek {
        /// The token.
        #[arg(long)]
        token: TokenUri,
    },
    /// Started by `vaultctl drill run`, to restore a backup into a token and a store of its own.
    #[command(hide = true)]
    Drill(drill::Args),
    /// Checks a configuration file; says every fault with its line.
    #[command(after_help = "Example: vaultd check-config --config /etc/vaultd/vault.toml")]
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _crash_points = fail::FailScenario::setup();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return misused(&error),
    };
    let done = match args.verb {
        Verb::CheckConfig { config } => config::load(&config).map(drop),
        Verb::InstallKek { token, pin_file, shares, identities } => {
            let pin = SecretSource::File(pin_file);
            officer::install_kek(&token, &pin, &shares, &identities).and_then(|kek| installed(&kek))
        }
        Verb::CreateKek { token } => officer::create_kek(&token),
        Verb::Drill(args) => drill::run(args),
        Verb::Run { config, log_format } => {
            start_logging(log_format);
            config::load(&config).and_then(run)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Help and versions, which were asked for, and everything that the command line has wrong.
#[allow(clippy::print_stderr)] // the last words of a program
fn misused(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let wrong = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if wrong && error.use_stderr() {
        eprintln!("hint: --help behind the verb shows what it takes, with an example");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Says which KEK was installed, as one line of JSON: `vaultctl` shows it.
fn installed(rebuilt: &Rebuilt) -> Result<()> {
    use std::io::Write as _;
    let said = serde_json::json!({ "kek_id": rebuilt.kek.id, "vault_id": rebuilt.vault_id,
        "check_value": rebuilt.check_value });
    writeln!(std::io::stdout(), "{said}").map_err(|e| Error::internal("write", "the result", e))
}

#[allow(clippy::print_stderr)] // the last words of a program
fn report(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    if !error.hint.is_empty() {
        eprintln!("hint: {}", error.hint);
    }
    ExitCode::from(error.kind.exit_code())
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Colours are for people who look on and have not said no (https://no-color.org).
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Starts this program anew where the module needs variables that are not set: changing the
/// environment of a running process is not safe.
fn restart_with_environment(config: &Config) -> Result<()> {
    let wanted = &config.hsm.environment;
    if wanted.iter().all(|(name, value)| std::env::var(name).as_ref() == Ok(value)) {
        return Ok(());
    }
    Err(start_anew(wanted))
}

/// Becomes this program anew, with the same arguments and more variables; answers why not.
fn start_anew(more: &BTreeMap<String, String>) -> Error {
    let failed = |e: std::io::Error| Error::internal("start", "vaultd anew", e);
    match std::env::current_exe() {
        Ok(own) => failed(Command::new(own).args(std::env::args_os().skip(1)).envs(more).exec()),
        Err(error) => failed(error),
    }
}

/// Threads that wait for the network: half as many as processors. The others are for those that
/// wait for the HSM, and threads that look for work where there is little take it from each other.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

fn run(config: Config) -> Result<()> {
    restart_with_environment(&config)?;
    match serve(config)? {
        Ending::Stopped => Ok(()),
        // What this process knows of token, store and log is of the time before the restore.
        Ending::Anew => Err(start_anew(&BTreeMap::new())),
    }
}

fn serve(config: Config) -> Result<Ending> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads())
        .enable_all()
        .build()
        .map_err(|e| Error::internal("start", "the runtime", e))?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone())?);
        vault::app::run(config, stop).await
    })
}

/// Cancels `stop` at SIGTERM or SIGINT; a second signal ends the process at once.
fn stop_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
    let failed = |e: std::io::Error| Error::internal("wait", "signals", e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        for code in [None, Some(1)] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match code {
                None => stop.cancel(),
                // Without exit handlers: they would pull the HSM's module away under a call.
                Some(code) => signal_hook::low_level::exit(code),
            }
        }
    })
}
