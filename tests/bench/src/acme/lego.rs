//! Debian's `lego`, as it is used from a shell: one process for a certificate, the account's key and the
//! leaf's on disk, challenges in nginx's webroot.

use std::{
    ops::Range,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testkit::nginx::Nginx;

use super::{Ordered, ca::Authority};
use crate::cpu;

/// The domain of a round's certificate.
pub fn domain(round: usize, number: usize) -> String {
    format!("lego-{round}-{number}.example")
}

/// The domain by which a shell's account is made.
pub fn account_domain(round: usize, shell: usize) -> String {
    format!("lego-{round}-account-{shell}.example")
}

/// Accounts of lego's, whose challenges a web server answers.
pub struct Lego<'a> {
    dir: TempDir,
    nginx: &'a Nginx,
    round: usize,
}

impl<'a> Lego<'a> {
    /// None yet: accounts come with their first certificate.
    ///
    /// # Errors
    /// Where there is no room for its files.
    pub fn new(nginx: &'a Nginx, round: usize) -> Result<Self> {
        Ok(Self { dir: tempfile::tempdir()?, nginx, round })
    }

    /// Orders certificates, so many at once.
    ///
    /// # Errors
    /// Where lego fails.
    pub fn order(
        &self,
        authority: &Authority,
        numbers: Range<usize>,
        at_once: usize,
    ) -> Result<Ordered> {
        // Each has an account of its own, which is there before it is measured: lego cannot share one's
        // file while it is written.
        for shell in 0..at_once {
            self.run(authority, shell, &account_domain(self.round, shell))?;
        }
        let (next, count) = (AtomicUsize::new(numbers.start), numbers.len());
        let (ca, client, began) =
            (authority.cpu_seconds()?, cpu::seconds_of_children()?, Instant::now());
        thread::scope(|scope| {
            let shells: Vec<_> = (0..at_once)
                .map(|shell| {
                    let (next, end) = (&next, numbers.end);
                    scope.spawn(move || {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= end {
                                return anyhow::Ok(());
                            }
                            self.run(authority, shell, &domain(self.round, number))?;
                        }
                    })
                })
                .collect();
            for shell in shells {
                shell.join().map_err(|_| anyhow::anyhow!("a shell has failed"))??;
            }
            anyhow::Ok(())
        })?;
        let took = began.elapsed().as_secs_f64();
        let (ca, client) = (authority.cpu_seconds()? - ca, cpu::seconds_of_children()? - client);
        #[allow(clippy::cast_precision_loss)] // there are far fewer than 2^53
        let count = count as f64;
        Ok(Ordered {
            rate: count / took,
            client_ms: client * 1e3 / count,
            authority_ms: ca * 1e3 / count,
            authority_share: ca / took / cpu::processors()?,
            ..Ordered::default()
        })
    }

    fn run(&self, authority: &Authority, shell: usize, domain: &str) -> Result<()> {
        let mut command = Command::new("lego");
        let path: PathBuf = self.dir.path().join(format!("shell-{shell}"));
        command.env("LEGO_CA_CERTIFICATES", authority.root());
        command.args(["--server", &authority.directory(), "--accept-tos"]);
        command.args(["--email", "ops@lego.example", "--path"]).arg(&path);
        command.args(["--http", "--http.webroot"]).arg(self.nginx.file("webroot"));
        command.args(["--domains", domain, "run"]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "lego for {domain}: {said}");
        Ok(())
    }
}
