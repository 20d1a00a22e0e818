//! The C program of `tests/c`, which loads the module as a web server does.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;
use testkit::{
    programs::{must, run},
    signer_key::Kind,
    signer_socket::{SignerSocket, module},
};

/// What the C program signs with.
pub fn socket() -> SignerSocket {
    SignerSocket::with(&[(Kind::P256, "ec"), (Kind::Rsa2048, "rsa")])
}

/// The program, told to do one of its scenarios.
pub fn scenario(socket: &SignerSocket, name: &str) -> Command {
    let mut command = socket.command(program());
    command.arg(module()).arg(name);
    command
}

/// Runs a scenario to its end; answers what it prints.
pub fn passes(socket: &SignerSocket, name: &str) -> String {
    ends_well(scenario(socket, name))
}

/// Runs a program that must succeed; answers what it prints.
pub fn ends_well(command: Command) -> String {
    let ended = run(command);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// Compiled once for all tests of this process.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &PROGRAM.get_or_init(compile).1
}

fn compile() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("host");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("c");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-o"]).arg(&program);
    for entry in sources.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "c") {
            compiler.arg(path);
        }
    }
    let header = must("pkg-config", &["--cflags", "p11-kit-1"]);
    compiler.args(header.split_whitespace()).args(["-lcrypto", "-lpthread", "-ldl"]);
    ends_well(compiler);
    (dir, program)
}
