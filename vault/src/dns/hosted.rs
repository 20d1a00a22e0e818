//! Hosted providers, as the library `dns-update` speaks to them.

use std::{collections::BTreeMap, time::Duration};

use dns_update::{
    DnsUpdater,
    providers::{
        azuredns::{AzureDnsConfig, AzureEnvironment},
        google_cloud_dns::GoogleCloudDnsConfig,
        ovh::OvhEndpoint,
        route53::Route53Config,
    },
};
use secrecy::{ExposeSecret as _, SecretString};

use super::provider::{invalid, secret};
use crate::config::DnsProvider;
use crate::error::Result;

/// What one is opened with.
struct Told<'a> {
    entry: &'a DnsProvider,
    secrets: BTreeMap<&'a str, SecretString>,
}

impl Told<'_> {
    fn secret(&self, name: &str) -> Result<&str> {
        let missing = || invalid(self.entry, format!("credentials.{name} is missing"));
        self.secrets.get(name).map(|secret| secret.expose_secret()).ok_or_else(missing)
    }

    fn option(&self, name: &str) -> Option<String> {
        self.entry.options.get(name).cloned()
    }

    fn needed(&self, name: &str) -> Result<String> {
        let missing = || invalid(self.entry, format!("options.{name} is missing"));
        self.option(name).ok_or_else(missing)
    }
}

/// The provider that an entry names.
pub(super) fn open(entry: &DnsProvider) -> Result<DnsUpdater> {
    let mut secrets = BTreeMap::new();
    for (name, source) in &entry.credentials {
        secrets.insert(name.as_str(), secret(entry, name, source)?);
    }
    let told = Told { entry, secrets };
    let timeout = Some(entry.timeout);
    let opened = match entry.provider.as_str() {
        "azure" => DnsUpdater::new_azuredns(azure(&told, timeout)?),
        "google" => DnsUpdater::new_google_cloud_dns(google(&told, timeout)?),
        "ovh" => {
            let endpoint = told.option("endpoint").unwrap_or_else(|| "ovh-eu".to_owned());
            let endpoint: OvhEndpoint = endpoint
                .parse()
                .map_err(|_| invalid(entry, format!("options.endpoint {endpoint} is unknown")))?;
            let (key, secret) =
                (told.secret("application_key")?, told.secret("application_secret")?);
            DnsUpdater::new_ovh(key, secret, told.secret("consumer_key")?, endpoint, timeout)
        }
        "route53" => DnsUpdater::new_route53(route53(&told)?),
        _ => plain(&told, timeout)?,
    };
    opened.map_err(|e| invalid(entry, e))
}

/// Those that take secrets and nothing else.
fn plain(told: &Told<'_>, timeout: Option<Duration>) -> Result<dns_update::Result<DnsUpdater>> {
    let secret = |name| told.secret(name);
    Ok(match told.entry.provider.as_str() {
        "bunny" => DnsUpdater::new_bunny(secret("api_key")?, timeout),
        "cloudflare" => DnsUpdater::new_cloudflare(secret("token")?, timeout),
        "desec" => DnsUpdater::new_desec(secret("token")?, timeout),
        "digitalocean" => DnsUpdater::new_digitalocean(secret("token")?, timeout),
        "dnsimple" => DnsUpdater::new_dnsimple(secret("token")?, secret("account")?, timeout),
        "duckdns" => DnsUpdater::new_duckdns(secret("token")?, timeout),
        "exoscale" => DnsUpdater::new_exoscale(secret("api_key")?, secret("api_secret")?, timeout),
        "gandi" => DnsUpdater::new_gandiv5(secret("token")?, timeout),
        "gcore" => DnsUpdater::new_gcore(secret("token")?, timeout),
        "godaddy" => DnsUpdater::new_godaddy(secret("api_key")?, secret("api_secret")?, timeout),
        "hetzner" => DnsUpdater::new_hetzner(secret("token")?, timeout),
        "infomaniak" => DnsUpdater::new_infomaniak(secret("token")?, timeout),
        "ionos" => DnsUpdater::new_ionos(secret("api_key")?, timeout),
        "linode" => DnsUpdater::new_linode(secret("token")?, timeout),
        "netcup" => {
            let (customer, key) = (secret("customer")?, secret("api_key")?);
            DnsUpdater::new_netcup(customer, key, secret("api_password")?, timeout)
        }
        "ns1" => DnsUpdater::new_ns1(secret("api_key")?, timeout),
        "porkbun" => DnsUpdater::new_porkbun(secret("api_key")?, secret("api_secret")?, timeout),
        "scaleway" => DnsUpdater::new_scaleway(secret("token")?, timeout),
        "vultr" => DnsUpdater::new_vultr(secret("api_key")?, timeout),
        _ => return Err(invalid(told.entry, "there is none of this name")),
    })
}

