//! A name server with zones, a CA that asks it, and a vault that writes into it.

use std::net::SocketAddr;

use testkit::{
    name_server::{KEY_NAME, NameServer, Software},
    pebble::{Behaviour, Pebble},
    process::eventually,
    vault::Vault,
    world::{ACCOUNT, register_account},
};

/// Makes two tests of a promise `fn(Software)`, one per name server.
macro_rules! promises {
    ($($name:ident)*) => {$(
        mod $name {
            use testkit::name_server::Software;

            #[test]
            fn on_bind() {
                super::$name(Software::Bind);
            }

            #[test]
            fn on_knot() {
                super::$name(Software::Knot);
            }
        }
    )*};
}

/// The zone of every certificate here.
pub const ZONE: &str = "shop.example";
/// Where its challenges are.
pub const RECORD: &str = "_acme-challenge.shop.example";

/// A name server, a CA and a vault with an account there.
pub struct World {
    pub server: NameServer,
    pub pebble: Pebble,
    pub vault: Vault,
}

impl World {
    /// One with these zones, whose `[[acme.dns]]` has these lines.
    pub fn new(
        software: Software,
        zones: &[&str],
        entry: impl FnOnce(&NameServer) -> String,
    ) -> Self {
        let server = NameServer::start(software, zones);
        let resolver = server.address;
        Self::over(server, resolver, entry)
    }

    /// One whose CA asks this resolver; the vault asks the name server.
    pub fn over(
        server: NameServer,
        resolver: SocketAddr,
        entry: impl FnOnce(&NameServer) -> String,
    ) -> Self {
        Self::with_environment(server, resolver, Vec::new(), entry)
    }

    /// The same, and the vault has these variables.
    pub fn with_environment(
        server: NameServer,
        resolver: SocketAddr,
        environment: Vec<(String, String)>,
        entry: impl FnOnce(&NameServer) -> String,
    ) -> Self {
        let behaviour = Behaviour { dns: Some(resolver.port()), ..Behaviour::default() };
        let pebble = Pebble::start_with(behaviour);
        let mut vault = Vault::new();
        vault.environment = environment;
        let acme = format!("[acme]\nresolvers = [\"{}\"]\n", server.address);
        let entry =
            format!("[[acme.dns]]\nnameservers = [\"{}\"]\n{}", server.address, entry(&server));
        vault.reconfigure("[acme]\n", &acme);
        vault.reconfigure("[policy]\n", &format!("{entry}[policy]\n"));
        vault.start();
        vault.ok(&["init"]);
        register_account(&vault, &pebble);
        Self { server, pebble, vault }
    }

    /// Waits until a name has no text any more.
    pub fn nothing_stays(&self, record: &str) {
        let gone = || self.server.records(record, "TXT").is_empty().then_some(());
        eventually("the record is gone", gone);
    }

    /// Waits until a certificate is issued.
    pub fn wait_issued(&self, name: &str) {
        eventually(&format!("{name} is issued"), || {
            (self.vault.json(&["cert", "show", name])["status"] == "issued").then_some(())
        });
    }

    /// Waits until an attempt at a certificate has failed; answers what is said of it.
    pub fn wait_failed(&self, name: &str) -> String {
        eventually("the failure is shown", || {
            let error = self.vault.json(&["cert", "show", name])["last_error"].clone();
            error.as_str().filter(|said| !said.is_empty()).map(str::to_owned)
        })
    }
}

/// Updates by TSIG.
pub fn rfc2136(server: &NameServer) -> String {
    format!(
        "provider = \"rfc2136\"\nserver = \"{}\"\nkey_name = \"{KEY_NAME}\"\nsecret = {{ file = {:?} }}\n",
        server.address,
        server.key_file()
    )
}

/// `vaultctl`'s arguments that order a certificate by dns-01.
pub fn order<'a>(name: &'a str, domains: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["cert", "issue", name, "--account", ACCOUNT, "--challenge", "dns-01"];
    args.extend(["--custody", "vault"]);
    for domain in domains {
        args.extend(["--domain", domain]);
    }
    args.extend(more);
    args
}
