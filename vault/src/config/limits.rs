//! `[[acme.limits]]`: what a CA allows.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use serde::Deserialize;
use url::Url;

/// The host of Let's Encrypt's ACME server, whose published limits are known.
const LETS_ENCRYPT: &str = "acme-v02.api.letsencrypt.org";
/// The longest time that is counted over.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// So many in any time of this length: `300/3h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    const fn new(count: u32, seconds: u64) -> Self {
        let count = match NonZeroU32::new(count) {
            Some(count) => count,
            None => NonZeroU32::MIN,
        };
        Self { count, per: Duration::from_secs(seconds) }
    }

    /// So many in so many seconds.
    #[cfg(test)]
    pub(crate) const fn seconds(count: u32, seconds: u32) -> Self {
        Self::new(count, seconds as u64)
    }

    /// Its time in microseconds.
    pub fn micros(self) -> i64 {
        i64::try_from(self.per.as_micros()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no rate such as \"300/3h\": {why}");
        let (count, per) = text.split_once('/').ok_or_else(|| wrong("it has no `/`"))?;
        let count = count.trim().parse();
        let count = count.map_err(|_| wrong("its count must be a whole number from 1 on"))?;
        let per = humantime::parse_duration(per.trim()).map_err(|e| wrong(&e.to_string()))?;
        if !(Duration::from_secs(1)..=LONGEST).contains(&per) {
            return Err(wrong("its time must be from 1s to 31d"));
        }
        Ok(Self { count, per })
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = humantime::format_duration(self.per).to_string();
        write!(f, "{}/{}", self.count, per.split_whitespace().collect::<String>())
    }
}

/// `[[acme.limits]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaLimits {
    /// The CA's directory.
    pub directory: Url,
    /// Orders of one account. Default no limit, as of all others.
    #[serde(default)]
    pub orders_per_account: Option<Rate>,
    /// Certificates with names below one registered domain (a public suffix and one label).
    #[serde(default)]
    pub certificates_per_registered_domain: Option<Rate>,
    /// Certificates for exactly the same names.
    #[serde(default)]
    pub certificates_per_exact_set: Option<Rate>,
    /// Failed validations of one name by one account.
    #[serde(default)]
    pub failures_per_name: Option<Rate>,
    /// Orders of one account under way at once.
    #[serde(default)]
    pub orders_at_once: Option<NonZeroU32>,
    /// Whether renewals, orders for exactly the names of an earlier certificate of the same CA's, do
    /// not count for registered domains. Default false.
    #[serde(default)]
    pub renewals_exempt: bool,
    /// Whether orders that say by `replaces` what they renew (RFC 9773 section 5) count for nothing.
    /// Default false.
    #[serde(default)]
    pub replacements_exempt: bool,
}

impl CaLimits {
    /// A CA that is not known to limit anything.
    pub fn none(directory: &Url) -> Self {
        Self {
            directory: directory.clone(),
            orders_per_account: None,
            certificates_per_registered_domain: None,
            certificates_per_exact_set: None,
            failures_per_name: None,
            orders_at_once: None,
            renewals_exempt: false,
            replacements_exempt: false,
        }
    }

    /// What is known of a CA by itself: the figures that Let's Encrypt publishes
    /// (`letsencrypt.org/docs/rate-limits`), nothing of any other.
    pub fn published(directory: &Url) -> Self {
        if directory.host_str() != Some(LETS_ENCRYPT) {
            return Self::none(directory);
        }
        const HOUR: u64 = 3600;
        Self {
            orders_per_account: Some(Rate::new(300, 3 * HOUR)),
            certificates_per_registered_domain: Some(Rate::new(50, 7 * 24 * HOUR)),
            certificates_per_exact_set: Some(Rate::new(5, 7 * 24 * HOUR)),
            failures_per_name: Some(Rate::new(5, HOUR)),
            renewals_exempt: true,
            replacements_exempt: true,
            ..Self::none(directory)
        }
    }

    /// What limits a CA: what is configured for its directory, else what is published.
    pub fn of(configured: &[Self], directory: &Url) -> Self {
        let found = configured.iter().find(|limits| limits.directory == *directory);
        found.cloned().unwrap_or_else(|| Self::published(directory))
    }

    /// What does not fit together in several of them.
    pub(super) fn faults(all: &[Self]) -> Vec<String> {
        let mut faults = Vec::new();
        for (at, limits) in all.iter().enumerate() {
            let directory = &limits.directory;
            if !matches!(directory.scheme(), "https" | "http") {
                faults.push(format!("directory {directory} must begin with https://"));
            }
            if all.iter().take(at).any(|earlier| earlier.directory == *directory) {
                faults.push(format!("directory {directory} has two entries: make them one"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_written_as_operators_write_it() {
        for text in ["300/3h", "50/7days", "1/1s", "5/1h 30m"] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate, "{text}");
        }
        for text in
            ["", "300", "0/1h", "-1/1h", "x/1h", "1/", "1/0s", "1/32d", "1/1 parsec", "1.5/1h"]
        {
            assert!(text.parse::<Rate>().unwrap_err().contains("300/3h"), "{text}");
        }
    }

    #[test]
    fn lets_encrypt_s_figures_are_known_and_nobody_else_s() {
        let le: Url = "https://acme-v02.api.letsencrypt.org/directory".parse().unwrap();
        assert_eq!(CaLimits::of(&[], &le).orders_per_account.unwrap().to_string(), "300/3h");
        let other: Url = "https://ca.example/directory".parse().unwrap();
        assert_eq!(CaLimits::of(&[], &other), CaLimits::none(&other));
        let own = CaLimits { orders_at_once: NonZeroU32::new(2), ..CaLimits::none(&le) };
        assert_eq!(CaLimits::of(std::slice::from_ref(&own), &le), own);
    }

    const REST: &str = "[hsm]\nuri = \"pkcs11:token=v?module-path=/m.so\"\npin = { env = \"P\" }\n\
        [store]\nurl = \"sqlite:/v.db\"\n[audit]\npath = \"/a\"\n[policy]\ntrust_domain = \"t\"\n\
        [listen]\naddress = \"127.0.0.1:1\"\nadmin_socket = \"/s\"\n";

    #[test]
    fn each_fault_is_said_with_its_line() {
        let directory = "directory = \"https://ca.example/directory\"";
        for (lines, line, said) in [
            (format!("{directory}\norders_per_account = \"300\""), 3, "300/3h"),
            (format!("{directory}\nfailures_per_name = 5"), 3, "invalid type"),
            (format!("{directory}\norders_at_once = 0"), 3, "nonzero"),
            (format!("{directory}\ncolour = 1"), 3, "colour"),
            ("directory = \"ftp://ca.example\"".to_owned(), 1, "https://"),
            (format!("{directory}\n[[acme.limits]]\n{directory}"), 1, "two entries"),
        ] {
            let faults = crate::config::parse(&format!("{REST}[[acme.limits]]\n{lines}\n"));
            let faults = faults.unwrap_err();
            let [fault] = &faults[..] else { panic!("{lines}: {faults:?}") };
            assert!(fault.what.contains(said), "{lines}: {fault}");
            assert_eq!(fault.line - REST.lines().count(), line, "{lines}: {fault}");
        }
    }
}
