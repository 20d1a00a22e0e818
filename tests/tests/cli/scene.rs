//! A vault with one of everything, and a look at all of it.

use std::fs;

use serde_json::{Value, json};
use testkit::{
    pebble::Pebble,
    programs::Ended,
    vault::Vault,
    world::{AGENT, CERTIFICATE, SITE, order, register_account},
};

/// A vault with a CA's account `ca`, an agent that is invited, the keys `k` (EC) and `r` (RSA), and
/// a certificate that waits for the agent's CSR, so that nothing changes by itself.
pub struct Scene {
    /// The vault.
    pub vault: Vault,
    /// The CA.
    pub pebble: Pebble,
}

impl Scene {
    /// A fresh one.
    pub fn new() -> Self {
        let (vault, pebble) = (Vault::initialized(), Pebble::start());
        register_account(&vault, &pebble);
        vault.ok(&["agent", "token", AGENT]);
        vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256", "--label", "team=shop"]);
        vault.ok(&["key", "generate", "r", "--algorithm", "rsa-2048"]);
        vault.ok(&order(CERTIFICATE, SITE, "agent", &[]));
        fs::write(vault.file("message"), "m").unwrap();
        testkit::process::eventually("the agent's CSR is awaited", || {
            let shown = vault.json(&["cert", "show", CERTIFICATE]);
            (shown["progress"] == "awaiting_csr").then_some(())
        });
        Self { vault, pebble }
    }

    /// Everything that the vault and its token have, but for the audit log, which only grows.
    pub fn everything(&self) -> Value {
        let mut status = self.vault.json(&["status"]);
        status.as_object_mut().expect("an object").remove("audit");
        let lists = ["key", "account", "cert", "agent"];
        let lists: Vec<_> = lists.iter().map(|noun| self.vault.json(&[noun, "list"])).collect();
        json!({ "status": status, "lists": lists, "token": self.vault.keys_in_token() })
    }

    /// Runs what must be refused with this code and word, and must change nothing.
    pub fn refuse(&self, args: &[&str], code: i32, why: &str) -> Ended {
        let before = self.everything();
        let ended = self.vault.ctl(args);
        assert_eq!(ended.code, code, "vaultctl {args:?}: {ended:?}");
        ended.refused(code, why);
        assert_eq!(ended.stdout, "", "vaultctl {args:?}");
        assert_eq!(self.everything(), before, "vaultctl {args:?} changed something");
        ended
    }
}
