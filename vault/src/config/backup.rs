//! `[backup]`: who can open backups, when they are made, where they are put, how long they stay.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use time::{Time, macros::format_description};
use url::{Host, Url};

use super::SecretSource;

/// `[backup]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// age recipients of backups that name none themselves. Default none.
    pub recipients: Vec<String>,
    /// A directory that the vault puts backups into by itself. Default none: it makes none itself.
    pub directory: Option<PathBuf>,
    /// A bucket instead: `s3://BUCKET/PREFIX`.
    pub url: Option<Url>,
    /// How the bucket is reached.
    pub s3: Option<S3>,
    /// How often one is made. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub every: Option<Duration>,
    /// Instead of `every`: once a day at this time, UTC.
    pub at: Option<TimeOfDay>,
    /// How much later one may be made, so that many vaults do not begin at once. Default none.
    #[serde(with = "humantime_serde")]
    pub jitter: Duration,
    /// How many of the newest ones stay. Where all four are 0, which is the default, all stay.
    pub keep_last: u32,
    /// The newest one of each of so many days stays.
    pub keep_daily: u32,
    /// The newest one of each of so many weeks stays.
    pub keep_weekly: u32,
    /// The newest one of each of so many months stays.
    pub keep_monthly: u32,
    /// How old the data of a backup may be that is restored without being told to. Default 36 h: a
    /// day's backup that is late is still in order, the one before it is not.
    #[serde(with = "humantime_serde")]
    pub stale_after: Option<Duration>,
}

/// `[backup.s3]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The server; needed where it is not Amazon's.
    pub endpoint: Option<Url>,
    /// Its region. Default `us-east-1`, which servers that have none take.
    #[serde(default = "S3::default_region")]
    pub region: String,
    /// The access key's id.
    pub access_key: SecretSource,
    /// The secret access key.
    pub secret_key: SecretSource,
    /// Further roots for its certificate, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether it may be reached without TLS; on the machine itself it always may.
    #[serde(default)]
    pub allow_http: bool,
}

impl S3 {
    fn default_region() -> String {
        "us-east-1".to_owned()
    }

    /// Whether the configuration lets it be reached without TLS.
    pub fn may_use_http(&self) -> bool {
        let host = self.endpoint.as_ref().and_then(Url::host);
        let local = match host {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        self.allow_http || local
    }
}

/// A time of the day, `HH:MM`, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeOfDay(pub Time);

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Time::parse(&text, format_description!("[hour]:[minute]"))
            .map(Self)
            .map_err(|_| format!("{text:?} is no time of the day, such as \"02:30\""))
    }
}

