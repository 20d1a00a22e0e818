//! The rules of the house, read off the sources: `ARCHITECTURE.md` says why.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use testkit::programs::workspace;
use walkdir::WalkDir;

/// The longest that a source file may be, in lines.
const LONGEST_FILE: usize = 500;

/// The vault's rooms from top to bottom. A room imports from its own storey and from those below,
/// and never in a circle.
const STOREYS: &[&[&str]] = &[
    &["main"],
    &["app"],
    &["api"],
    &[
        "accounts",
        "identities",
        "renewal",
        "push",
        "acme",
        "keyless",
        "signing",
        "backup",
        "dns",
        "monitor",
    ],
    &[
        "policy", "keystore", "x509", "store", "wire", "audit", "settings", "config", "alerts",
        "https",
    ],
    &["clock", "error", "named", "fault"],
];

/// Libraries that stay in their rooms.
const ROOMS: &[(&str, &[&str])] = &[
    ("tonic", &["vault/src/api/", "vault/src/app/", "agent/src/", "cli/src/", "proto/src/"]),
    ("cryptoki", &["vault/src/keystore/pkcs11/"]),
    ("instant_acme", &["vault/src/acme/"]),
    ("dns_update", &["vault/src/dns/"]),
    ("hickory_resolver", &["vault/src/dns/"]),
    ("reqwest", &["vault/src/dns/"]),
    ("sqlx", &["vault/src/store/sql/"]),
    ("tar", &["backup/src/"]),
    ("zstd", &["backup/src/"]),
    ("maud", &["cli/src/cmd/drill/"]),
    ("plotters", &["cli/src/cmd/drill/", "cli/src/plot.rs"]),
    ("object_store", &["vault/src/backup/place/"]),
    ("age", &["vault/src/backup/", "custody/src/", "backup/src/"]),
];

/// Every file of ours with this ending: its path below the workspace and its text.
fn files(ending: &str) -> Vec<(String, String)> {
    let root = workspace();
    let ours = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || (name != "target" && (!name.starts_with('.') || name == ".ci"))
    };
    let mut all = Vec::new();
    for entry in WalkDir::new(&root).into_iter().filter_entry(ours) {
        let entry = entry.expect("a readable tree");
        let name = entry.path().strip_prefix(&root).unwrap().display().to_string();
        if entry.file_type().is_file() && name.ends_with(ending) {
            all.push((name, fs::read_to_string(entry.path()).expect("text")));
        }
    }
    assert!(!all.is_empty(), "no {ending} file was found");
    all
}

/// The room a file of `vault/src` is in.
fn room(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("vault/src/")?;
    let room = inside.split_once('/').map_or(inside, |(folder, _)| folder);
    Some(room.strip_suffix(".rs").unwrap_or(room)).filter(|room| *room != "lib")
}

/// The words that stand behind each `before` in a text.
fn words_after<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let after = text.split(before).skip(1);
    after.map(|rest| rest.split(ends).next().unwrap_or_default()).collect()
}

/// Whether a text uses a crate: `name::` with nothing in front that makes it another name.
fn uses(text: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.match_indices(&path).any(|(at, _)| !text[..at].ends_with(part_of_a_name))
}

fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files(".rs") {
        let Some(room) = room(&file) else { continue };
        assert!(!text.contains("crate::{"), "{file}: one `use crate::ROOM` for each room");
        let from = imports.entry(room.to_owned()).or_default();
        for other in words_after(&text, "crate::").into_iter().filter(|other| *other != room) {
            from.insert(other.to_owned());
        }
    }
    imports
}

