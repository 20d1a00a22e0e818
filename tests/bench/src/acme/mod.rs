//! Many certificates at once through one account, beside Debian's `lego` one after another and eight
//! at once: the same CA, the same machine, by HTTP-01. All of it is in namespaces of its own, where
//! port 80 is free and every name leads here. One nginx answers the challenges of both.

mod ca;
mod fleet;
mod lego;

use std::io::Write as _;

use anyhow::Result;
use testkit::{namespace, nginx::Nginx};

use crate::{Pace, results::Results};

use ca::{Authority, Kind};
use fleet::Fleet;
use lego::Lego;

/// Certificates that lego orders in a round: its rate does not depend on how many there are.
const LEGOS: usize = 48;
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
        names.extend((0..certificates).map(|number| fleet::domain(round, number)));
        names.extend((0..2 * LEGOS).map(|number| lego::domain(round, number)));
        names.extend((0..AT_ONCE).map(|shell| lego::account_domain(round, shell)));
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    namespace::settle(&names);
    for kind in [Kind::Caddy, Kind::Pebble] {
        let authority = Authority::start(kind);
        let nginx = Nginx::start("challenges.example", authority.http01()?);
        let mut fleet = Fleet::new(&authority, &nginx, pace.rounds, certificates)?;
        let (mut ours, mut single, mut eight) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..pace.rounds {
            ours.push(said(kind, "vault", fleet.order(&authority, round, certificates)?)?);
            let lego = Lego::new(&nginx, round)?;
            // Pebble's slowness to lego is lego's own polling; a few show it.
            let legos = if kind == Kind::Caddy { LEGOS } else { AT_ONCE };
            single.push(said(kind, "lego", lego.order(&authority, 0..legos, 1)?)?);
            let at_once = lego.order(&authority, LEGOS..LEGOS + legos, AT_ONCE)?;
            eight.push(said(kind, "lego8", at_once)?);
        }
        report(results, kind, &[("vault", &ours), ("lego", &single), ("lego8", &eight)]);
    }
    Ok(())
}

/// Says at once what came out: all of it takes long.
fn said(kind: Kind, side: &str, ordered: Ordered) -> Result<Ordered> {
    writeln!(std::io::stderr(), "{} {side}: {ordered:.2?}", kind.name())?;
    Ok(ordered)
}

fn report(results: &mut Results, kind: Kind, sides: &[(&str, &Vec<Ordered>); 3]) {
    let ca = kind.name();
    for (side, rounds) in sides {
        let all = |of: fn(&Ordered) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
        results.add(format!("acme.{ca}.{side}.rate"), "1/s", &all(|o| o.rate));
        results.add(format!("acme.{ca}.{side}.cpu_ms"), "ms", &all(|o| o.client_ms));
        results.add(format!("acme.{ca}.{side}.ca_cpu_ms"), "ms", &all(|o| o.authority_ms));
        results.add(format!("acme.{ca}.{side}.ca_share"), "ratio", &all(|o| o.authority_share));
        if *side == "vault" {
            results.add(format!("acme.{ca}.agent.cpu_ms"), "ms", &all(|o| o.answers_ms));
            results.add(format!("acme.{ca}.vault.failures"), "", &all(|o| o.failures));
        }
    }
    let [(_, ours), (_, single), _] = sides;
    let ratio = |of: fn(&Ordered) -> f64| {
        ours.iter().zip(*single).map(|(a, b)| of(a) / of(b)).collect::<Vec<_>>()
    };
    let prefix = match kind {
        Kind::Caddy => "acme".to_owned(),
        Kind::Pebble => "acme.pebble".to_owned(),
    };
    results.add(format!("{prefix}.rate_ratio_lego"), "ratio", &ratio(|o| o.rate));
    results.add(format!("{prefix}.cpu_ratio_lego"), "ratio", &ratio(|o| o.client_ms));
}
