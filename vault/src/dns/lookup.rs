//! Questions to resolvers and to a zone's own servers.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, Record, RecordType},
};

use crate::error::{Error, Result};

/// How many aliases are followed, one to the next.
const MOST_ALIASES: usize = 16;
/// How long one server has for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks the DNS; remembers nothing, since what is asked about has just changed.
#[derive(Clone)]
pub(super) struct Lookup {
    resolver: TokioResolver,
}

impl Lookup {
    /// By these resolvers, or by the system's where none are named.
    pub(super) fn new(resolvers: &[SocketAddr]) -> Result<Self> {
        let failed = |e: NetError| {
            Error::invalid("use", "the system's resolvers", e)
                .hint("name others: resolvers in [acme] of vault.toml")
        };
        let resolver = match resolvers {
            [] => {
                let mut builder = TokioResolver::builder_tokio().map_err(failed)?;
                set(builder.options_mut());
                builder.build().map_err(failed)?
            }
            named => over(named).map_err(failed)?,
        };
        Ok(Self { resolver })
    }

    /// The records of a type that a name has; none where it has none or is not there.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>> {
        match self.resolver.lookup(name, kind).await {
            Ok(found) => Ok(found.answers().to_vec()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(Error::unavailable("look up", format!("{kind} of {name}"), error)
                .hint("check resolvers in [acme] of vault.toml")),
        }
    }

    /// The name that aliases lead to.
    pub(super) async fn follow(&self, name: &str) -> Result<String> {
        let mut name = name.to_owned();
        for _ in 0..MOST_ALIASES {
            let found = self.records(&name, RecordType::CNAME).await?;
            let next = found.iter().find_map(|record| match &record.data {
                RData::CNAME(to) if same(&record.name.to_ascii(), &name) => Some(to.0.to_ascii()),
                _ => None,
            });
            let Some(next) = next else { return Ok(name) };
            name = next.to_lowercase();
        }
        let why = format!("more than {MOST_ALIASES} aliases lead on from it");
        Err(Error::invalid("look up", format!("record {name}"), why))
    }

    /// The zone that a name is in: the nearest name above it that has a start of authority.
    pub(super) async fn zone(&self, name: &str) -> Result<String> {
        let mut zone = name;
        while !zone.is_empty() {
            let found = self.records(zone, RecordType::SOA).await?;
            let start =
                |r: &Record| matches!(r.data, RData::SOA(_)) && same(&r.name.to_ascii(), zone);
            if found.iter().any(start) {
                return Ok(zone.to_owned());
            }
            zone = zone.split_once('.').map_or("", |(_, rest)| rest);
        }
        Err(Error::invalid("look up", format!("the zone of {name}"), "there is none")
            .hint("check that the zone is delegated, and resolvers in [acme] of vault.toml"))
    }

    /// The addresses of a zone's servers.
    pub(super) async fn servers(&self, zone: &str) -> Result<Vec<SocketAddr>> {
        let mut servers = Vec::new();
        for record in self.records(zone, RecordType::NS).await? {
            let RData::NS(server) = &record.data else { continue };
            let name = server.0.to_ascii();
            let before = servers.len();
            for kind in [RecordType::A, RecordType::AAAA] {
                let addresses = self.records(&name, kind).await?;
                servers.extend(addresses.iter().filter_map(address));
            }
            if servers.len() == before {
                let why = format!("its server {name} has no address");
                return Err(Error::unavailable("look up", format!("zone {zone}"), why));
            }
        }
        if servers.is_empty() {
            return Err(Error::unavailable(
                "look up",
                format!("zone {zone}"),
                "it names no server",
            ));
        }
        Ok(servers)
    }

    /// Whether a server shows a text as one of a name's. One that does not answer does not.
    pub(super) async fn shows(&self, server: SocketAddr, name: &str, value: &str) -> bool {
        let Ok(asked) = over(&[server]) else { return false };
        let Ok(found) = asked.lookup(name, RecordType::TXT).await else { return false };
        found.answers().iter().any(|record| match &record.data {
            RData::TXT(txt) => txt.txt_data.concat() == value.as_bytes(),
            _ => false,
        })
    }
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

fn address(record: &Record) -> Option<SocketAddr> {
    let ip = match &record.data {
        RData::A(a) => IpAddr::V4(a.0),
        RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
        _ => return None,
    };
    Some(SocketAddr::new(ip, 53))
}

fn set(options: &mut ResolverOpts) {
    options.cache_size = 0;
    options.timeout = ANSWER;
    options.use_hosts_file = ResolveHosts::Never;
}

/// One that asks these servers.
fn over(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let servers = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.to_vec())
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    set(builder.options_mut());
    builder.build()
}
