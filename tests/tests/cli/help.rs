//! Help, versions, completions and man pages.

use std::{collections::BTreeSet, fs};

use testkit::programs::must;

use super::verbs::{PROGRAMS, bare, help, options, verbs};

/// What the contract has and is there; the rest is for later.
const CONTRACT: &[(&str, &[&str])] = &[
    ("vaultd", &["run", "check-config"]),
    ("vault-agent", &["enroll", "run", "status", "check-config"]),
    (
        "vaultctl",
        &[
            "init",
            "status",
            "key generate",
            "key list",
            "key show",
            "key public",
            "key rotate",
            "key destroy",
            "key sign",
            "csr create",
            "jws sign",
            "account register",
            "account list",
            "account show",
            "account rollover",
            "account deactivate",
            "cert issue",
            "cert list",
            "cert show",
            "cert chain",
            "cert history",
            "cert renew",
            "cert revoke",
            "cert delete",
            "cert deploy",
            "cert undeploy",
            "agent token",
            "agent list",
            "agent show",
            "agent evict",
            "audit query",
            "audit tail",
            "audit verify",
            "backup create",
            "backup verify",
            "backup restore",
            "drill run",
            "drill list",
            "drill show",
            "completions",
            "man",
        ],
    ),
];

#[test]
fn every_verb_of_the_contract_is_there() {
    for (program, contract) in CONTRACT {
        let there: BTreeSet<_> = verbs(program).iter().map(|words| words.join(" ")).collect();
        for verb in *contract {
            assert!(there.contains(*verb), "{program} {verb}: {there:?}");
        }
    }
}

#[test]
fn every_verb_helps_with_an_example_of_itself() {
    for program in PROGRAMS {
        for words in verbs(program) {
            let ended = help(program, &words);
            assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{program} {words:?}");
            let example = ended.stdout.split("Example: ").nth(1);
            let example = example.unwrap_or_else(|| panic!("{program} {words:?} has no example"));
            let example: Vec<_> = example.split_whitespace().collect();
            assert_eq!(example[0], *program);
            let verb: Vec<_> = words.iter().map(String::as_str).collect();
            let mut said = example.windows(verb.len());
            assert!(said.any(|part| part == verb), "{words:?}: the example is {example:?}");
        }
    }
}

#[test]
fn every_program_and_verb_says_its_version() {
    for program in PROGRAMS {
        let ended = bare(program, &["--version"]);
        let version = format!("{program} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((ended.code, ended.stdout, ended.stderr), (0, version, String::new()));
    }
    for words in verbs("vaultctl") {
        let args: Vec<_> = words.iter().map(String::as_str).chain(["--version"]).collect();
        let ended = bare("vaultctl", &args);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.stdout.trim().ends_with(env!("CARGO_PKG_VERSION")), "{ended:?}");
    }
}

/// What may stand for a secret in the name of an option.
const SECRETS: &[&str] = &[
    "pin",
    "token",
    "hmac",
    "share",
    "secret",
    "password",
    "passphrase",
    "identity",
    "credential",
];

#[test]
fn no_option_takes_a_secret_itself() {
    let mut looked_at = Vec::new();
    for program in PROGRAMS {
        for words in verbs(program) {
            for (option, value) in options(&help(program, &words).stdout) {
                let parts: Vec<_> = option.trim_start_matches('-').split('-').collect();
                let secret = |part: &&str| SECRETS.contains(&part.trim_end_matches('s'));
                if !parts.iter().any(secret) {
                    continue;
                }
                let value = value.unwrap_or_else(|| panic!("{words:?} {option} takes no value"));
                // A PKCS#11 token is named by its URI, which is refused where it holds a PIN.
                let token = (option.as_str(), value.as_str()) == ("--token", "URI");
                let named = ["FILE", "DIR"].contains(&value.as_str());
                assert!(named || token, "{words:?} {option} {value}");
                looked_at.push(option);
            }
        }
    }
    for known in ["--token-file", "--eab-hmac-file", "--shares-dir", "--identity", "--share"] {
        assert!(looked_at.iter().any(|option| option == known), "{looked_at:?}");
    }
}

#[test]
fn completions_are_what_the_shells_take() {
    for (shell, begins) in
        [("bash", "_vaultctl()"), ("zsh", "#compdef vaultctl"), ("fish", "complete -c vaultctl")]
    {
        let ended = bare("vaultctl", &["completions", shell]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{shell}");
        assert!(ended.stdout.contains(begins), "{shell}: {}", ended.stdout);
        for word in ["rollover", "undeploy", "threshold"] {
            assert!(ended.stdout.contains(word), "{shell}: {word}");
        }
    }
    bare("vaultctl", &["completions", "cmd.exe"]).refused(2, "cmd.exe");
    // Asked as bash asks it.
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("completions");
    fs::write(&script, bare("vaultctl", &["completions", "bash"]).stdout).unwrap();
    let ask = format!(
        "source {script:?}; COMP_WORDS=(vaultctl cert re); COMP_CWORD=2; \
         _vaultctl vaultctl re cert; echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(must("bash", &["-c", &ask]).trim(), "renew revoke");
}

#[test]
fn every_verb_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("not/yet/there");
    let ended = bare("vaultctl", &["man", pages.to_str().unwrap()]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    for words in verbs("vaultctl").into_iter().chain([Vec::new()]) {
        let name = [&["vaultctl".to_owned()], &words[..]].concat().join("-");
        let page = pages.join(format!("{name}.1"));
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(text.contains(&format!(".TH {name} 1")), "{name}");
        assert!(words.is_empty() || text.contains("Example: vaultctl"), "{name}");
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let ended = bare("vaultctl", &["man", file.join("below").to_str().unwrap()]);
    ended.refused(2, "write man pages");
}

#[test]
fn a_program_without_a_verb_shows_what_there_is() {
    for program in PROGRAMS {
        let ended = bare(program, &[]);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{program}");
        assert!(ended.stderr.contains("Usage: "), "{ended:?}");
    }
}
