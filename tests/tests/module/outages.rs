//! An agent that goes away, comes back with other keys, is slow or is none.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use testkit::{
    process::eventually,
    programs::{must, run},
    signer_key::Kind,
    signer_socket::{SignerSocket, TOKEN, module},
};

use super::host::{passes, scenario, socket};

/// How often the agent is restarted under load.
const RESTARTS: usize = 15;

/// A scenario that goes on until its stdin ends.
fn start(socket: &SignerSocket, name: &str) -> Child {
    let mut command = scenario(socket, name);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until it says so.
fn says(child: &mut Child, what: &str) {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line.trim() != what {
        child.kill().unwrap();
        let mut why = String::new();
        std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut why).unwrap();
        panic!("it says {line:?}, not {what:?}: {why}");
    }
}

fn ends(mut child: Child) {
    child.stdin.take().unwrap().flush().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn list(socket: &SignerSocket) -> Command {
    let mut command = socket.command("pkcs11-tool");
    command.arg("--module").arg(module()).arg("--list-objects");
    command
}

#[test]
fn an_agent_that_restarts_under_sixteen_threads_costs_no_signature() {
    let mut socket = socket();
    let mut child = start(&socket, "threads");
    says(&mut child, "signing");
    for _ in 0..RESTARTS {
        socket.stop();
        let before = socket.asked().signatures;
        socket.start();
        eventually("signatures after the restart", || {
            (socket.asked().signatures > before + 32).then_some(())
        });
    }
    ends(child);
}

#[test]
fn sixteen_threads_keep_their_connections() {
    let socket = socket();
    let mut child = start(&socket, "threads");
    says(&mut child, "signing");
    let before = socket.asked().signatures;
    eventually("signatures", || (socket.asked().signatures > before + 500).then_some(()));
    ends(child);
    let asked = socket.asked();
    // Two that look for an idle one at once may miss it; what is opened then is kept too.
    assert!(asked.connections <= 48, "{asked:?}");
}

#[test]
fn a_renewal_with_a_new_key_is_found_by_the_next_search() {
    let socket = socket();
    let mut child = start(&socket, "renewal");
    says(&mut child, "found");
    socket.remove("ec");
    socket.add(Kind::P256, "ec");
    ends(child);
}

#[test]
fn an_agent_that_closes_after_each_answer_costs_no_signature() {
    let socket = socket();
    socket.hang_up(true);
    passes(&socket, "operations");
}

#[test]
fn nothing_waits_for_another_threads_signature() {
    let socket = socket();
    socket.slow_down(Duration::from_secs(3600));
    let mut child = start(&socket, "waiting");
    eventually("a signature that is awaited", || (socket.asked().signatures > 0).then_some(()));
    drop(child.stdin.take());
    says(&mut child, "all else is done");
    assert!(child.wait().unwrap().success());
}

/// A program that looks for keys, and an agent that comes after it.
fn lists_once_it_is_there(mut socket: SignerSocket) {
    let command = list(&socket);
    let waiting = thread::spawn(move || run(command));
    // Whether it came first or not, it must succeed; mostly it does come first.
    thread::sleep(Duration::from_millis(300));
    socket.start();
    let ended = waiting.join().unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("shop"), "{ended:?}");
}

#[test]
fn a_program_that_starts_before_the_agent_waits_for_it() {
    let socket = SignerSocket::new();
    socket.add(Kind::P256, "shop");
    lists_once_it_is_there(socket);
}

#[test]
fn without_an_agent_its_list_on_disk_says_what_there_is() {
    let socket = SignerSocket::new();
    socket.add(Kind::P256, "shop");
    socket.keep_list();
    // So long that the test would not end if anything waited.
    for more in [["--list-slots"], ["--list-objects"]] {
        let mut command = list(&socket);
        command.args(more).env("VAULT_AGENT_TIMEOUT_MS", "4000000000");
        let ended = run(command);
        assert_eq!(ended.code, 0, "{ended:?}");
        let expected = if more == ["--list-slots"] { TOKEN } else { "shop" };
        assert!(ended.stdout.contains(expected), "{ended:?}");
    }
}

