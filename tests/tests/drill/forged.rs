//! Backups that hold to their last bit and restore nothing good: made with the vault's own writer,
//! as whoever knows a recipient could.

use std::{fs, io::BufReader, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::programs::{Ended, run};
use time::{Duration, OffsetDateTime};
use vault_backup::{Facts, Identities, Reader, Recipients, Table, Writer};

use super::scene::{Scene, check, refuted};

/// Every row of a backup.
pub struct Rows {
    facts: Facts,
    rows: Vec<(Table, Value)>,
    audit: Vec<String>,
}

impl Rows {
    pub fn of(scene: &Scene, file: &PathBuf) -> Self {
        let mut identities = Identities::default();
        identities.add(&fs::read_to_string(&scene.escrowed.keeper.identity).unwrap()).unwrap();
        let opened = BufReader::new(fs::File::open(file).unwrap());
        let mut reader = Reader::open(&identities, opened).unwrap();
        let facts = reader.facts().clone();
        let (mut rows, mut audit) = (Vec::new(), Vec::new());
        while let Some(row) = reader.row().unwrap() {
            match row.table {
                Table::Audit => audit.push(row.line),
                table => rows.push((table, serde_json::from_str(&row.line).unwrap())),
            }
        }
        Self { facts, rows, audit }
    }

    /// The key of this name.
    pub fn key(&mut self, name: &str) -> &mut Value {
        let mut keys = self.rows.iter_mut().filter(|(table, _)| *table == Table::Keys);
        &mut keys.find(|(_, row)| row["row"]["name"] == name).unwrap().1
    }

    /// Adds a row behind those of its table.
    pub fn add_last(&mut self, table: Table, row: Value) {
        let at = self.rows.iter().position(|(other, _)| *other > table);
        self.rows.insert(at.unwrap_or(self.rows.len()), (table, row));
    }

    fn add(&mut self, table: Table, row: Value) {
        self.rows.push((table, row));
        self.rows.sort_by_key(|(table, _)| *table);
    }

    /// Adds an account and a certificate of it with this chain.
    fn add_certificate(&mut self, custody: &str, chain: &Made) {
        let key = self.key("k")["row"]["id"].clone();
        self.add(
            Table::Accounts,
            json!({
                "name": "ca", "directory": "https://ca.example/directory", "url": null,
                "status": "valid", "contacts": "[]", "next_contacts": null, "key_id": key, "next_key_id": null,
                "eab_kid": null, "ca_root_pem": null, "created_at": 1, "last_ok_at": null,
                "last_error": null,
            }),
        );
        let of = if custody == "vault" { key } else { Value::Null };
        self.add(
            Table::Certificates,
            json!({
                "name": "shop", "account": "ca", "identifiers": "[\"shop.example\"]",
                "challenge": "http-01", "custody": custody, "algorithm": "ec-p256", "profile": null,
                "must_staple": 0, "tls_use": "tls13", "rotate_key": 0, "fallback": "[]",
                "preferred_chain": null, "ca_place": 0, "ca_failures": 0, "status": "issued",
                "current_version": 1, "key_id": of, "renew_at": 1, "failed_attempts": 0,
                "last_error": null, "created_at": 1, "canary": null, "windows": "[]",
                "requested": 0, "asked_anew": 0,
            }),
        );
        self.add(
            Table::Versions,
            json!({
                "certificate": "shop", "version": 1, "account": "ca", "chain_pem": chain.pem, "serial": chain.serial,
                "not_before": 1, "not_after": 2, "fingerprint": chain.fingerprint, "key_id": of,
                "issued_at": 1, "revoked": null,
            }),
        );
    }

    /// Writes it for the keeper.
    pub fn write(self, scene: &Scene, name: &str) -> PathBuf {
        let recipient = &scene.escrowed.keeper.recipient;
        let recipients = Recipients::parse(std::slice::from_ref(recipient)).unwrap();
        let mut writer = Writer::begin(&recipients, self.facts, Vec::new()).unwrap();
        for (table, row) in &self.rows {
            writer.row(*table, row.to_string().as_bytes()).unwrap();
        }
        for line in &self.audit {
            writer.row(Table::Audit, line.as_bytes()).unwrap();
        }
        let (_, file) = writer.finish().unwrap();
        let path = scene.vault().file(&format!("{name}.age"));
        fs::write(&path, file).unwrap();
        path
    }

    /// Writes it and has it drilled, by nobody's record.
    fn drill(self, scene: &Scene, name: &str) -> Ended {
        let path = self.write(scene, name);
        let mut words = scene.words(&path, &format!("{name}-report"));
        words.push("--offline".to_owned());
        run(scene.command(&words))
    }
}

/// A chain that some CA has made.
struct Made {
    pem: String,
    serial: String,
    fingerprint: String,
}

/// A leaf for shop.example that ends in so many days, and its issuer.
fn chain(days: i64) -> Made {
    let issuer = |name: &str| {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let root = CertifiedIssuer::self_signed(issuer("root"), KeyPair::generate().unwrap()).unwrap();
    let middle =
        CertifiedIssuer::signed_by(issuer("middle"), KeyPair::generate().unwrap(), &root).unwrap();
    let mut leaf = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    leaf.serial_number = Some(vec![0x1c, 7].into());
    leaf.not_before = OffsetDateTime::now_utc() - Duration::days(30);
    leaf.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &middle).unwrap();
    Made {
        pem: format!("{}{}", leaf.pem(), middle.as_ref().pem()),
        serial: "1c07".to_owned(),
        fingerprint: hex::encode(Sha256::digest(leaf.der())),
    }
}

/// A scene, and a backup of it.
pub fn scene() -> (Scene, PathBuf) {
    let scene = Scene::new();
    scene.vault().ok(&["key", "generate", "l", "--algorithm", "ec-p256"]);
    let file = scene.backup("b.age");
    (scene, file)
}

#[test]
fn what_was_only_written_anew_is_proven() {
    let (scene, file) = scene();
    let ended = Rows::of(&scene, &file).drill(&scene, "same");
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut rows = Rows::of(&scene, &file);
    rows.add_certificate("agent", &chain(30));
    let ended = rows.drill(&scene, "with-certificate");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(check(&ended.json(), "chains").1.ends_with(": 1"), "{ended:?}");
}

#[test]
fn a_key_that_another_kek_has_wrapped_is_found() {
    let (scene, file) = scene();
    let other = Scene::new();
    let mut theirs = Rows::of(&other, &other.backup("b.age"));
    let mut rows = Rows::of(&scene, &file);
    rows.key("k")["wrapped"]["blob"] = theirs.key("k")["wrapped"]["blob"].clone();
    refuted(&rows.drill(&scene, "foreign"), "keys", "1 of 3 failed, the first: k (");
}

#[test]
fn a_key_whose_blob_is_another_key_s_is_found_by_its_signature() {
    let (scene, file) = scene();
    let mut rows = Rows::of(&scene, &file);
    let blob = rows.key("l")["wrapped"]["blob"].clone();
    rows.key("k")["wrapped"]["blob"] = blob;
    let ended = rows.drill(&scene, "swapped");
    refuted(&ended, "keys", "what it signs is not by its public key");
    let report = fs::read_to_string(scene.vault().file("swapped-report/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let of = |name: &str| {
        let keys = report["keys"].as_array().unwrap().iter();
        keys.clone().find(|key| key["name"] == name).unwrap()["outcome"].clone()
    };
    assert_eq!((of("k"), of("l")), ("failed".into(), "proven".into()));
}

#[test]
fn an_internal_ca_whose_key_is_not_the_root_s_is_found() {
    let (scene, file) = scene();
    let mut rows = Rows::of(&scene, &file);
    let (mut root, mut k) = (rows.key("root").clone(), rows.key("k").clone());
    // Each pair is whole; only which of them is the CA's is not what it was.
    for name in ["spki", "algorithm"] {
        let (a, b) = (root["row"][name].take(), k["row"][name].take());
        (root["row"][name], k["row"][name]) = (b, a);
    }
    let (a, b) = (root["wrapped"].take(), k["wrapped"].take());
    (root["wrapped"], k["wrapped"]) = (b, a);
    *rows.key("root") = root;
    *rows.key("k") = k;
    refuted(&rows.drill(&scene, "root"), "ca", "not that of the root certificate");
}

#[test]
fn a_chain_that_is_broken_ended_or_of_another_key_is_found_and_named() {
    let (scene, file) = scene();
    let broken = {
        let (mut one, other) = (chain(30), chain(30));
        let end = "-----END CERTIFICATE-----";
        let leaf = one.pem.split_inclusive(end).next().unwrap().to_owned();
        one.pem =
            format!("{leaf}\n{}", other.pem.split_inclusive(end).nth(1).unwrap().trim_start());
        one
    };
    let other_row = Made { fingerprint: "0".repeat(64), ..chain(30) };
    let garbage = Made { pem: "no chain".to_owned(), ..chain(30) };
    for (name, custody, chain, why) in [
        ("broken", "agent", broken, "shop version 1: a link does not hold"),
        ("ended", "agent", chain(-1), "the leaf ended"),
        ("foreign", "vault", chain(30), "the leaf's key is not the one"),
        ("row", "agent", other_row, "its row is of another certificate"),
        ("garbage", "agent", garbage, "no certificate"),
    ] {
        let mut rows = Rows::of(&scene, &file);
        rows.add_certificate(custody, &chain);
        let ended = rows.drill(&scene, name);
        refuted(&ended, "chains", why);
        let page = fs::read_to_string(scene.vault().file(&format!("{name}-report/report.html")));
        assert!(page.unwrap().contains("Not proven: chains"), "{name}");
    }
}

#[test]
fn rows_that_no_store_takes_are_found() {
    let (scene, file) = scene();
    let mut rows = Rows::of(&scene, &file);
    rows.add_certificate("agent", &chain(30));
    // A version of a certificate that is not there.
    let version = rows.rows.iter_mut().find(|(table, _)| *table == Table::Versions).unwrap();
    version.1["certificate"] = "shoq".into();
    refuted(&rows.drill(&scene, "dangling"), "store", "restore failed on");
}
