//! A vault that looks every second whether its CA has revoked something, with a web server and an agent.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    agent::Agent,
    nginx::Nginx,
    pebble::{Behaviour, Pebble},
    process::free_port,
    revoker::Revoker,
    vault::Vault,
    world::{AGENT, CERTIFICATE, Install, SITE, register_account, webroot},
};

/// The parts; nothing is issued yet, and the revoker's responder does not run.
pub struct Monitored {
    /// The vault.
    pub vault: Vault,
    /// Who revokes in the name of the CA.
    pub revoker: Revoker,
    /// The agent, enrolled as [`AGENT`] and running.
    pub agent: Agent,
    /// It answers challenges.
    pub nginx: Nginx,
    /// The CA.
    pub pebble: Pebble,
}

impl Monitored {
    /// Starts them. With `ocsp`, certificates name the revoker's responder. `monitor` are further lines of
    /// `[monitor]` and tables behind it; the agent installs what `install` says of the web server.
    pub fn start(
        ocsp: bool,
        monitor: impl FnOnce(&Revoker, &Pebble) -> String,
        install: impl FnOnce(&Nginx) -> Install,
    ) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let ocsp = ocsp.then(|| format!("http://{address}/"));
        let pebble = Pebble::start_with(Behaviour { ocsp, ..Behaviour::default() });
        let mut revoker = Revoker::of(&pebble);
        revoker.address = address;
        let nginx = Nginx::start(SITE, pebble.http01);
        let mut vault = Vault::new();
        let more = monitor(&revoker, &pebble);
        let text = format!("[monitor]\nrevocation_every = \"1s\"\n{more}[policy]");
        vault.reconfigure("[policy]", &text);
        vault.start();
        vault.ok(&["init"]);
        let config = format!("{}{}", install(&nginx).toml(), webroot(&nginx));
        let agent = Agent::enrolled(&vault, AGENT, &config);
        register_account(&vault, &pebble);
        Self { vault, revoker, agent, nginx, pebble }
    }

    /// [`CERTIFICATE`] as it is shown.
    pub fn shown(&self) -> Value {
        self.vault.json(&["cert", "show", CERTIFICATE])
    }
}
