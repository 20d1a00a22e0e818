//! `vaultctl`: the operators' tool.

mod args;
mod client;
mod cmd;
mod error;
mod files;
mod output;
mod profile;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Noun};
use cmd::Context;
use error::{Error, Result};

fn main() -> ExitCode {
    match run(Cli::parse_from(args::tell_profiles_apart(std::env::args_os().collect()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
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
        Noun::Key(verb) => cmd::key::run(context, verb).await,
        Noun::Csr(verb) => cmd::csr::run(context, verb).await,
        Noun::Jws(verb) => cmd::jws::run(context, verb).await,
        Noun::Account(verb) => cmd::account::run(context, verb).await,
        Noun::Cert(verb) => cmd::cert::run(context, verb).await,
        Noun::Agent(verb) => cmd::agent::run(context, verb).await,
        Noun::Operator(verb) => cmd::operator::run(context, verb).await,
        Noun::Audit(verb) => cmd::audit::run(context, verb).await,
        Noun::Completions(args) => cmd::meta::completions(Cli::command(), &args),
        Noun::Man(args) => cmd::meta::man(Cli::command(), &args),
    }
}
