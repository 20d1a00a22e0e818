//! Many certificates at once through one account, beside Debian's `lego` one after another and eight
//! at once: the same CA, the same machine, by HTTP-01. All of it is in namespaces of its own, where
//! port 80 is free and every name leads here. One nginx answers the challenges of both.

mod ca;
mod fleet;
mod lego;

use std::{io::Write as _, time::Instant};

use anyhow::Result;
use testkit::{namespace, nginx::Nginx, softhsm::SoftHsm};

use crate::{
    Pace, cpu,
    results::Results,
    tokens::{self, Work},
};

use ca::{Authority, Kind};
use fleet::{Asked, Fleet};
use lego::Lego;

/// Certificates that lego orders in a round: its rate does not depend on how many there are.
const LEGOS: usize = 48;
/// Certificates that are ordered from Pebble at most: it looks through all authorizations that it has had for
/// each order, and the more there are the sooner it stops for ever.
const PEBBLES: usize = 200;
/// How many legos there are at once.
const AT_ONCE: usize = 8;

/// What one side of one round came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ordered {
    /// Certificates in a second.
    rate: f64,
    /// CPU milliseconds of the client for a certificate.
    client_ms: f64,
    /// CPU milliseconds of the CA for a certificate.
    authority_ms: f64,
    /// What part of both processors' time the CA used.
    authority_share: f64,
    /// Attempts that failed.
    failures: f64,
    /// CPU milliseconds of whoever answers challenges, where that is another program.
    answers_ms: f64,
}

/// Measures in namespaces, with this many certificates at once.
///
/// # Errors
/// Where anything cannot be started or fails.
pub fn measure(pace: Pace, certificates: usize, results: &mut Results) -> Result<()> {
    if namespace::is_inside() {
        return measure_inside(pace, certificates, results);
    }
    let out = tempfile::tempdir()?;
    let (rounds, number) = (pace.rounds.to_string(), certificates.to_string());
    let dir = out.path().display().to_string();
    let what = ["--only", "acme", "--rounds", &rounds, "--certificates", &number, "--out", &dir];
    namespace::program(&what);
    results.append(Results::read(&out.path().join("results.json"))?);
    Ok(())
}

