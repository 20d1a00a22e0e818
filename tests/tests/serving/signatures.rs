//! Every algorithm with every mechanism, verified by OpenSSL.

use std::fs;

use testkit::{
    programs::{must, run},
    vault::Vault,
};

const ALGORITHMS: &[&str] = &["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"];

/// A mechanism, the algorithms it fits (by how their names begin), and OpenSSL's options for it.
const MECHANISMS: &[(&str, &str, &[&str])] = &[
    ("ecdsa-sha256", "ec-", &["-digest", "sha256"]),
    ("ecdsa-sha384", "ec-", &["-digest", "sha384"]),
    ("rsa-pkcs1-sha256", "rsa-", &["-digest", "sha256"]),
    ("rsa-pkcs1-sha384", "rsa-", &["-digest", "sha384"]),
    ("rsa-pkcs1-sha512", "rsa-", &["-digest", "sha512"]),
    (
        "rsa-pss-sha256",
        "rsa-",
        &[
            "-digest",
            "sha256",
            "-pkeyopt",
            "rsa_padding_mode:pss",
            "-pkeyopt",
            "rsa_pss_saltlen:32",
        ],
    ),
    (
        "rsa-pss-sha384",
        "rsa-",
        &[
            "-digest",
            "sha384",
            "-pkeyopt",
            "rsa_padding_mode:pss",
            "-pkeyopt",
            "rsa_pss_saltlen:48",
        ],
    ),
    (
        "rsa-pss-sha512",
        "rsa-",
        &[
            "-digest",
            "sha512",
            "-pkeyopt",
            "rsa_padding_mode:pss",
            "-pkeyopt",
            "rsa_pss_saltlen:64",
        ],
    ),
    ("ed25519", "ed25519", &[]),
];

/// Whether OpenSSL takes a signature over a file.
pub fn verifies(public: &str, signature: &str, input: &str, options: &[&str]) -> bool {
    let mut command = std::process::Command::new("openssl");
    command.args(["pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin"]);
    command.args(["-sigfile", signature, "-in", input]).args(options);
    let ended = run(command);
    let good = ended.stdout.contains("Signature Verified Successfully");
    assert_eq!(ended.code == 0, good, "{ended:?}");
    good
}

#[test]
fn every_algorithm_signs_by_every_mechanism_that_fits_and_by_no_other() {
    let vault = Vault::initialized();
    let [input, other, signature, public] =
        ["input", "other", "signature", "public"].map(|name| vault.path(name));
    fs::write(&input, "what is signed".repeat(1000)).unwrap();
    fs::write(&other, "what is not").unwrap();
    for algorithm in ALGORITHMS {
        vault.ok(&["key", "generate", algorithm, "--algorithm", algorithm]);
        fs::write(&public, vault.ok(&["key", "public", algorithm])).unwrap();
        let mut fitting = 0;
        for (mechanism, fits, options) in MECHANISMS {
            let _ = fs::remove_file(&signature);
            let files = ["--input", &input, "--signature", &signature];
            let sign = ["key", "sign", algorithm, "--mechanism", mechanism];
            let ended = vault.ctl(&[&sign[..], &files[..]].concat());
            if !algorithm.starts_with(fits) {
                ended.refused(2, &format!("{mechanism} does not fit"));
                assert!(!vault.file("signature").exists(), "{algorithm} {mechanism}");
                continue;
            }
            fitting += 1;
            assert_eq!(ended.code, 0, "{algorithm} {mechanism}: {ended:?}");
            assert!(verifies(&public, &signature, &input, options), "{algorithm} {mechanism}");
            assert!(!verifies(&public, &signature, &other, options), "{algorithm} {mechanism}");
        }
        assert!(fitting > 0, "no mechanism for {algorithm}");
    }
}

#[test]
fn the_public_key_is_what_openssl_reads() {
    let vault = Vault::initialized();
    for (algorithm, said) in [
        ("ec-p256", "ASN1 OID: prime256v1"),
        ("ec-p384", "ASN1 OID: secp384r1"),
        ("rsa-2048", "Public-Key: (2048 bit)"),
        ("rsa-3072", "Public-Key: (3072 bit)"),
        ("ed25519", "ED25519 Public-Key"),
    ] {
        vault.ok(&["key", "generate", algorithm, "--algorithm", algorithm]);
        let pem = vault.ok(&["key", "public", algorithm]);
        assert_eq!(vault.json(&["key", "show", algorithm])["public_key_pem"], pem.as_str());
        fs::write(vault.file("public"), pem).unwrap();
        let public = vault.path("public");
        let read = must("openssl", &["pkey", "-pubin", "-in", &public, "-noout", "-text"]);
        assert!(read.contains(said), "{algorithm}: {read}");
    }
}
