//! The verbs, as the programs' own help has them.

use std::process::Command;

use testkit::programs::{Ended, ours, run};

/// The programs of the contract.
pub const PROGRAMS: &[&str] = &["vaultd", "vaultctl", "vault-agent"];

/// Runs a program with nothing of the caller's environment that it would read.
pub fn bare(program: &str, args: &[&str]) -> Ended {
    let mut command = Command::new(ours(program));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("VAULT") || text == "NO_COLOR" || text == "CLICOLOR_FORCE" {
            command.env_remove(&name);
        }
    }
    command.args(args);
    run(command)
}

/// Every verb of a program, as the words behind its name: `["key", "list"]`.
pub fn verbs(program: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut left = vec![Vec::<String>::new()];
    while let Some(words) = left.pop() {
        let inner = commands(&help(program, &words).stdout);
        if inner.is_empty() {
            found.push(words);
            continue;
        }
        left.extend(inner.into_iter().map(|word| [&words[..], &[word]].concat()));
    }
    found.sort();
    found
}

/// `--help` of a verb.
pub fn help(program: &str, words: &[String]) -> Ended {
    let mut args: Vec<_> = words.iter().map(String::as_str).collect();
    args.push("--help");
    bare(program, &args)
}

/// The words below `Commands:` of a help text.
fn commands(help: &str) -> Vec<String> {
    let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = below.take_while(|line| line.starts_with("  "));
    // What is said of a verb may go on in the next line.
    let lines = lines.filter(|line| !line.starts_with("   "));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word != "help").map(str::to_owned).collect()
}

/// The options of a help text: name and, where it takes one, the name of its value.
pub fn options(help: &str) -> Vec<(String, Option<String>)> {
    let lines = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
    let option = |line: &str| {
        let long = line.split_whitespace().find(|word| word.starts_with("--"))?;
        let value = line.split_once('<').map(|(_, rest)| rest.split('>').next().unwrap_or(rest));
        Some((long.trim_end_matches(',').to_owned(), value.map(str::to_owned)))
    };
    lines.filter_map(option).collect()
}