fn measure_inside(pace: Pace, certificates: usize, results: &mut Results) -> Result<()> {
    let mut names = vec![testkit::caddy::NAME.to_owned()];
    for round in 0..pace.rounds {
        for asked in [Asked::First, Asked::FirstOfAgent] {
            names.extend((0..certificates).map(|number| fleet::domain(asked, round, number)));
        }
        names.extend((0..2 * LEGOS).map(|number| lego::domain(round, number)));
        names.extend((0..AT_ONCE).map(|shell| lego::account_domain(round, shell)));
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    namespace::settle(&names);
    let token = token(pace.rounds, certificates, results)?;
    for kind in [Kind::Caddy, Kind::Pebble] {
        let authority = Authority::start(kind);
        let nginx = Nginx::start("challenges.example", authority.http01()?);
        let mut sides = Sides::default();
        let certificates = match kind {
            Kind::Caddy => certificates,
            Kind::Pebble => certificates.min(PEBBLES),
        };
        for round in 0..pace.rounds {
            // A vault without a past, as in every other round.
            let mut fleet = Fleet::new(&authority, &nginx, round, certificates)?;
            let ours = fleet.order(Asked::First, &authority, round, certificates)?;
            sides.ours.push(said(kind, "vault", ours)?);
            let renewed = fleet.order(Asked::Renewal, &authority, round, certificates)?;
            sides.renewed.push(said(kind, "renewal", renewed)?);
            let own = fleet.order(Asked::FirstOfAgent, &authority, round, certificates)?;
            sides.own.push(said(kind, "agent-key", own)?);
            drop(fleet);
            let lego = Lego::new(&nginx, round)?;
            // Pebble's slowness to lego is lego's own polling; a few show it.
            let legos = if kind == Kind::Caddy { LEGOS } else { AT_ONCE };
            sides.single.push(said(kind, "lego", lego.order(&authority, 0..legos, 1)?)?);
            let at_once = lego.order(&authority, LEGOS..LEGOS + legos, AT_ONCE)?;
            sides.eight.push(said(kind, "lego8", at_once)?);
        }
        sides.report(results, kind, &token);
    }
    Ok(())
}

/// Makes as many keys in a token without a vault: no certificate with a key of its own takes less. Answers
/// how many a second, by round.
fn token(rounds: usize, keys: usize, results: &mut Results) -> Result<Vec<f64>> {
    let (mut rates, mut used) = (Vec::new(), Vec::new());
    #[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
    let count = keys as f64;
    for _ in 0..rounds {
        let softhsm = SoftHsm::new();
        let config = tokens::scratch(&softhsm)?;
        let (began, before) = (Instant::now(), cpu::seconds_of_children()?);
        tokens::apart(&config, tokens::SCRATCH, Work::Make, keys)?;
        rates.push(count / began.elapsed().as_secs_f64());
        used.push((cpu::seconds_of_children()? - before) * 1e3 / count);
    }
    results.add("acme.token.rate", "1/s", &rates);
    results.add("acme.token.cpu_ms", "ms", &used);
    Ok(rates)
}

/// Says at once what came out: all of it takes long.
fn said(kind: Kind, side: &str, ordered: Ordered) -> Result<Ordered> {
    writeln!(std::io::stderr(), "{} {side}: {ordered:.2?}", kind.name())?;
    Ok(ordered)
}

/// What came of each side, by round.
#[derive(Default)]
struct Sides {
    ours: Vec<Ordered>,
    renewed: Vec<Ordered>,
    own: Vec<Ordered>,
    single: Vec<Ordered>,
    eight: Vec<Ordered>,
}

impl Sides {
    fn report(&self, results: &mut Results, kind: Kind, token: &[f64]) {
        let ca = kind.name();
        let sides = [
            ("vault", &self.ours),
            ("renewal", &self.renewed),
            ("agent_key", &self.own),
            ("lego", &self.single),
            ("lego8", &self.eight),
        ];
        for (side, rounds) in sides {
            let all = |of: fn(&Ordered) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
            results.add(format!("acme.{ca}.{side}.rate"), "1/s", &all(|o| o.rate));
            results.add(format!("acme.{ca}.{side}.cpu_ms"), "ms", &all(|o| o.client_ms));
            results.add(format!("acme.{ca}.{side}.ca_cpu_ms"), "ms", &all(|o| o.authority_ms));
            results.add(format!("acme.{ca}.{side}.ca_share"), "ratio", &all(|o| o.authority_share));
            if ["vault", "renewal", "agent_key"].contains(&side) {
                results.add(format!("acme.{ca}.{side}.agent_cpu_ms"), "ms", &all(|o| o.answers_ms));
                results.add(format!("acme.{ca}.{side}.failures"), "", &all(|o| o.failures));
            }
        }
        let prefix = match kind {
            Kind::Caddy => "acme".to_owned(),
            Kind::Pebble => "acme.pebble".to_owned(),
        };
        let ratio = |side: &[Ordered], of: fn(&Ordered) -> f64| {
            side.iter().zip(&self.single).map(|(a, b)| of(a) / of(b)).collect::<Vec<_>>()
        };
        let ours = [(&self.ours, ""), (&self.renewed, "renewal."), (&self.own, "agent_key.")];
        for (side, name) in ours {
            let (rate, cpu) = (ratio(side, |o| o.rate), ratio(side, |o| o.client_ms));
            results.add(format!("{prefix}.{name}rate_ratio_lego"), "ratio", &rate);
            results.add(format!("{prefix}.{name}cpu_ratio_lego"), "ratio", &cpu);
        }
        let of_token: Vec<_> = self.ours.iter().zip(token).map(|(a, b)| a.rate / b).collect();
        results.add(format!("{prefix}.rate_ratio_token"), "ratio", &of_token);
    }
}
