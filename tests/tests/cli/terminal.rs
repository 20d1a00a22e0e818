//! Colours: on a terminal, where they are wanted.

use std::process::Command;

use testkit::programs::{Ended, ours, run};

use super::verbs::{PROGRAMS, bare};

/// Runs a program on a terminal of its own.
fn on_terminal(program: &str, args: &[&str], no_color: Option<&str>) -> Ended {
    let line = [&[ours(program).to_str().unwrap()], args].concat().join(" ");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command.env_remove("CI");
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    run(command)
}

#[test]
fn no_color_is_obeyed_on_a_terminal() {
    for program in PROGRAMS {
        for (args, code) in [(&["--help"][..], 0), (&["no-such-verb"], 2)] {
            let colourful = on_terminal(program, args, None);
            assert_eq!(colourful.code, code, "{colourful:?}");
            assert!(colourful.stdout.contains('\x1b'), "{program}: {colourful:?}");
            let plain = on_terminal(program, args, Some("1"));
            assert_eq!(plain.code, code, "{plain:?}");
            assert!(!plain.stdout.contains('\x1b'), "{program}: {plain:?}");
        }
    }
}

#[test]
fn off_a_terminal_there_are_no_colours() {
    for program in PROGRAMS {
        for args in [&["--help"][..], &["no-such-verb"], &[]] {
            let ended = bare(program, args);
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!said.is_empty() && !said.contains('\x1b'), "{program} {args:?}: {said}");
        }
    }
}
