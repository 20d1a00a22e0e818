//! `vaultctl`: the operators' tool.

mod args;
mod client;
mod cmd;
mod error;
mod files;
mod output;
mod plot;
mod profile;
mod progress;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};

use args::{Cli, Noun};
use cmd::Context;
use error::{Error, Result};

fn main() -> ExitCode {
    let cli = match parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn parse(args: Vec<std::ffi::OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(args::tell_profiles_apart(args))?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.connection.prefer_arguments(&matches);
    Ok(cli)
}

/// Help and versions, which were asked for, and everything that the command line has wrong.
fn misused(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let wrong = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if wrong && error.use_stderr() {
        output::note("hint: --help behind the verb shows what it takes, with an example");
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::local("start", "the runtime", e))?;
    let context = Context { target: cli.connection.target(), format: cli.output, yes: cli.yes };
    runtime.block_on(dispatch(&context, cli.noun))
}

async fn dispatch(context: &Context, noun: Noun) -> Result<()> {
    match noun {
        Noun::Init(args) => cmd::init::run(context, args).await,
        Noun::Shares(args) => cmd::init::shares(context, args).await,
        Noun::Status => cmd::status::run(context).await,
        Noun::Kek(verb) => cmd::kek::run(context, verb).await,
        Noun::Key(verb) => cmd::key::run(context, verb).await,
        Noun::Csr(verb) => cmd::csr::run(context, verb).await,
        Noun::Jws(verb) => cmd::jws::run(context, verb).await,
        Noun::Account(verb) => cmd::account::run(context, verb).await,
        Noun::Cert(verb) => cmd::cert::run(context, verb).await,
        Noun::Fleet(verb) => cmd::fleet::run(context, verb).await,
        Noun::Agent(verb) => cmd::agent::run(context, verb).await,
        Noun::Operator(verb) => cmd::operator::run(context, verb).await,
        Noun::Audit(verb) => cmd::audit::run(context, verb).await,
        Noun::Backup(verb) => cmd::backup::run(context, verb).await,
        Noun::Drill(verb) => cmd::drill::run(context, verb).await,
        Noun::Completions(args) => cmd::meta::completions(Cli::command(), &args),
        Noun::Man(args) => cmd::meta::man(Cli::command(), &args),
    }
}
