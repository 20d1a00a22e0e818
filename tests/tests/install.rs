//! Installing: the last good files stay until newer ones are proven, byte for byte and mode for
//! mode; only what `agent.toml` names is touched, and only where that is safe.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use serde_json::Value;
use testkit::process::{eventually, free_port};
use testkit::programs::must;
use testkit::tree::{Entry, entry, snapshot};
use testkit::world::{AGENT, CERTIFICATE, Install, SITE, World, order, register_account, webroot};
use testkit::{agent::Agent, nginx::Nginx, pebble::Pebble, vault::Vault};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A world whose reload command is a script that tests write anew.
fn scripted() -> World {
    let world = World::with(Vault::initialized(), |nginx| {
        fs::write(nginx.file("reload.sh"), nginx.reload_line()).unwrap();
        let install = Install {
            reload: Some(format!("[\"sh\", {:?}]", nginx.file("reload.sh"))),
            more: "command_timeout = \"10s\"\n".to_owned(),
            ..Install::into(nginx)
        };
        format!("{}{}", install.toml(), webroot(nginx))
    });
    assert_eq!(world.issue()["version"], 1);
    world
}

/// What is there before something goes wrong.
struct Before {
    chain: Entry,
    key: Entry,
    names: Vec<String>,
    serial: String,
}

fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        all.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl Before {
    fn of(world: &World) -> Self {
        Self {
            chain: entry(&world.nginx.file("chain.pem")),
            key: entry(&world.nginx.file("key.pem")),
            names: names(world.nginx.dir()),
            serial: world.served_serial(),
        }
    }

    /// Files, served leaf and the agent's own record are as before; no trace is left.
    fn is_in_place(&self, world: &World, version: u64) {
        assert!(entry(&world.nginx.file("chain.pem")) == self.chain, "the chain has changed");
        assert!(entry(&world.nginx.file("key.pem")) == self.key, "the key has changed");
        assert_eq!(names(world.nginx.dir()), self.names);
        // The reload was asked for; nginx takes its time.
        eventually("the last good certificate is served", || {
            (world.served_serial() == self.serial).then_some(())
        });
        assert_eq!(world.agent.status()["certificates"][0]["version"], version);
        let state = names(&world.agent.file("state/certificates/shop"));
        let traces = ["journal.json", "last-good-chain.pem", "last-good-key.pem"];
        assert!(!state.iter().any(|name| traces.contains(&name.as_str())), "{state:?}");
    }
}

/// Orders a new version, which must be refused for this reason; what the vault says of it.
fn refused_renewal(world: &World, why: &str) -> Value {
    let renewed = world.vault.ctl(&["cert", "renew", CERTIFICATE, "--force", "--wait"]);
    renewed.refused(1, why);
    let shown = world.certificate(CERTIFICATE);
    let deployment = &shown["deployments"][0];
    assert_eq!(deployment["status"], "failed", "{shown}");
    assert!(deployment["detail"].as_str().unwrap().contains(why), "{shown}");
    shown
}

#[test]
fn whatever_fails_the_last_good_files_are_put_back() {
    let world = scripted();
    // Modes of the operator's own, which a roll-back keeps.
    chmod(&world.nginx.file("chain.pem"), 0o440);
    chmod(&world.nginx.file("key.pem"), 0o400);
    let before = Before::of(&world);
    for (script, why) in [
        ("echo it is out of order >&2; exit 3", "it is out of order"),
        ("sleep 600", "it did not end within 10s"),
        ("kill -9 $$", "signal: 9"),
        // It says that it has reloaded and has not.
        ("exit 0", "another certificate is served"),
    ] {
        fs::write(world.nginx.file("reload.sh"), script).unwrap();
        let shown = refused_renewal(&world, why);
        assert_eq!(shown["deployments"][0]["held_version"], 1, "{script}: {shown}");
        before.is_in_place(&world, 1);
    }
}

