//! An agent that is killed in the middle of an installation: when it comes back, with or without
//! its vault, either the new files are proven or the last good ones are back.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::fs;

use testkit::process::eventually;
use testkit::tree::{Entry, entry};
use testkit::vault::Vault;
use testkit::world::{CERTIFICATE, Install, World, webroot};

/// A world that holds version 1 and whose reload command is `reload.sh`.
struct Interrupted {
    world: World,
    chain: Entry,
    key: Entry,
    serial: String,
}

impl Interrupted {
    fn new() -> Self {
        let world = World::with(Vault::initialized(), |nginx| {
            fs::write(nginx.file("reload.sh"), nginx.reload_line()).unwrap();
            let reload = Some(format!("[\"sh\", {:?}]", nginx.file("reload.sh")));
            let more = "command_timeout = \"10m\"\n".to_owned();
            let install = Install { reload, more, ..Install::into(nginx) };
            format!("{}{}", install.toml(), webroot(nginx))
        });
        let serial = world.issue()["serial"].as_str().unwrap().to_owned();
        let (chain, key) = (world.nginx.file("chain.pem"), world.nginx.file("key.pem"));
        Self { chain: entry(&chain), key: entry(&key), serial, world }
    }

    /// Kills the agent while the reload command of version 2 stands still, before or after it has
    /// made nginx reload; then the vault, so that the agent comes back alone.
    fn kill_in_reload(&mut self, reloaded: bool) {
        let nginx = &self.world.nginx;
        let (reached, hold) = (nginx.file("reached"), nginx.file("hold"));
        fs::write(&hold, "").unwrap();
        let reload = if reloaded { nginx.reload_line() } else { ":".to_owned() };
        // It ends with the test's directory at the latest, and does nothing more.
        let stand_still = format!(
            "{reload}\ntouch '{}'\nwhile [ -e '{}' ]; do sleep 0.1; done\nexit 1\n",
            reached.display(),
            hold.display()
        );
        fs::write(nginx.file("reload.sh"), stand_still).unwrap();
        self.world.vault.ok(&["cert", "renew", CERTIFICATE, "--force"]);
        eventually("the reload is under way", || reached.exists().then_some(()));
        if reloaded {
            eventually("nginx serves version 2", || {
                (self.world.served_serial() != self.serial).then_some(())
            });
        }
        self.world.agent.kill();
        self.world.vault.kill();
        fs::remove_file(hold).unwrap();
        fs::write(self.world.nginx.file("reload.sh"), self.world.nginx.reload_line()).unwrap();
    }

    /// Starts the agent again; answers the version that it holds once it has settled.
    fn come_back(&mut self) -> u64 {
        self.world.agent.start();
        let journal = self.world.agent.file("state/certificates/shop/journal.json");
        self.world.agent.wait_log("an installation was interrupted");
        eventually("the installation is settled", || (!journal.exists()).then_some(()));
        let agent = &self.world.agent;
        eventually("what is held is served", || {
            let status = agent.status();
            let row = &status["certificates"][0];
            (row["served_now"] == true).then(|| row["version"].as_u64().unwrap())
        })
    }

    fn the_last_good_files_are_back(&self) {
        assert!(entry(&self.world.nginx.file("chain.pem")) == self.chain, "not the last chain");
        assert!(entry(&self.world.nginx.file("key.pem")) == self.key, "not the last key");
        self.world.wait_serves(&self.serial);
    }

    /// Starts the vault again: whatever was settled, version 2 is held in the end.
    fn goes_on_to_version_2(&mut self) {
        self.world.vault.start();
        let now = eventually("version 2 is held", || {
            let now = self.world.certificate(CERTIFICATE);
            (now["deployments"][0]["held_version"] == 2).then_some(now)
        });
        assert_eq!(now["deployments"][0]["status"], "serving", "{now}");
        self.world.wait_serves(now["serial"].as_str().unwrap());
    }
}

#[test]
fn what_was_not_served_yet_is_undone_after_a_kill() {
    let mut interrupted = Interrupted::new();
    interrupted.kill_in_reload(false);
    assert!(entry(&interrupted.world.nginx.file("chain.pem")) != interrupted.chain);
    assert_eq!(interrupted.world.served_serial(), interrupted.serial, "the site serves on");
    assert_eq!(interrupted.come_back(), 1);
    interrupted.the_last_good_files_are_back();
    interrupted.goes_on_to_version_2();
}

#[test]
fn what_is_served_already_is_kept_after_a_kill() {
    let mut interrupted = Interrupted::new();
    interrupted.kill_in_reload(true);
    let served = interrupted.world.served_serial();
    assert_eq!(interrupted.come_back(), 2);
    interrupted.world.wait_serves(&served);
    // What is on the disk is what is served: nginx can start anew with it.
    interrupted.world.nginx.reload();
    interrupted.world.wait_serves(&served);
    interrupted.goes_on_to_version_2();
}

#[test]
fn a_kill_between_the_key_and_the_chain_leaves_the_pair_that_was_there() {
    for new_key in [true, false] {
        let mut interrupted = Interrupted::new();
        interrupted.kill_in_reload(false);
        // As it is on the disk after the key's rename and before the chain's; and before both.
        let nginx = &interrupted.world.nginx;
        fs::write(nginx.file("chain.pem"), &interrupted.chain.content).unwrap();
        if !new_key {
            fs::write(nginx.file("key.pem"), &interrupted.key.content).unwrap();
        }
        assert_eq!(interrupted.come_back(), 1, "new key: {new_key}");
        interrupted.the_last_good_files_are_back();
        interrupted.world.nginx.reload();
        interrupted.goes_on_to_version_2();
    }
}

#[test]
fn an_agent_that_is_killed_again_and_again_ends_where_it_should() {
    let mut interrupted = Interrupted::new();
    for kill in 0..5u64 {
        interrupted.world.vault.ok(&["cert", "renew", CERTIFICATE, "--force"]);
        let held = interrupted.world.agent.file("state/certificates/shop");
        // Each time somewhat later in the order or the installation.
        let steps = ["pending.json", "journal.json", "journal.json", "held.json", "key.pem"];
        let step = held.join(steps[kill as usize]);
        eventually("a step of the renewal", || step.exists().then_some(()));
        interrupted.world.agent.kill();
        assert!(!interrupted.world.served_serial().is_empty(), "the site serves on");
        interrupted.world.agent.start();
        interrupted.world.wait_connected();
    }
    let now = eventually("the newest version is held", || {
        let now = interrupted.world.certificate(CERTIFICATE);
        let settled =
            now["progress"] == "idle" && now["deployments"][0]["held_version"] == now["version"];
        settled.then_some(now)
    });
    interrupted.world.wait_serves(now["serial"].as_str().unwrap());
}