#[test]
fn an_agent_that_hangs_is_not_waited_for_where_its_list_on_disk_says_what_there_is() {
    let socket = SignerSocket::new();
    socket.add(Kind::P256, "shop");
    socket.keep_list();
    // Connections are taken by the kernel, and nobody reads them.
    let _hangs = UnixListener::bind(socket.path()).unwrap();
    let mut command = list(&socket);
    command.env("VAULT_AGENT_TIMEOUT_MS", "4000000000");
    let ended = run(command);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("shop"), "{ended:?}");
}

#[test]
fn an_agents_word_counts_more_than_its_list_on_disk() {
    let mut socket = SignerSocket::new();
    socket.add(Kind::P256, "before");
    socket.keep_list();
    socket.remove("before");
    socket.add(Kind::P256, "now");
    socket.start();
    let ended = run(list(&socket));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("now") && !ended.stdout.contains("before"), "{ended:?}");
}

#[test]
fn what_is_not_on_the_list_on_disk_is_waited_for() {
    let socket = SignerSocket::new();
    socket.keep_list();
    socket.add(Kind::P256, "shop");
    lists_once_it_is_there(socket);
}

#[test]
fn what_is_no_list_on_disk_is_left_alone() {
    for what in ["garbage", "a directory", "a pipe that nobody writes"] {
        let socket = SignerSocket::new();
        let kept = socket.kept();
        match what {
            "garbage" => fs::write(kept, [0xff; 64]).unwrap(),
            "a directory" => fs::create_dir(kept).unwrap(),
            _ => drop(must("mkfifo", &[&kept.display().to_string()])),
        }
        let mut command = list(&socket);
        command.env("VAULT_AGENT_TIMEOUT_MS", "200");
        let ended = run(command);
        assert_ne!(ended.code, 0, "{what}: {ended:?}");
        assert!(ended.stderr.contains("CKR_DEVICE_ERROR"), "{what}: {ended:?}");
    }
}

#[test]
fn without_an_agent_there_is_a_token_with_a_name_and_an_error_for_its_objects() {
    let socket = SignerSocket::new();
    let mut slots = list(&socket);
    slots.arg("--list-slots").env("VAULT_AGENT_TIMEOUT_MS", "200");
    let shown = run(slots);
    assert!(shown.stdout.contains("vault-agent"), "{shown:?}");
    let mut objects = list(&socket);
    objects.env("VAULT_AGENT_TIMEOUT_MS", "200");
    let ended = run(objects);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("CKR_DEVICE_ERROR"), "{ended:?}");
    assert!(ended.stderr.contains("does vault-agent run?"), "{ended:?}");
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_an_error() {
    let socket = SignerSocket::with(&[(Kind::P256, "shop")]);
    socket.slow_down(Duration::from_secs(3600));
    fs::write(socket.file("data"), "message").unwrap();
    let mut command = socket.command("pkcs11-tool");
    command.env("VAULT_AGENT_TIMEOUT_MS", "1500").arg("--module").arg(module());
    command.args(["--sign", "--label", "shop", "--mechanism", "ECDSA-SHA256"]);
    command.args(["--input-file", "data", "--output-file", "signature"]);
    let ended = run(command);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("CKR_DEVICE_ERROR"), "{ended:?}");
    assert!(ended.stderr.contains("it did not answer in time"), "{ended:?}");
}

#[test]
fn a_path_that_is_no_socket_is_refused_and_not_waited_for() {
    let socket = SignerSocket::new();
    fs::write(socket.path(), "a file").unwrap();
    let mut command = list(&socket);
    // So long that the test would not end if it waited.
    command.env("VAULT_AGENT_TIMEOUT_MS", "4000000000");
    let ended = run(command);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("the path names no socket"), "{ended:?}");
}