#[test]
fn what_fails_the_web_servers_test_is_put_back_and_installed_once_that_is_repaired() {
    let world = scripted();
    let before = Before::of(&world);
    let good = fs::read_to_string(world.nginx.file("nginx.conf")).unwrap();
    fs::write(world.nginx.file("nginx.conf"), format!("{good}\nno_such_directive;\n")).unwrap();
    let shown = refused_renewal(&world, "no_such_directive");
    assert_eq!(
        (&shown["version"], &shown["deployments"][0]["held_version"]),
        (&2.into(), &1.into())
    );
    before.is_in_place(&world, 1);

    // Nobody tells the agent.
    fs::write(world.nginx.file("nginx.conf"), good).unwrap();
    let now = eventually("the repaired web server is served version 2", || {
        let now = world.certificate(CERTIFICATE);
        (now["deployments"][0]["held_version"] == 2).then_some(now)
    });
    assert_eq!(now["deployments"][0]["status"], "serving");
    world.wait_serves(now["serial"].as_str().unwrap());
}

#[test]
fn a_first_installation_that_cannot_be_proven_leaves_what_was_there() {
    for at in ["another server", "nobody"] {
        let other = Nginx::start(SITE, ([127, 0, 0, 1], free_port()).into());
        let nobody = ([127, 0, 0, 1], free_port()).into();
        let address = if at == "nobody" { nobody } else { other.https };
        let world = World::with(Vault::initialized(), |nginx| {
            let check = Some((address, "1s".to_owned()));
            let install = Install { check, ..Install::into(nginx) };
            format!("{}{}", install.toml(), webroot(nginx))
        });
        let before = Before::of(&world);
        let issued = world.vault.ctl(&order(CERTIFICATE, SITE, "agent", &["--wait"]));
        issued.refused(1, "the last good files are back");
        let why = if at == "nobody" { "refused" } else { "another certificate is served" };
        issued.refused(1, why);
        let shown = world.certificate(CERTIFICATE);
        assert_eq!(
            (&shown["version"], &shown["deployments"][0]["held_version"]),
            (&1.into(), &0.into())
        );
        before.is_in_place(&world, 0);
    }
}

#[test]
fn a_file_that_was_not_there_is_gone_again_after_a_failure() {
    let world = World::with(Vault::initialized(), |nginx| {
        let (chain, key) = (nginx.file("new.pem"), Some(nginx.file("new.key")));
        let test = Some("[\"false\"]".to_owned());
        let install = Install { key, test, ..Install::file(CERTIFICATE, chain) };
        format!("{}{}", install.toml(), webroot(nginx))
    });
    let issued = world.vault.ctl(&order(CERTIFICATE, SITE, "agent", &["--wait"]));
    issued.refused(1, "the last good files are back");
    assert!(!world.nginx.file("new.pem").exists());
    assert!(!world.nginx.file("new.key").exists());
}

#[test]
fn the_last_good_files_survive_a_roll_back_that_failed() {
    let world = World::with(Vault::initialized(), |nginx| {
        fs::write(nginx.file("test.sh"), "exit 0").unwrap();
        let test = Some(format!("[\"sh\", {:?}]", nginx.file("test.sh")));
        format!("{}{}", Install { test, ..Install::into(nginx) }.toml(), webroot(nginx))
    });
    assert_eq!(world.issue()["version"], 1);
    let before = Before::of(&world);
    let chain = world.nginx.file("chain.pem");
    // Something stands where the chain belongs, so that it cannot be put back.
    let in_the_way = format!("rm '{0}'; mkdir '{0}'; exit 1", chain.display());
    fs::write(world.nginx.file("test.sh"), in_the_way).unwrap();
    refused_renewal(&world, "the last good files were not restored");
    assert!(chain.is_dir());
    // The way is free again, and the next attempt fails, too: it must not take what the first
    // has left for the last good files.
    fs::remove_dir(&chain).unwrap();
    fs::write(world.nginx.file("test.sh"), "exit 1").unwrap();
    refused_renewal(&world, "the last good files are back");
    before.is_in_place(&world, 1);
}

