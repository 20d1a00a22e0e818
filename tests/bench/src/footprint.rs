//! What the programs take: memory when nothing is asked of them, and disk.

use std::{fs, thread, time::Duration};

use anyhow::Result;
use testkit::programs::ours;

use crate::{Pace, cpu, results::Results, sites::Site};

/// How long nothing is asked of them before they count as idle.
const QUIET: Duration = Duration::from_secs(5);

/// Measures.
///
/// # Errors
/// Where anything cannot be started.
pub fn measure(pace: Pace, results: &mut Results) -> Result<()> {
    let mut site = Site::new();
    let (vault, agent) = (site.vault.process().id(), site.agent.process().id());
    let (mut of_vault, mut of_agent) = (Vec::new(), Vec::new());
    for _ in 0..pace.rounds {
        thread::sleep(QUIET / 5);
        of_vault.push(cpu::resident_mib(vault)?);
        of_agent.push(cpu::resident_mib(agent)?);
    }
    results.add("vault.idle_rss_mib", "MiB", &of_vault);
    results.add("agent.idle_rss_mib", "MiB", &of_agent);
    for (name, program) in [
        ("vault.binary_mib", "vaultd"),
        ("agent.binary_mib", "vault-agent"),
        ("vaultctl.binary_mib", "vaultctl"),
        ("module.binary_mib", "libvault_pkcs11.so"),
    ] {
        #[allow(clippy::cast_precision_loss)] // far less than 2^53
        let mib = fs::metadata(ours(program))?.len() as f64 / f64::from(1 << 20);
        results.add(name, "MiB", &[mib]);
    }
    Ok(())
}
