//! `vault-agent`: receives certificate chains by push, installs them atomically, reloads the web
//! server by its own commands and proves by a handshake that the new chain is served.

mod app;
mod challenge;
mod command;
mod config;
mod connect;
mod desired;
mod durable;
mod enroll;
mod error;
mod identity;
mod install;
mod keys;
mod prove;
mod signer;
mod snippet;
mod status;
mod subscribe;
mod tls_alpn;

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use connect::Fingerprint;
use error::{Error, Result};

/// Installs pushed certificate chains on a web server and proves that they are served.
#[derive(Parser)]
#[command(name = "vault-agent", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "VAULT_AGENT_CONFIG",
        default_value = "/etc/vault-agent/agent.toml"
    )]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Joins a vault with a one-time token and the fingerprint of its CA.
    #[command(after_help = "Example: vault-agent enroll --vault vault.example:8200 \
        --ca-fingerprint sha256:9f2c... --token-file token --config /etc/vault-agent/agent.toml")]
    Enroll {
        /// The vault.
        #[arg(long, value_name = "HOST:PORT")]
        vault: String,
        /// The fingerprint that `vaultctl agent token` has printed.
        #[arg(long, value_name = "sha256:HEX")]
        ca_fingerprint: Fingerprint,
        /// The file with the token that `vaultctl agent token` has printed.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
        /// Replaces the identity of an agent that is enrolled.
        #[arg(long)]
        replace: bool,
    },
    /// Runs the agent.
    #[command(after_help = "Example: vault-agent run --config /etc/vault-agent/agent.toml")]
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// How log lines are written to stderr. RUST_LOG says which.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Shows what is held, installed and served, since when.
    #[command(after_help = "Example: vault-agent status -o json")]
    Status {
        #[command(flatten)]
        config: ConfigFile,
        /// A table for people, or JSON.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Prints what a web server needs to use keys that the vault keeps.
    #[command(after_help = "Example: vault-agent snippet nginx --out /etc/vault-agent")]
    Snippet {
        #[command(flatten)]
        options: snippet::Options,
        #[command(flatten)]
        config: ConfigFile,
        /// Text to paste, or JSON.
        #[arg(short, long, value_enum, default_value_t = SnippetOutput::Text)]
        output: SnippetOutput,
    },
    /// Checks a configuration file.
    #[command(
        after_help = "Example: vault-agent check-config --config /etc/vault-agent/agent.toml"
    )]
    CheckConfig {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum SnippetOutput {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    match execute(cli.verb) {
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

#[allow(clippy::print_stderr)] // the last words of a program
fn report(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    if !error.hint.is_empty() {
        eprintln!("hint: {}", error.hint);
    }
    ExitCode::from(error.kind.exit_code())
}

fn execute(verb: Verb) -> Result<()> {
    match verb {
        Verb::CheckConfig { config } => config::load(&config.config).map(drop),
        Verb::Enroll { vault, ca_fingerprint, token_file, config, replace } => {
            let config = config::load(&config.config)?;
            let token = enroll::read_token(&token_file)?;
            let enrolled = enroll::enroll(&config, &vault, ca_fingerprint, &token, replace);
            let spiffe_id = runtime()?.block_on(enrolled)?;
            print(&format!("enrolled as {spiffe_id}"))
        }
        Verb::Status { config, output } => {
            let config = config::load(&config.config)?;
            let status = runtime()?.block_on(status::Status::read(&config))?;
            match output {
                Output::Table => print(&status.table()),
                Output::Json => print_json(&status),
            }
        }
        Verb::Snippet { options, config, output } => {
            let config = config::load(&config.config)?;
            let snippet = snippet::Snippet::make(&config, &options)?;
            match output {
                SnippetOutput::Text => print(&snippet.text()),
                SnippetOutput::Json => print_json(&snippet),
            }
        }
        Verb::Run { config, log_format } => {
            start_logging(log_format);
            let config = config::load(&config.config)?;
            runtime()?.block_on(async {
                let stop = CancellationToken::new();
                tokio::spawn(stop_on_signal(stop.clone())?);
                app::run(config, stop).await
            })
        }
    }
}

fn print(text: &str) -> Result<()> {
    let written = writeln!(std::io::stdout(), "{text}");
    written.map_err(|e| Error::local("write", "the answer", e))
}

fn print_json(answer: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(answer);
    print(&text.map_err(|e| Error::local("encode", "the answer", e))?)
}

/// One thread for everything that waits: a web server's machine has better things to do.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|e| Error::local("start", "the runtime", e))
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

/// Cancels `stop` at SIGTERM or SIGINT.
fn stop_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
    let failed = |e: std::io::Error| Error::local("wait", "signals", e);
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

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::local("run", "a blocking call", e))?
}
