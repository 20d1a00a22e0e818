//! pkcs11-tool, which stands for every program that takes a module.

use std::{fs, process::Command};

use testkit::{
    programs::{Ended, must, run},
    signer_key::Kind,
    signer_socket::{SignerSocket, TOKEN, module},
};
use vault_proto::local::v1::Reason;

use super::host::ends_well;

/// What is signed.
const MESSAGE: &[u8] = b"the whole message";

/// A key's label, pkcs11-tool's mechanism, what is signed, what OpenSSL verifies, and its options.
type Raw = (&'static str, &'static [&'static str], Vec<u8>, Vec<u8>, &'static [&'static str]);

/// A key of each kind, named by it.
fn socket() -> SignerSocket {
    SignerSocket::with(&[
        (Kind::P256, "p256"),
        (Kind::P384, "p384"),
        (Kind::Rsa2048, "rsa"),
        (Kind::Ed25519, "ed25519"),
    ])
}

/// pkcs11-tool with the module.
fn tool(socket: &SignerSocket, arguments: &[&str]) -> Command {
    let mut command = socket.command("pkcs11-tool");
    command.arg("--module").arg(module()).args(arguments);
    command
}

/// Signs the file `data` into the file `signature` with the key of a certificate.
fn sign(socket: &SignerSocket, label: &str, mechanism: &[&str]) -> Ended {
    let mut command = tool(socket, &["--sign", "--signature-format", "openssl"]);
    // By its id: pkcs11-tool takes any key where it is given a label.
    let id = hex::encode(&socket.key(label).listed.id);
    command.env("VAULT_PKCS11_EDDSA", "1").args(["--id", &id, "--mechanism"]).args(mechanism);
    command.args(["--input-file", "data", "--output-file", "signature"]);
    run(command)
}

fn openssl(socket: &SignerSocket, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.current_dir(socket.dir()).args(arguments);
    ends_well(command);
}

fn digest(hash: &str, message: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), message).unwrap();
    let path = file.path().to_str().unwrap();
    let printed = must("openssl", &["dgst", &format!("-{hash}"), "-r", path]);
    hex::decode(printed.split(' ').next().unwrap()).unwrap()
}

#[test]
fn every_mechanism_that_hashes_makes_a_signature_that_openssl_verifies() {
    let socket = socket();
    fs::write(socket.file("data"), MESSAGE).unwrap();
    let cases = [
        ("p256", "ECDSA-SHA256", "-sha256", "pkcs1"),
        ("p384", "ECDSA-SHA384", "-sha384", "pkcs1"),
        ("rsa", "SHA256-RSA-PKCS", "-sha256", "pkcs1"),
        ("rsa", "SHA384-RSA-PKCS", "-sha384", "pkcs1"),
        ("rsa", "SHA512-RSA-PKCS", "-sha512", "pkcs1"),
        ("rsa", "SHA256-RSA-PKCS-PSS", "-sha256", "pss"),
        ("rsa", "SHA384-RSA-PKCS-PSS", "-sha384", "pss"),
        ("rsa", "SHA512-RSA-PKCS-PSS", "-sha512", "pss"),
    ];
    for (label, mechanism, hash, padding) in cases {
        let ended = sign(&socket, label, &[mechanism]);
        assert_eq!(ended.code, 0, "{mechanism}: {ended:?}");
        let public = format!("{label}.pub");
        let padding = format!("rsa_padding_mode:{padding}");
        let mut arguments = vec!["dgst", hash, "-verify", &public, "-signature", "signature"];
        if label == "rsa" {
            arguments.extend(["-sigopt", &padding]);
        }
        arguments.push("data");
        openssl(&socket, &arguments);
    }
    assert_eq!(socket.asked().signatures, cases.len());
}

#[test]
fn every_mechanism_that_takes_a_digest_makes_a_signature_that_openssl_verifies() {
    let socket = socket();
    // DigestInfo of SHA-256 (RFC 8017 section 9.2).
    let info = hex::decode("3031300d060960864801650304020105000420").unwrap();
    let sha256 = digest("sha256", MESSAGE);
    let cases: [Raw; 5] = [
        ("p256", &["ECDSA"], sha256.clone(), sha256.clone(), &[]),
        ("p384", &["ECDSA"], digest("sha384", MESSAGE), digest("sha384", MESSAGE), &[]),
        (
            "rsa",
            &["RSA-PKCS"],
            [info, sha256.clone()].concat(),
            sha256.clone(),
            &["-pkeyopt", "digest:sha256"],
        ),
        (
            "rsa",
            &["RSA-PKCS-PSS", "--hash-algorithm", "SHA256"],
            sha256.clone(),
            sha256,
            &["-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "digest:sha256"],
        ),
        ("ed25519", &["EDDSA"], MESSAGE.to_vec(), MESSAGE.to_vec(), &["-rawin"]),
    ];
    for (label, mechanism, signed, verified, options) in cases {
        fs::write(socket.file("data"), signed).unwrap();
        let ended = sign(&socket, label, mechanism);
        assert_eq!(ended.code, 0, "{mechanism:?}: {ended:?}");
        fs::write(socket.file("verified"), verified).unwrap();
        let public = format!("{label}.pub");
        let arguments =
            ["pkeyutl", "-verify", "-pubin", "-inkey", &public, "-sigfile", "signature"];
        openssl(&socket, &[&arguments[..], &["-in", "verified"], options].concat());
    }
}

#[test]
fn the_token_and_its_mechanisms_are_listed() {
    let socket = socket();
    let slots = ends_well(tool(&socket, &["--list-slots"]));
    for said in [TOKEN, "token initialized", "readonly", "vault-agent on this machine"] {
        assert!(slots.contains(said), "{said:?} is not in\n{slots}");
    }
    assert!(!slots.contains("login required"), "{slots}");
    let mechanisms = ends_well(tool(&socket, &["--list-mechanisms"]));
    for name in ["ECDSA-SHA384", "SHA512-RSA-PKCS-PSS", "RSA-PKCS,"] {
        assert!(mechanisms.contains(name), "{name} is not in\n{mechanisms}");
    }
    assert!(!mechanisms.contains("EDDSA"), "nobody asked for it:\n{mechanisms}");
}

#[test]
fn each_key_is_listed_with_its_public_key_and_its_certificate() {
    let socket = socket();
    let list = |eddsa: &str| {
        let mut command = tool(&socket, &["--list-objects"]);
        command.env("VAULT_PKCS11_EDDSA", eddsa);
        ends_well(command)
    };
    let shown = list("0");
    for (what, count) in [("Private Key Object", 3), ("Public Key Object", 3), ("Certificate", 3)] {
        assert_eq!(shown.matches(what).count(), count, "{what} in\n{shown}");
    }
    assert!(!shown.contains("ed25519"), "libp11 hides every key when it meets one:\n{shown}");
    assert_eq!(list("1").matches("ed25519").count(), 3);
}

#[test]
fn the_certificate_can_be_read_from_the_token() {
    let socket = SignerSocket::with(&[(Kind::P256, "shop")]);
    let read = ["--read-object", "--type", "cert", "--label", "shop", "--output-file", "read"];
    ends_well(tool(&socket, &read));
    assert_eq!(fs::read(socket.file("read")).unwrap(), socket.key("shop").listed.certificate);
}

#[test]
fn what_the_agent_refuses_has_the_contracts_code() {
    let socket = SignerSocket::with(&[(Kind::P256, "shop")]);
    fs::write(socket.file("data"), MESSAGE).unwrap();
    let cases = [
        (Reason::Unspecified, "CKR_GENERAL_ERROR"),
        (Reason::Denied, "CKR_KEY_FUNCTION_NOT_PERMITTED"),
        (Reason::NoKey, "CKR_KEY_HANDLE_INVALID"),
        (Reason::Mechanism, "CKR_MECHANISM_INVALID"),
        (Reason::Data, "CKR_DATA_LEN_RANGE"),
        (Reason::Unavailable, "CKR_DEVICE_ERROR"),
    ];
    for (reason, code) in cases {
        socket.refuse(Some(reason));
        let ended = sign(&socket, "shop", &["ECDSA-SHA256"]);
        assert_ne!(ended.code, 0);
        assert!(ended.stderr.contains(code), "{reason:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("vault-pkcs11: no signature from the agent"), "{ended:?}");
    }
    // pkcs11-tool tries it in parts after C_Sign has failed; the module asks once each time.
    assert_eq!(socket.asked().signatures, 2 * cases.len());
}
