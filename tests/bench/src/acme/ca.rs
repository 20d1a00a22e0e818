//! The CAs that certificates are ordered from.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use testkit::{
    caddy::{self, Caddy},
    pebble::{Behaviour, Pebble},
};

use crate::cpu;

/// Which CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Caddy's `acme_server`, which answers at once.
    Caddy,
    /// Pebble, which rejects one nonce in twenty.
    Pebble,
}

impl Kind {
    /// As results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Caddy => "caddy",
            Self::Pebble => "pebble",
        }
    }
}

/// A running CA.
pub enum Authority {
    /// A Caddy.
    Caddy(Caddy),
    /// A Pebble.
    Pebble(Box<Pebble>),
}

impl Authority {
    /// Starts one.
    pub fn start(kind: Kind) -> Self {
        match kind {
            Kind::Caddy => Self::Caddy(Caddy::start_in_memory()),
            Kind::Pebble => Self::Pebble(Box::new(Pebble::start_with(Behaviour {
                nonce_reject: 5,
                ..Behaviour::default()
            }))),
        }
    }

    /// How many orders it is asked for at once. Of many, Pebble may stop for ever: one order holds an
    /// authorization and waits for the database while another looks through all authorizations with the
    /// database held.
    pub fn orders_at_once(&self) -> usize {
        match self {
            Self::Caddy(_) => 32,
            Self::Pebble(_) => 4,
        }
    }

    /// Its directory URL.
    pub fn directory(&self) -> String {
        match self {
            Self::Caddy(caddy) => caddy.directory(),
            Self::Pebble(pebble) => pebble.directory(),
        }
    }

    /// The root of its HTTPS server, a PEM file.
    pub fn root(&self) -> PathBuf {
        match self {
            Self::Caddy(caddy) => caddy.root(),
            Self::Pebble(pebble) => pebble.root(),
        }
    }

    /// Where it validates HTTP-01.
    pub fn http01(&self) -> Result<SocketAddr> {
        match self {
            Self::Caddy(_) => Ok(caddy::HTTP01.parse()?),
            Self::Pebble(pebble) => Ok(pebble.http01),
        }
    }

    /// CPU seconds that it has used.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu::seconds_of(match self {
            Self::Caddy(caddy) => caddy.id(),
            Self::Pebble(pebble) => pebble.id(),
        })
    }
}
