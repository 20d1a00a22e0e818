//! What a drill finds: shares that open nothing, files that do not hold, and what was given wrongly.

use std::{fs, path::Path};

use testkit::{
    custodians::{Custodian, custodians, quorum_flags},
    escrow::Escrowed,
    programs::run,
};

use super::scene::{Scene, check, refuted};

/// The flags that bring a share and whoever opens it.
fn share(share: &Path, custodian: &Custodian) -> Vec<String> {
    let [share, identity] = [share, &custodian.identity].map(|path| path.display().to_string());
    vec!["--share".to_owned(), share, "--identity".to_owned(), identity]
}

#[test]
fn shares_that_do_not_make_the_kek_refute_the_drill_and_are_on_record() {
    let (scene, other) = (Scene::new(), Escrowed::new());
    let (vault, file) = (scene.vault(), scene.backup("b.age"));
    let newcomers = custodians(vault.dir(), &["legal", "board"]);
    let mut rotate = ["kek", "rotate", "--yes"].map(str::to_owned).to_vec();
    rotate.extend(quorum_flags(&newcomers, 2, &vault.file("shares-2")));
    vault.ok(&rotate.iter().map(String::as_str).collect::<Vec<_>>());
    let ours = |at: usize| {
        let custodian = &scene.escrowed.custodians[at];
        share(&custodian.share(&vault.file("shares")), custodian)
    };
    let new = |at: usize| share(&newcomers[at].share(&vault.file("shares-2")), &newcomers[at]);
    let theirs = |at: usize| {
        let custodian = &other.custodians[at];
        share(&custodian.share(&other.vault.file("shares")), custodian)
    };
    let cases = [
        ([ours(0), new(0)].concat(), "of another ceremony"),
        ([ours(0), theirs(1)].concat(), "is of vault"),
        ([theirs(0), theirs(1)].concat(), "is of vault"),
        ([new(0), new(1)].concat(), "the shares are of KEK"),
        (ours(0), "too few"),
    ];
    let count = cases.len();
    for (at, (shares, why)) in cases.into_iter().enumerate() {
        let report = vault.path(&format!("report-{at}"));
        let own = [file.display().to_string(), "--report".to_owned(), report];
        let identity = ["--identity".to_owned(), scene.escrowed.identity()];
        let words: Vec<_> = own.into_iter().chain(identity).chain(shares).collect();
        let ended = run(scene.command(&words));
        refuted(&ended, "kek", why);
        assert_eq!(check(&ended.json(), "archive").0, "ok", "the rest is looked at all the same");
        assert_eq!(ended.json()["recorded"], true);
    }
    let listed = scene.vault().json(&["drill", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), count);
    assert!(listed.as_array().unwrap().iter().all(|drill| drill["ok"] == false), "{listed}");
    assert!(scene.vault().json(&["status"])["last_proven_backup"].is_null());
    assert!(scene.left().is_empty());
}

#[test]
fn a_file_that_was_changed_or_cut_off_is_refuted_with_the_place() {
    let scene = Scene::new();
    let whole = fs::read(scene.backup("b.age")).unwrap();
    let header = whole.windows(5).position(|part| part == b"\n--- ").unwrap() + 64;
    let flipped = |at: usize| {
        let mut file = whole.clone();
        file[at] ^= 4;
        file
    };
    for (at, file) in [
        whole[..whole.len() - 1].to_vec(),
        whole[..whole.len() / 2].to_vec(),
        whole[..header].to_vec(),
        flipped(whole.len() / 2),
        flipped(whole.len() - 3),
        [whole.clone(), vec![0]].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let path = scene.vault().file(&format!("harmed-{at}.age"));
        fs::write(&path, file).unwrap();
        let ended = scene.drill(&path, &format!("report-{at}"));
        refuted(&ended, "archive", if at == 2 { "age header" } else { "near byte" });
        assert_eq!(ended.json()["keys_proven"], 0, "what does not hold proves nothing");
        assert!(scene.left().is_empty());
    }
}

#[test]
fn what_was_given_wrongly_is_2_and_no_drill() {
    let scene = Scene::new();
    let file = scene.backup("b.age").display().to_string();
    let path = |name: &str| scene.vault().path(name);
    let (ops, keeper) =
        (scene.escrowed.custodians[0].identity.display().to_string(), scene.escrowed.identity());
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let quorum: Vec<_> = scene.quorum();
    let quorum: Vec<&str> = quorum.iter().map(String::as_str).collect();
    for (words, why) in [
        ([&[path("none.age").as_str()][..], &quorum].concat(), "none.age"),
        (
            vec![&file, "--identity", &ops, "--share", &scene.escrowed.share(0)],
            "no identity given opens it",
        ),
        (vec![&file, "--identity", &keeper], "no share is given"),
        (vec![&file, "--identity", &file], "identity"),
        ([&[file.as_str(), "--report", &path("taken")][..], &quorum].concat(), "exists already"),
    ] {
        fs::create_dir_all(path("taken")).unwrap();
        fs::write(scene.vault().file("taken/report.html"), "mine").unwrap();
        run(scene.command(&owned(&words))).refused(2, why);
        let reports = fs::read_dir(scene.vault().dir()).unwrap();
        let names = reports.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!names.into_iter().any(|name| name.starts_with("drill-")), "{why}: a report");
    }
    assert_eq!(fs::read_to_string(scene.vault().file("taken/report.html")).unwrap(), "mine");
    assert!(scene.vault().json(&["drill", "list"]).as_array().unwrap().is_empty());
    assert!(scene.left().is_empty());
}