#[test]
fn files_have_the_modes_that_are_configured_whatever_the_umask() {
    let vault = Vault::initialized();
    let pebble = Pebble::start();
    let nginx = Nginx::start(SITE, pebble.http01);
    register_account(&vault, &pebble);
    let install = |name: &str, more: &str| {
        let key = Some(nginx.file(&format!("{name}.key")));
        let chain = nginx.file(&format!("{name}.pem"));
        Install { key, more: more.to_owned(), ..Install::file(name, chain) }.toml()
    };
    let custom = install("custom", "mode = \"0604\"\nkey_mode = \"0440\"\n");
    let config = format!("{}{custom}{}", install("usual", ""), webroot(&nginx));
    let mut agent = Agent::new(&vault, &config);
    agent.through = ["sh", "-c", "umask 0077; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    agent.start();
    for (name, mode, key_mode) in [("usual", 0o644, 0o600), ("custom", 0o604, 0o440)] {
        vault.ok(&order(name, SITE, "agent", &["--wait"]));
        assert_eq!(entry(&nginx.file(&format!("{name}.pem"))).mode, mode, "{name}");
        assert_eq!(entry(&nginx.file(&format!("{name}.key"))).mode, key_mode, "{name}");
    }
}

#[test]
fn a_chain_of_custody_vault_has_the_key_in_the_hsm_and_brings_none() {
    let world = World::with(Vault::initialized(), |nginx| {
        let chain = nginx.file("vault.pem");
        format!("{}{}", Install::file(CERTIFICATE, chain).toml(), webroot(nginx))
    });
    let before = names(world.nginx.dir());
    let issued = world.vault.json(&order(CERTIFICATE, SITE, "vault", &["--wait"]));
    assert_eq!(issued["deployments"][0]["status"], "installed");
    let chain = world.nginx.file("vault.pem");
    let installed = fs::read_to_string(&chain).unwrap();
    assert_eq!(installed, world.vault.ok(&["cert", "chain", CERTIFICATE]));
    let key = must("openssl", &["x509", "-in", chain.to_str().unwrap(), "-noout", "-pubkey"]);
    assert_eq!(key, world.vault.ok(&["key", "public", CERTIFICATE]));
    let added: Vec<_> =
        names(world.nginx.dir()).into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(added, ["vault.pem"]);
    assert!(!installed.contains("PRIVATE KEY"));
    let state = snapshot(&world.agent.file("state/certificates"));
    let private = state
        .iter()
        .find(|(_, entry)| entry.content.windows(11).any(|bytes| bytes == b"PRIVATE KEY"));
    assert!(private.is_none(), "{private:?}");
}

/// A place that nothing may be installed at, and what is said of it.
struct Bad {
    name: &'static str,
    custody: &'static str,
    install: Option<Install>,
    why: &'static str,
}

fn bad_places(dir: &Path) -> Vec<Bad> {
    let at = |name: &str| dir.join(name);
    fs::write(at("precious"), "nobody's business").unwrap();
    symlink(at("precious"), at("link.pem")).unwrap();
    symlink(at("precious"), at("link.key")).unwrap();
    symlink(at("nothing"), at("dangling.pem")).unwrap();
    fs::create_dir(at("directory.pem")).unwrap();
    fs::create_dir(at("open")).unwrap();
    chmod(&at("open"), 0o777);
    must("mkfifo", &[at("fifo.pem").to_str().unwrap()]);
    let bad = |name: &'static str, file: &str, why| {
        let install = Some(Install::file(name, at(file)));
        Bad { name, custody: "vault", install, why }
    };
    let mut all = vec![
        bad("link", "link.pem", "it is a symbolic link"),
        bad("dangling", "dangling.pem", "it is a symbolic link"),
        bad("directory", "directory.pem", "it is no regular file"),
        bad("fifo", "fifo.pem", "it is no regular file"),
        bad("open", "open/chain.pem", "everybody may write to its directory"),
        bad("missing", "missing/chain.pem", "its directory: No such file"),
        bad("below-file", "precious/chain.pem", "its directory: Not a directory"),
    ];
    let owner = Install {
        more: "owner = \"no-such-user\"\n".to_owned(),
        ..Install::file("owner", at("owner.pem"))
    };
    let why = "there is no such user";
    all.push(Bad { name: "owner", custody: "vault", install: Some(owner), why });
    let key = Install { key: Some(at("link.key")), ..Install::file("link-key", at("key.pem")) };
    let why = "it is a symbolic link";
    all.push(Bad { name: "link-key", custody: "agent", install: Some(key), why });
    let why = "agent.toml has no [[install]] for it";
    all.push(Bad { name: "unnamed", custody: "vault", install: None, why });
    let why = "agent.toml has no [[install]] with a key for it";
    all.push(Bad { name: "unnamed-key", custody: "agent", install: None, why });
    let keyless = Install::file("keyless", at("keyless.pem"));
    all.push(Bad { name: "keyless", custody: "agent", install: Some(keyless), why });
    all
}

