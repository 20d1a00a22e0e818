//! `[monitor]`: how certificates are watched after they were issued.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

/// `[monitor]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Monitor {
    /// How often CAs are asked whether they have revoked what they have issued. Default 1 h: CRLs and OCSP
    /// responses are seldom made more often.
    #[serde(with = "humantime_serde")]
    pub revocation_every: Duration,
    /// How long nobody may have an answer before an alert says so. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub revocation_unknown_after: Duration,
    /// How long one CRL or OCSP response may take. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// CAs whose certificates do not say where to ask.
    pub ca: Vec<MonitoredCa>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            revocation_every: Duration::from_secs(3600),
            revocation_unknown_after: Duration::from_secs(24 * 3600),
            request_timeout: Duration::from_secs(15),
            ca: Vec::new(),
        }
    }
}

/// One `[[monitor.ca]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitoredCa {
    /// The certificate that issues: its common name, or its SHA-256 in hex.
    pub issuer: String,
    /// Where its CRL is.
    #[serde(default)]
    pub crl: Option<Url>,
    /// Where its OCSP responder is.
    #[serde(default)]
    pub ocsp: Option<Url>,
}

impl Monitor {
    /// What of it cannot be meant, by its field.
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !(Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600))
            .contains(&self.revocation_every)
        {
            faults.push(("revocation_every", "it must be from 1s to 7d".to_owned()));
        }
        if self.request_timeout < Duration::from_secs(1) {
            faults.push(("request_timeout", "it must be at least 1s".to_owned()));
        }
        for ca in &self.ca {
            if ca.crl.is_none() && ca.ocsp.is_none() {
                faults.push(("ca", format!("{:?} has neither crl nor ocsp", ca.issuer)));
            }
            for url in [&ca.crl, &ca.ocsp].into_iter().flatten() {
                if !matches!(url.scheme(), "http" | "https") {
                    faults.push(("ca", format!("{url} is neither http nor https")));
                }
            }
        }
        faults
    }
}
