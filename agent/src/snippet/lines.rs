//! The lines to paste, server by server: Debian's places, and nothing but what is needed.

use super::{Part, Server, Variable, Wanted, plain};
use crate::config::Install;
use crate::error::{Error, Result};
use crate::signer::uri;

/// One server's parts. `agent` says the agent's name, which is the token's.
///
/// # Errors
/// `Invalid` where an `[[install]]` does not suit the server.
pub(super) fn of(
    wanted: &Wanted<'_>,
    installs: &[&Install],
    agent: impl FnOnce() -> Result<String>,
) -> Result<Vec<Part>> {
    let mut parts = match wanted.server {
        Server::Nginx => nginx(wanted, installs)?,
        Server::NginxEngine => nginx_by_engine(wanted, installs, &agent()?)?,
        Server::Apache => apache(wanted, installs)?,
        Server::Haproxy => haproxy(wanted, installs)?,
        Server::Openssl | Server::OpensslEngine => {
            let place = "the environment of the program".to_owned();
            vec![Part { place, lines: assigned(wanted, "export ") }]
        }
    };
    parts.extend(agent_toml(wanted));
    Ok(parts)
}

/// Lines that set the variables.
fn assigned(wanted: &Wanted<'_>, before: &str) -> Vec<String> {
    let set = |Variable { name, value }: &Variable| format!("{before}{name}={value}");
    wanted.environment.iter().map(set).collect()
}

fn part(place: impl Into<String>, lines: Vec<String>) -> Part {
    Part { place: place.into(), lines }
}

/// Chain and key of an `[[install]]`.
fn files(install: &Install) -> Result<(String, String)> {
    let key = install.key.as_ref().ok_or_else(|| {
        let subject = format!("certificate {}", install.certificate);
        Error::invalid("write the snippet", subject, "its [[install]] names no key")
            .hint("add key = FILE: the agent writes the key's URI there")
    })?;
    Ok((plain(&install.chain)?, plain(key)?))
}

/// nginx's environment. What it does not name is lost when its program is replaced on the fly.
fn nginx_environment(wanted: &Wanted<'_>, top: &[&str]) -> Vec<Part> {
    let unit = [vec!["[Service]".to_owned()], assigned(wanted, "Environment=")].concat();
    let names = wanted.environment.iter().map(|variable| format!("env {};", variable.name));
    let top = top.iter().map(|line| (*line).to_owned()).chain(names).collect();
    vec![part("systemctl edit nginx", unit), part("nginx.conf, at the top", top)]
}

fn nginx(wanted: &Wanted<'_>, installs: &[&Install]) -> Result<Vec<Part>> {
    let mut parts = nginx_environment(wanted, &[]);
    for install in installs {
        let (chain, key) = files(install)?;
        parts.push(part(
            format!("nginx.conf, in the server of {}", install.certificate),
            vec![format!("ssl_certificate {chain};"), format!("ssl_certificate_key {key};")],
        ));
    }
    Ok(parts)
}

fn nginx_by_engine(wanted: &Wanted<'_>, installs: &[&Install], agent: &str) -> Result<Vec<Part>> {
    let mut parts = nginx_environment(wanted, &["ssl_engine pkcs11;"]);
    for install in installs {
        let uri = uri::by_name(agent, install.certificate.as_str());
        parts.push(part(
            format!("nginx.conf, in the server of {}", install.certificate),
            vec![
                format!("ssl_certificate {};", plain(&install.chain)?),
                format!("ssl_certificate_key \"engine:pkcs11:{uri}\";"),
            ],
        ));
    }
    Ok(parts)
}

fn apache(wanted: &Wanted<'_>, installs: &[&Install]) -> Result<Vec<Part>> {
    let mut parts = vec![part("/etc/apache2/envvars", assigned(wanted, "export "))];
    for install in installs {
        let (chain, key) = files(install)?;
        parts.push(part(
            format!("the virtual host of {}", install.certificate),
            vec![format!("SSLCertificateFile {chain}"), format!("SSLCertificateKeyFile {key}")],
        ));
    }
    Ok(parts)
}

fn haproxy(wanted: &Wanted<'_>, installs: &[&Install]) -> Result<Vec<Part>> {
    let mut bind = "bind :443 ssl".to_owned();
    for install in installs {
        let (chain, key) = files(install)?;
        let found = format!("{chain}.key");
        if key != found {
            let subject = format!("certificate {}", install.certificate);
            let why = format!("HAProxy finds the key by the chain's name, and {key} is another");
            return Err(Error::invalid("write the snippet", subject, why)
                .hint(format!("set key = \"{found}\" in its [[install]]")));
        }
        bind.push_str(&format!(" crt {chain}"));
    }
    Ok(vec![
        // Debian's unit reads it.
        part("/etc/default/haproxy", assigned(wanted, "")),
        part("haproxy.cfg, in the frontend", vec![bind]),
    ])
}

/// What the agent itself has to know of the server: commands that load the keys, too.
fn agent_toml(wanted: &Wanted<'_>) -> Vec<Part> {
    let (user, test, unit): (_, &[&str], _) = match wanted.server {
        Server::Nginx | Server::NginxEngine => ("www-data", &["nginx", "-t", "-q"], "nginx"),
        // It reads envvars.
        Server::Apache => ("www-data", &["apache2ctl", "-t"], "apache2"),
        Server::Haproxy => {
            let test = &["haproxy", "-c", "-q", "-f", "/etc/haproxy/haproxy.cfg"];
            ("haproxy", test, "haproxy")
        }
        Server::Openssl | Server::OpensslEngine => return Vec::new(),
    };
    let mut words = Vec::new();
    if wanted.server != Server::Apache {
        words.push("env".to_owned());
        words.extend(assigned(wanted, ""));
    }
    words.extend(test.iter().map(|word| (*word).to_owned()));
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let commands = vec![
        format!("test = [{}]", quoted.join(", ")),
        format!("reload = [\"systemctl\", \"reload\", \"{unit}\"]"),
    ];
    let mut parts = vec![part("agent.toml, in each [[install]] of this server", commands)];
    if wanted.signer.allow.is_empty() {
        parts.push(part("agent.toml, in [signer]", vec![format!("allow = [\"{user}\"]")]));
    }
    parts
}