#[test]
fn a_place_that_is_not_safe_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let places = bad_places(dir.path());
    let good = Install::file("good", dir.path().join("good.pem"));
    let world = World::with(Vault::initialized(), |nginx| {
        let installs = places.iter().filter_map(|bad| bad.install.as_ref()).map(Install::toml);
        format!("{}{}{}", installs.collect::<String>(), good.toml(), webroot(nginx))
    });
    let before = snapshot(dir.path());
    for Bad { name, custody, why, .. } in &places {
        world.vault.ok(&order(name, SITE, custody, &[]));
        let shown = eventually(&format!("{name} is refused"), || {
            let shown = world.certificate(name);
            (shown["deployments"][0]["status"] == "failed").then_some(shown)
        });
        let detail = shown["deployments"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{name}: {why:?} is not said: {detail}");
        assert_eq!(shown["deployments"][0]["held_version"], 0, "{name}");
    }
    let after = snapshot(dir.path());
    let changed: Vec<_> =
        after.iter().filter(|(path, now)| before.get(*path) != Some(*now)).collect();
    assert!(changed.is_empty() && after.len() == before.len(), "{changed:?}");
    // None of them keeps a certificate with a good place from its own.
    let issued = world.vault.json(&order("good", SITE, "vault", &["--wait"]));
    assert_eq!(issued["deployments"][0]["status"], "installed");
}

#[test]
fn an_agent_without_rights_says_what_it_may_not_do_and_changes_nothing() {
    let vault = Vault::initialized();
    let pebble = Pebble::start();
    let nginx = Nginx::start(SITE, pebble.http01);
    register_account(&vault, &pebble);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("closed")).unwrap();
    fs::write(at("owned.pem"), "theirs").unwrap();
    fs::write(at("unreadable.pem"), "unreadable").unwrap();
    let owned = Install {
        more: "owner = \"root\"\n".to_owned(),
        ..Install::file("owned", at("owned.pem"))
    };
    let unreadable = Install::file("unreadable", at("unreadable.pem"));
    let closed = Install::file("closed", at("closed/chain.pem"));
    let installs = [&owned, &unreadable, &closed].map(Install::toml).concat();
    let mut agent = Agent::new(&vault, &format!("{installs}{}", webroot(&nginx)));
    // Whoever runs the test, the agent is an ordinary user who owns these files.
    let user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"];
    agent.through = user.map(str::to_owned).to_vec();
    assert_eq!(agent.enroll(&vault, AGENT).code, 0);
    agent.start();
    let before = snapshot(dir.path());
    chmod(&at("unreadable.pem"), 0o000);
    chmod(&at("closed"), 0o500);
    for (name, why) in [
        ("owned", "set the owner failed"),
        ("unreadable", "Permission denied"),
        ("closed", "Permission denied"),
    ] {
        let issued = vault.ctl(&order(name, SITE, "vault", &["--wait"]));
        issued.refused(1, why);
    }
    chmod(&at("unreadable.pem"), before[&at("unreadable.pem")].mode);
    chmod(&at("closed"), before[&at("closed")].mode);
    assert!(snapshot(dir.path()) == before, "{:?}", snapshot(dir.path()).keys());
}
