//! `vaultd`: arguments, logging, signals. Everything else is `app`'s.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum, error::ErrorKind};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag, low_level,
};
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

/// How long a vault that has drained waits for the last of its threads. All that it has acknowledged is on
/// disk by then, so one that hangs in a module must not hold the process.
const PARTING: Duration = Duration::from_secs(60);

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

fn main() -> ! {
    #[cfg(feature = "failpoints")]
    let _crash_points = fail::FailScenario::setup();
    let code = carry_out();
    let _ = io::stdout().flush();
    // Without exit handlers. The HSM's module has its own, and so have the libraries under it: they take down
    // what threads of this process, or one another, may still use, and one may wait for ever for what another
    // has taken down.
    low_level::exit(code.into())
}

/// Does what the command line asks for; answers the exit code.
fn carry_out() -> u8 {
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
        Ok(()) => 0,
        Err(error) => report(&error),
    }
}

/// Help and versions, which were asked for, and everything that the command line has wrong.
#[allow(clippy::print_stderr)] // the last words of a program
fn misused(error: &clap::Error) -> u8 {
    let _ = error.print();
    let wrong = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if wrong && error.use_stderr() {
        eprintln!("hint: --help behind the verb shows what it takes, with an example");
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// Says which KEK was installed, as one line of JSON: `vaultctl` shows it.
fn installed(rebuilt: &Rebuilt) -> Result<()> {
    let said = serde_json::json!({ "kek_id": rebuilt.kek.id, "vault_id": rebuilt.vault_id,
        "check_value": rebuilt.check_value });
    writeln!(io::stdout(), "{said}").map_err(|e| Error::internal("write", "the result", e))
}

#[allow(clippy::print_stderr)] // the last words of a program
fn report(error: &Error) -> u8 {
    eprintln!("error: {error}");
    if !error.hint.is_empty() {
        eprintln!("hint: {}", error.hint);
    }
    error.kind.exit_code()
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Colours are for people who look on and have not said no (https://no-color.org).
    let colours = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(io::stderr);
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
    let failed = |e: io::Error| Error::internal("start", "vaultd anew", e);
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
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone())?);
        vault::app::run(config, stop).await
    });
    runtime.shutdown_timeout(PARTING);
    ended
}

/// Cancels `stop` at SIGTERM or SIGINT; a second signal ends the process at once, even where it hangs.
fn stop_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
    let failed = |e: io::Error| Error::internal("wait", "signals", e);
    let told = Arc::new(AtomicBool::new(false));
    for number in [SIGTERM, SIGINT] {
        // In this order: the first signal finds that nobody was told yet.
        flag::register_conditional_shutdown(number, 1, told.clone()).map_err(failed)?;
        flag::register(number, told.clone()).map_err(failed)?;
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
