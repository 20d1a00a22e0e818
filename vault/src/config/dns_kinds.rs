//! Which DNS providers there are, and what each is told.

/// A provider that `[[acme.dns]]` may name.
pub struct DnsKind {
    /// Its name.
    pub name: &'static str,
    /// The fields that it alone, or it among few, needs.
    pub(super) fields: &'static [&'static str],
    /// What of `credentials` it needs.
    pub(crate) credentials: &'static [&'static str],
    /// What of `options` it needs.
    pub(crate) options: &'static [&'static str],
    /// What of `options` it can do without.
    pub(super) more_options: &'static [&'static str],
}

const fn hosted(name: &'static str, credentials: &'static [&'static str]) -> DnsKind {
    DnsKind { name, fields: &[], credentials, options: &[], more_options: &[] }
}

/// All of them: first those that are tried against real servers, then the hosted ones by name.
pub const DNS_KINDS: &[DnsKind] = &[
    DnsKind { fields: &["server", "key_name", "secret"], ..hosted("rfc2136", &[]) },
    DnsKind { fields: &["command"], ..hosted("exec", &[]) },
    DnsKind { fields: &["url"], ..hosted("acme-dns", &["username", "password", "subdomain"]) },
    DnsKind {
        options: &["tenant_id", "client_id", "subscription_id", "resource_group"],
        more_options: &["environment"],
        ..hosted("azure", &["client_secret"])
    },
    hosted("bunny", &["api_key"]),
    hosted("cloudflare", &["token"]),
    hosted("desec", &["token"]),
    hosted("digitalocean", &["token"]),
    hosted("dnsimple", &["token", "account"]),
    hosted("duckdns", &["token"]),
    hosted("exoscale", &["api_key", "api_secret"]),
    hosted("gandi", &["token"]),
    hosted("gcore", &["token"]),
    hosted("godaddy", &["api_key", "api_secret"]),
    DnsKind {
        options: &["project_id"],
        more_options: &["managed_zone"],
        ..hosted("google", &["service_account"])
    },
    hosted("hetzner", &["token"]),
    hosted("infomaniak", &["token"]),
    hosted("ionos", &["api_key"]),
    hosted("linode", &["token"]),
    hosted("netcup", &["customer", "api_key", "api_password"]),
    hosted("ns1", &["api_key"]),
    DnsKind {
        more_options: &["endpoint"],
        ..hosted("ovh", &["application_key", "application_secret", "consumer_key"])
    },
    hosted("porkbun", &["api_key", "api_secret"]),
    DnsKind {
        more_options: &["region", "hosted_zone_id"],
        ..hosted("route53", &["access_key_id", "secret_access_key"])
    },
    hosted("scaleway", &["token"]),
    hosted("vultr", &["api_key"]),
];