fn azure(told: &Told<'_>, request_timeout: Option<Duration>) -> Result<AzureDnsConfig> {
    let environment = match told.option("environment").as_deref() {
        None | Some("public") => AzureEnvironment::Public,
        Some("china") => AzureEnvironment::China,
        Some("us-government") => AzureEnvironment::UsGovernment,
        Some(other) => {
            let why =
                format!("options.environment {other} is unknown: public, china or us-government");
            return Err(invalid(told.entry, why));
        }
    };
    Ok(AzureDnsConfig {
        tenant_id: told.needed("tenant_id")?,
        client_id: told.needed("client_id")?,
        client_secret: told.secret("client_secret")?.to_owned(),
        subscription_id: told.needed("subscription_id")?,
        resource_group: told.needed("resource_group")?,
        environment,
        request_timeout,
    })
}

fn google(told: &Told<'_>, request_timeout: Option<Duration>) -> Result<GoogleCloudDnsConfig> {
    Ok(GoogleCloudDnsConfig {
        service_account_json: told.secret("service_account")?.to_owned(),
        project_id: told.needed("project_id")?,
        managed_zone: told.option("managed_zone"),
        // The CA looks at the public ones.
        private_zone: false,
        impersonate_service_account: None,
        request_timeout,
    })
}

fn route53(told: &Told<'_>) -> Result<Route53Config> {
    Ok(Route53Config {
        access_key_id: told.secret("access_key_id")?.to_owned(),
        secret_access_key: told.secret("secret_access_key")?.to_owned(),
        session_token: None,
        region: told.option("region"),
        hosted_zone_id: told.option("hosted_zone_id"),
        private_zone_only: Some(false),
        endpoint: None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{DNS_KINDS, SecretSource};

    /// An entry with everything that its provider needs, each of them a word.
    fn entry(name: &str, dir: &std::path::Path) -> DnsProvider {
        let mut entry: DnsProvider = toml::from_str(&format!("provider = \"{name}\"")).unwrap();
        let secret = dir.join("secret");
        fs::write(&secret, "word").unwrap();
        let kind = DNS_KINDS.iter().find(|kind| kind.name == name).unwrap();
        for credential in kind.credentials {
            let source = SecretSource::File(secret.clone());
            entry.credentials.insert((*credential).to_owned(), source);
        }
        for option in kind.options {
            entry.options.insert((*option).to_owned(), "word".to_owned());
        }
        entry
    }

    #[test]
    fn every_hosted_provider_that_the_configuration_takes_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let ours = ["rfc2136", "exec", "acme-dns"];
        for kind in DNS_KINDS.iter().filter(|kind| !ours.contains(&kind.name)) {
            let opened = open(&entry(kind.name, dir.path()));
            assert!(opened.is_ok(), "{}: {}", kind.name, opened.err().unwrap());
        }
    }

    #[test]
    fn what_a_provider_does_not_know_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, option) in [("ovh", "endpoint"), ("azure", "environment")] {
            let mut entry = entry(name, dir.path());
            entry.options.insert(option.to_owned(), "moon".to_owned());
            let said = open(&entry).err().unwrap().to_string();
            assert!(said.contains("moon is unknown"), "{said}");
        }
    }
}