/// A field and what is wrong with it.
type Wrong = (&'static str, String);

impl Backup {
    /// How often one is made where no time of the day is set.
    pub const EVERY: Duration = Duration::from_secs(24 * 3600);

    /// How old the data of a backup may be where nothing is set.
    const STALE_AFTER: Duration = Duration::from_secs(36 * 3600);

    /// How old the data of a backup may be that is restored without being told to.
    pub fn stale_after(&self) -> Duration {
        self.stale_after.unwrap_or(Self::STALE_AFTER)
    }

    /// Whether the vault makes backups by itself.
    pub fn is_scheduled(&self) -> bool {
        self.directory.is_some() || self.url.is_some()
    }

    /// What does not fit together.
    pub(super) fn faults(&self) -> Vec<Wrong> {
        let mut faults = self.faults_of_readers();
        faults.extend(self.faults_of_place());
        faults.extend(self.faults_of_times());
        faults
    }

    fn faults_of_readers(&self) -> Vec<Wrong> {
        let mut faults: Vec<Wrong> = Vec::new();
        if let Err(fault) = vault_backup::Recipients::parse(&self.recipients)
            && !self.recipients.is_empty()
        {
            faults.push(("recipients", fault.to_string()));
        }
        if self.is_scheduled() && self.recipients.is_empty() {
            let why = "backups that are made by schedule need at least one";
            faults.push(("recipients", why.to_owned()));
        }
        faults
    }

    fn faults_of_place(&self) -> Vec<Wrong> {
        let mut faults: Vec<Wrong> = Vec::new();
        let mut wrong = |field, why: &str| faults.push((field, why.to_owned()));
        if self.directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
            wrong("directory", "it must be an absolute path");
        }
        if self.directory.is_some() && self.url.is_some() {
            wrong("url", "there is a directory already: set one of them");
        }
        if let Some(url) = &self.url {
            let bucket = url.host_str().is_some_and(|host| !host.is_empty());
            if url.scheme() != "s3" || !bucket || url.query().is_some() {
                wrong("url", "it must be s3://BUCKET or s3://BUCKET/PREFIX");
            }
            if self.s3.is_none() {
                wrong("url", "it needs [backup.s3], which says how the bucket is reached");
            }
        }
        if let Some(s3) = &self.s3 {
            if self.url.is_none() {
                wrong("s3", "it needs url in [backup], which names the bucket");
            }
            match s3.endpoint.as_ref().map(Url::scheme) {
                None | Some("https") => {}
                Some("http") if s3.may_use_http() => {}
                Some("http") => wrong(
                    "s3.endpoint",
                    "it has no TLS: use https, or set allow_http where the way there is safe",
                ),
                Some(_) => wrong("s3.endpoint", "it must begin with https:// or http://"),
            }
        }
        faults
    }

    fn faults_of_times(&self) -> Vec<Wrong> {
        let mut faults: Vec<Wrong> = Vec::new();
        let mut wrong = |field, why: &str| faults.push((field, why.to_owned()));
        if self.stale_after.is_some_and(|after| after < Duration::from_secs(1)) {
            wrong("stale_after", "it must be at least 1s");
        }
        if self.every.is_some_and(|every| every < Duration::from_secs(1)) {
            wrong("every", "it must be at least 1s");
        }
        if self.every.is_some() && self.at.is_some() {
            wrong("at", "there is `every` already: set one of them");
        }
        if self.jitter > self.every.unwrap_or(Self::EVERY) / 2 {
            wrong("jitter", "it must be at most half of the time between two backups");
        }
        let idle = [
            ("every", self.every.is_some()),
            ("at", self.at.is_some()),
            ("keep_last", self.keep_last > 0),
            ("keep_daily", self.keep_daily > 0),
            ("keep_weekly", self.keep_weekly > 0),
            ("keep_monthly", self.keep_monthly > 0),
        ];
        for (field, set) in idle {
            if set && !self.is_scheduled() {
                wrong(field, "it needs directory or url: nothing is made by schedule without");
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    const REST: &str = "[hsm]\nuri = \"pkcs11:token=v?module-path=/m.so\"\npin = { env = \"P\" }\n\
        [store]\nurl = \"sqlite:/v.db\"\n[audit]\npath = \"/a\"\n[policy]\ntrust_domain = \"t\"\n\
        [listen]\naddress = \"127.0.0.1:1\"\nadmin_socket = \"/s\"\n";
    const TO: &str =
        "recipients = [\"age1q0xadwevct54md80lvrzecx3ym3hmyatj5g36r9xhhfpmvutva2sa9tyak\"]";
    const S3: &str = "[backup.s3]\naccess_key = { env = \"A\" }\nsecret_key = { env = \"S\" }";

    /// The faults of `[backup]` with these lines: line from 1, and what is said.
    fn faults(lines: &str) -> Vec<(usize, String)> {
        let before = REST.lines().count() + 1;
        match parse(&format!("{REST}[backup]\n{lines}\n")) {
            Ok(_) => Vec::new(),
            Err(all) => all.into_iter().map(|f| (f.line.saturating_sub(before), f.what)).collect(),
        }
    }

    #[test]
    fn what_fits_together_has_no_fault() {
        for lines in [
            String::new(),
            TO.to_owned(),
            format!("{TO}\ndirectory = \"/b\"\nevery = \"6h\"\nkeep_last = 3\njitter = \"1h\""),
            format!("{TO}\ndirectory = \"/b\"\nat = \"02:30\""),
            format!("{TO}\nurl = \"s3://b\"\n{S3}"),
            format!("{TO}\nurl = \"s3://b/p/q\"\n{S3}\nendpoint = \"https://s3.example\""),
            format!("{TO}\nurl = \"s3://b\"\n{S3}\nendpoint = \"http://127.0.0.1:9000\""),
            format!("{TO}\nurl = \"s3://b\"\n{S3}\nendpoint = \"http://[::1]:9000\""),
            format!("{TO}\nurl = \"s3://b\"\n{S3}\nendpoint = \"http://s3\"\nallow_http = true"),
        ] {
            assert_eq!(faults(&lines), [], "{lines}");
        }
    }

    #[test]
    fn each_fault_is_said_with_its_line() {
        for (lines, said) in [
            ("directory = \"/b\"", "recipients"),
            (&format!("{TO}\ndirectory = \"b\""), "absolute"),
            (&format!("{TO}\ndirectory = \"/b\"\nat = \"25:00\""), "25:00"),
            (&format!("{TO}\ndirectory = \"/b\"\nevery = \"500ms\""), "at least 1s"),
            (&format!("{TO}\ndirectory = \"/b\"\nevery = \"1h\"\nat = \"02:30\""), "one of them"),
            (&format!("{TO}\ndirectory = \"/b\"\nevery = \"1h\"\njitter = \"31m\""), "half"),
            (&format!("{TO}\ndirectory = \"/b\"\nkeep_last = -1"), "-1"),
            (&format!("{TO}\nkeep_last = 1"), "needs directory or url"),
            (&format!("{TO}\nevery = \"1h\""), "needs directory or url"),
            (&format!("{TO}\nurl = \"s3://b\""), "needs [backup.s3]"),
            (&format!("{TO}\n{S3}"), "needs url"),
            (&format!("{TO}\nurl = \"https://b\"\n{S3}"), "s3://BUCKET"),
            (&format!("{TO}\nurl = \"s3://b\"\n{S3}\nendpoint = \"http://s3.example\""), "no TLS"),
            (&format!("{TO}\nurl = \"s3://b\"\n{S3}\nendpoint = \"ftp://s3\""), "https://"),
            (&format!("{TO}\nurl = \"s3://b\"\n{S3}\ncolour = 1"), "colour"),
        ] {
            let found = faults(lines);
            let [(line, what)] = &found[..] else { panic!("{lines}: {found:?}") };
            assert!(what.contains(said), "{lines}: {what}");
            // What is said is about the last line, unless something is not there.
            let last = lines.lines().count();
            let expected = match said {
                "recipients" => 0,
                "needs url" => 2,
                "s3://BUCKET" => 2,
                _ => last,
            };
            assert_eq!(*line, expected, "{lines}: {what}");
        }
    }

    #[test]
    fn two_faults_of_the_bucket_are_both_said() {
        let lines = format!("{TO}\nurl = \"s3://b\"\n{S3}\nallow_http = 3\nregion = 4");
        let lines: Vec<_> = faults(&lines).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [6, 7]);
    }

    #[test]
    fn a_secret_is_never_repeated() {
        let lines = S3.replace("{ env = \"S\" }", "\"hunter2\"");
        let found = faults(&format!("{TO}\nurl = \"s3://b\"\n{lines}"));
        assert!(!found.is_empty());
        assert!(found.iter().all(|(_, what)| !what.contains("hunter2")), "{found:?}");
    }
}