#[test]
fn imports_point_down_and_never_in_a_circle() {
    let storey = |room: &str| STOREYS.iter().position(|rooms| rooms.contains(&room));
    let imports = imports();
    for (room, others) in &imports {
        let own = storey(room).unwrap_or_else(|| panic!("room {room} has no storey"));
        for other in others {
            // A path may name a type or macro of the crate's root; rooms alone have a storey.
            let Some(below) = storey(other) else { continue };
            assert!(below >= own, "{room} imports from {other}, which is above it");
        }
    }
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    while settled.len() < imports.len() {
        let rests_on_settled = |others: &BTreeSet<String>| {
            others.iter().all(|o| settled.contains(o.as_str()) || !imports.contains_key(o))
        };
        let free = |(room, others): &(&String, &BTreeSet<String>)| {
            !settled.contains(room.as_str()) && rests_on_settled(others)
        };
        let next: Vec<&str> = imports.iter().filter(free).map(|(room, _)| room.as_str()).collect();
        let rest = || imports.keys().filter(|room| !settled.contains(room.as_str()));
        assert!(!next.is_empty(), "a circle among {:?}", rest().collect::<Vec<_>>());
        settled.extend(next);
    }
}

#[test]
fn a_library_stays_in_its_room() {
    for (file, text) in files(".rs").iter().filter(|(file, _)| !file.starts_with("tests/")) {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code: String = lines.flat_map(|line| [line, "\n"]).collect();
        for (library, rooms) in ROOMS {
            let at_home = rooms.iter().any(|room| file.starts_with(room));
            assert!(at_home || !uses(&code, library), "{file} uses {library}: {rooms:?} may");
        }
    }
}

#[test]
fn the_programs_share_nothing_but_the_contract() {
    for program in ["vault", "agent", "agent/pkcs11", "cli", "proto"] {
        let text = fs::read_to_string(workspace().join(program).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for other in ["vault", "vault-agent", "vault-pkcs11", "vaultctl", "testkit"] {
            assert!(!dependencies.contains_key(other), "{program} depends on {other}");
        }
    }
}

#[test]
fn a_file_fits_on_a_few_pages() {
    for (file, text) in files(".rs").into_iter().chain(files(".proto")).chain(files(".sh")) {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{file} has {lines} lines: split it by purpose");
    }
}

#[test]
fn every_file_is_part_of_a_crate() {
    for (file, _) in files(".rs") {
        let path = Path::new(&file);
        let (dir, stem) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        let is_root = matches!(stem, "main" | "lib" | "build")
            || dir.ends_with("tests")
            || dir.ends_with("benches")
            || dir.ends_with("examples");
        if is_root {
            continue;
        }
        let (dir, name) = match stem {
            "mod" => (dir.parent().unwrap(), dir.file_name().unwrap().to_str().unwrap()),
            _ => (dir, stem),
        };
        let beside = dir.with_extension("rs");
        let parents = [dir.join("mod.rs"), dir.join("lib.rs"), dir.join("main.rs"), beside];
        let declared = parents.iter().any(|parent| {
            let text = fs::read_to_string(workspace().join(parent)).unwrap_or_default();
            words_after(&text, "mod ").contains(name)
        });
        assert!(declared, "{file} is declared nowhere");
    }
}

#[test]
fn nothing_is_left_for_later_or_switched_off() {
    // Written in two parts, so that this file does not find itself.
    let words = ["TO DO", "FIX ME", "XX X", "#[ign ore", "todo !(", "unimplemented !("];
    let words: Vec<_> = words.iter().map(|word| word.replace(' ', "")).collect();
    for ending in [".rs", ".sh", ".toml", ".proto", ".md", ".sql", "Makefile"] {
        for (file, text) in files(ending) {
            for word in &words {
                assert!(!text.contains(word.as_str()), "{file} has {word}");
            }
        }
    }
}

#[test]
fn unsafe_code_is_allowed_nowhere_but_where_c_calls_us() {
    let allowed = format!("allow({})", "unsafe_code");
    for (file, text) in files(".rs") {
        let homes = ["agent/pkcs11/", "tests/kryoptic/", "tests/faulty/"];
        let home = homes.iter().any(|home| file.starts_with(home));
        assert!(home || !text.contains(&allowed), "{file} allows unsafe code");
    }
}

#[test]
fn what_the_papers_link_to_is_there() {
    for (file, text) in files(".md") {
        let dir = workspace().join(&file).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(dir.join(path).exists(), "{file} links to {path}, which is not there");
        }
    }
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let map = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for folder in map.filter(|name| name.ends_with('/')) {
        assert!(
            workspace().join(folder).is_dir(),
            "the code map names {folder}, which is not there"
        );
    }
}
