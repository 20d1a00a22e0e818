//! What the standard asks of a module, whoever loads it: each test is a scenario in C, and they are
//! done once more under valgrind.

use testkit::{programs::must, signer_socket::module};

use super::host::{ends_well, passes, scenario, socket};

#[test]
fn nothing_too_much_and_nonsense_are_answered_with_the_standards_codes() {
    passes(&socket(), "arguments");
}

#[test]
fn attributes_and_searches_keep_the_standards_rules() {
    passes(&socket(), "attributes");
}

#[test]
fn a_signature_begins_and_ends_as_the_standard_says_and_costs_one_question() {
    let socket = socket();
    let asked = passes(&socket, "operations");
    let seen = socket.asked();
    assert_eq!(asked.trim(), seen.signatures.to_string(), "size queries are not asked for");
    assert_eq!(seen.connections, 1, "one thread needs one connection: {seen:?}");
}

#[test]
fn a_host_may_fork_at_any_time_and_lose_its_children() {
    passes(&socket(), "forks");
}

#[test]
fn a_host_may_become_a_daemon_and_close_everything_it_has_open() {
    passes(&socket(), "daemonised");
}

#[test]
fn a_host_may_end_the_module_and_load_it_again() {
    passes(&socket(), "reload");
}

#[test]
fn valgrind_finds_nothing() {
    let scenarios = [
        ("arguments", true),
        ("attributes", true),
        ("operations", true),
        ("daemonised", true),
        // What is lost here is lost on purpose: when the module is unloaded, because another thread
        // could be inside; in a child, because its parent's threads are not there to free theirs.
        ("reload", false),
        ("forks", false),
    ];
    for (name, and_leaks) in scenarios {
        let socket = socket();
        let plain = scenario(&socket, name);
        let mut valgrind = socket.command("valgrind");
        valgrind.args(["--quiet", "--error-exitcode=99", "--trace-children=yes"]);
        if and_leaks {
            valgrind.args(["--leak-check=full", "--errors-for-leak-kinds=definite"]);
        }
        valgrind.arg(plain.get_program()).args(plain.get_args()).env("ROUNDS", "1");
        ends_well(valgrind);
    }
}

#[test]
fn the_module_has_one_symbol_and_needs_nothing_but_libc() {
    let module = module().display().to_string();
    let symbols = must("nm", &["--dynamic", "--defined-only", "--format=posix", &module]);
    let names: Vec<_> = symbols.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["C_GetFunctionList"]);
    let needed = must("readelf", &["--dynamic", "--wide", &module]);
    for library in needed.lines().filter_map(|line| line.split_once("Shared library: [")) {
        let name = library.1.trim_end_matches(']');
        let usual = ["libc.so", "libgcc_s.so", "ld-linux", "libm.so"];
        assert!(usual.iter().any(|usual| name.starts_with(usual)), "it needs {name}");
    }
}
