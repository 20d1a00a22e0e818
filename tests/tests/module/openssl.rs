//! OpenSSL's engine and provider, by which web servers load the module. The servers themselves have
//! their own tests.

use std::{fs, path::PathBuf, process::Command};

use testkit::{
    programs::{must, run},
    signer_key::Kind,
    signer_socket::{SignerSocket, TOKEN, module},
};

use super::host::ends_well;

/// The keys of a web server, and the data that is signed.
fn socket() -> SignerSocket {
    let socket = SignerSocket::with(&[(Kind::P256, "p256"), (Kind::Rsa2048, "rsa")]);
    fs::write(socket.file("data"), "the whole message").unwrap();
    let digest =
        must("openssl", &["dgst", "-sha256", "-binary", "-hex", "-r", &file(&socket, "data")]);
    fs::write(socket.file("digest"), hex::decode(digest.split(' ').next().unwrap()).unwrap())
        .unwrap();
    socket
}

fn file(socket: &SignerSocket, name: &str) -> String {
    socket.file(name).display().to_string()
}

/// Where Debian keeps a library of OpenSSL's.
fn library(folder: &str) -> PathBuf {
    let machines = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = machines.map(|dir| dir.join(folder).join("pkcs11.so")).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no {folder}/pkcs11.so: deploy/dependencies.sh --for-tests"))
}

/// OpenSSL with the module, by a configuration file of its own.
fn openssl(socket: &SignerSocket, config: &str, arguments: &[&str]) -> Command {
    fs::write(socket.file("openssl.cnf"), config).unwrap();
    let mut command = socket.command("openssl");
    command.env("OPENSSL_CONF", socket.file("openssl.cnf")).args(arguments);
    command
}

fn engine() -> String {
    format!(
        "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n\
         [pkcs11]\nengine_id = pkcs11\ndynamic_path = {}\nMODULE_PATH = {}\n",
        library("engines-3").display(),
        module().display()
    )
}

fn provider() -> String {
    format!(
        "openssl_conf = init\n[init]\nproviders = providers\n\
         [providers]\ndefault = usual\npkcs11 = pkcs11\n[usual]\nactivate = 1\n\
         [pkcs11]\nmodule = {}\npkcs11-module-path = {}\npkcs11-module-load-behavior = early\n\
         activate = 1\n",
        library("ossl-modules").display(),
        module().display()
    )
}

fn uri(label: &str) -> String {
    format!("pkcs11:token={TOKEN};object={label};type=private")
}

fn verify(socket: &SignerSocket, label: &str, options: &[&str]) {
    let mut command = Command::new("openssl");
    command.current_dir(socket.dir()).args(["pkeyutl", "-verify", "-pubin", "-inkey"]);
    command.arg(format!("{label}.pub")).args(["-sigfile", "signature", "-in", "digest"]);
    command.args(["-pkeyopt", "digest:sha256"]).args(options);
    ends_well(command);
}

/// Signs a digest, as TLS libraries do by engine and provider alike.
const SIGN: [&str; 6] = ["pkeyutl", "-sign", "-in", "digest", "-out", "signature"];

const PADDINGS: [(&str, &[&str]); 3] = [
    ("p256", &[]),
    ("rsa", &[]),
    ("rsa", &["-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"]),
];

#[test]
fn the_engine_of_debian_signs_with_each_key() {
    let socket = socket();
    for (label, options) in PADDINGS {
        let key = uri(label);
        let mut command = openssl(&socket, &engine(), &SIGN);
        command.args(["-engine", "pkcs11", "-keyform", "engine", "-inkey", &key]);
        command.args(["-pkeyopt", "digest:sha256"]).args(options);
        ends_well(command);
        verify(&socket, label, options);
    }
    assert_eq!(socket.asked().signatures, PADDINGS.len(), "one question for each");
}

#[test]
fn the_engine_finds_keys_though_there_is_an_edwards_key() {
    let socket = socket();
    socket.add(Kind::Ed25519, "ed25519");
    let mut command = openssl(&socket, &engine(), &SIGN);
    command.args(["-engine", "pkcs11", "-keyform", "engine", "-inkey", &uri("p256")]);
    ends_well(command);
    verify(&socket, "p256", &[]);
}

#[test]
fn the_provider_signs_with_each_key() {
    let socket = socket();
    for (label, options) in PADDINGS {
        let mut command = openssl(&socket, &provider(), &SIGN);
        command.args(["-inkey", &uri(label), "-pkeyopt", "digest:sha256"]).args(options);
        ends_well(command);
        verify(&socket, label, options);
    }
}

#[test]
fn the_provider_hands_over_the_whole_message() {
    let socket = socket();
    for label in ["p256", "rsa"] {
        let key = uri(label);
        let arguments = ["dgst", "-sha256", "-sign", &key, "-out", "signature", "data"];
        ends_well(openssl(&socket, &provider(), &arguments));
        verify(&socket, label, &[]);
    }
    assert_eq!(socket.messages(), ["the whole message"; 2].map(|text| text.as_bytes().to_vec()));
}

#[test]
fn the_provider_says_so_where_a_certificate_is_unknown() {
    let socket = socket();
    let mut command = openssl(&socket, &provider(), &SIGN);
    command.args(["-inkey", &uri("nobody")]);
    assert_ne!(run(command).code, 0);
    assert_eq!(socket.asked().signatures, 0);
}
