//! `vault.toml`: parsed, then validated; every fault is reported with its line, and a field that
//! nobody knows is a fault.

mod backup;
mod dns;
mod dns_kinds;
mod limits;
mod monitor;
mod parse;
mod secret;

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use serde::Deserialize;

pub use backup::{Backup, S3, TimeOfDay};
pub use dns::{DnsProvider, DnsServer};
pub use dns_kinds::{DNS_KINDS, DnsKind};
pub use limits::{CaLimits, Rate};
pub use monitor::{Monitor, MonitoredCa};
pub use parse::{load, parse};
pub use secret::SecretSource;

/// Everything `vaultd` is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where private keys live.
    pub hsm: Hsm,
    /// Where everything else lives.
    pub store: Store,
    /// Where callers reach the vault.
    pub listen: Listen,
    /// Where operations are recorded.
    pub audit: Audit,
    /// Who can open backups, when they are made, and where they are put.
    pub backup: Backup,
    /// How CAs are spoken to, and when certificates are renewed.
    pub acme: Acme,
    /// How certificates are watched after they were issued.
    pub monitor: Monitor,
    /// Who is who.
    pub policy: Policy,
    /// How new versions come to several agents.
    pub rollout: Rollout,
}

/// `[hsm]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsm {
    /// Module and token as an RFC 7512 URI: `pkcs11:token=vault?module-path=/usr/lib/...so`.
    pub uri: String,
    /// The user PIN.
    pub pin: SecretSource,
    /// The security officer's PIN; needed by `vaultctl init`, `kek rotate` and `backup restore`
    /// only, so remove it afterwards.
    #[serde(default)]
    pub so_pin: Option<SecretSource>,
    /// Logged-in sessions, each with a thread of its own. Default 4: SoftHSM gains nothing from
    /// more, network HSMs do. Connections for signatures of web servers have one more for each processor,
    /// as many as this at most, which are opened when the first agents come.
    #[serde(default = "Hsm::default_workers")]
    pub workers: usize,
    /// Requests that may wait for a session before callers are refused. Default 1024.
    #[serde(default = "Hsm::default_queue")]
    pub queue: usize,
    /// How long one operation may take, waiting included. Default 10 s: RSA-4096 generation in
    /// software takes seconds. Keys are made one after the other, and each has this time to itself.
    #[serde(default = "Hsm::default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// Environment variables that the module reads when it is loaded, for example
    /// `SOFTHSM2_CONF`. Set by starting the process anew, before anything else happens.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

impl Hsm {
    fn default_workers() -> usize {
        4
    }
    fn default_queue() -> usize {
        1024
    }
    fn default_deadline() -> Duration {
        Duration::from_secs(10)
    }
}

/// `[store]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `sqlite:PATH` or `postgres://...`.
    pub url: String,
    /// Connections, of which one writes where it is SQLite. Default 4.
    #[serde(default = "Store::default_connections")]
    pub connections: u32,
}

impl Store {
    fn default_connections() -> u32 {
        4
    }
}

/// `[listen]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// mTLS gRPC for agents and operators.
    pub address: SocketAddr,
    /// The local admin socket, mode 0600.
    pub admin_socket: PathBuf,
    /// How long the vault's own server certificate is valid; it is replaced at half of it.
    /// Default 24 h: its key lives in memory only.
    #[serde(default = "Listen::default_lifetime", with = "humantime_serde")]
    pub server_certificate_lifetime: Duration,
    /// How long identities of agents, operators and auditors are valid. Default 30 days: an agent
    /// that was off for less comes back by itself.
    #[serde(default = "Listen::default_identity", with = "humantime_serde")]
    pub identity_lifetime: Duration,
    /// How long a stop waits for calls under way. Default 10 s.
    #[serde(default = "Listen::default_drain", with = "humantime_serde")]
    pub drain: Duration,
}

impl Listen {
    fn default_lifetime() -> Duration {
        Duration::from_secs(24 * 3600)
    }
    fn default_identity() -> Duration {
        Duration::from_secs(30 * 24 * 3600)
    }
    fn default_drain() -> Duration {
        Duration::from_secs(10)
    }
}

/// `[audit]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The log file; created 0600.
    pub path: PathBuf,
    /// Records that may wait to be written before operations are refused. Default 4096.
    #[serde(default = "Audit::default_queue")]
    pub queue: usize,
    /// How long a record may take to reach the disk. Default 5 s.
    #[serde(default = "Audit::default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// When records of signatures in TLS handshakes and of messages reach the disk. Default `each`.
    #[serde(default)]
    pub sync: AuditSync,
    /// How long that may take with `interval`. Default 100 ms.
    #[serde(default = "Audit::default_interval", with = "humantime_serde")]
    pub sync_interval: Duration,
}

/// When records of signatures in TLS handshakes and of messages reach the disk; all others do so
/// before anything else happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditSync {
    /// Before each signature: a power failure loses no record, and each handshake waits for the
    /// disk.
    #[default]
    Each,
    /// Within `sync_interval`: a power failure loses the records of that time at most, a crash of
    /// the vault none.
    Interval,
}

impl Audit {
    fn default_interval() -> Duration {
        Duration::from_millis(100)
    }
    fn default_queue() -> usize {
        4096
    }
    fn default_deadline() -> Duration {
        Duration::from_secs(5)
    }
}

/// `[acme]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acme {
    /// How long a CA may take to answer one request. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Certificates that are ordered at once. Default 16.
    pub concurrent_orders: usize,
    /// The part of its lifetime after which a certificate is renewed. Default 0.66, as the CA
    /// community recommends for lifetimes of 10 days and more.
    pub renew_after: f64,
    /// Whether CAs are asked when they want certificates renewed (RFC 9773). Default true.
    pub ari: bool,
    /// Resolvers that are asked about the zones of dns-01 challenges. Default the system's.
    pub resolvers: Vec<DnsServer>,
    /// How long a zone's servers have to show a challenge's record before the attempt is given up.
    /// Default 3 min.
    #[serde(with = "humantime_serde")]
    pub propagation_timeout: Duration,
    /// Who writes the records of dns-01 challenges.
    pub dns: Vec<DnsProvider>,
    /// What CAs allow. Default what Let's Encrypt publishes, for its directory alone.
    pub limits: Vec<CaLimits>,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            concurrent_orders: 32,
            renew_after: 2.0 / 3.0,
            ari: true,
            resolvers: Vec::new(),
            propagation_timeout: Duration::from_secs(180),
            dns: Vec::new(),
            limits: Vec::new(),
        }
    }
}

/// `[rollout]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// How long the agent that gets a new version first has to prove it, before another agent is
    /// tried. Default 1 h: a web server that is restarted is back by then.
    #[serde(with = "humantime_serde")]
    pub canary_patience: Duration,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { canary_patience: Duration::from_secs(3600) }
    }
}

/// `[policy]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The trust domain of every SPIFFE id that this vault issues; fixed at `init`.
    pub trust_domain: String,
    /// Signatures a second that one agent gets with one key. Default 5000: more than a web server
    /// on one machine makes, and a bound on what one that was taken over can make others wait.
    #[serde(default = "Policy::default_rate")]
    pub tls_signatures_per_second: NonZeroU32,
}

impl Policy {
    fn default_rate() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(4999)
    }
}
