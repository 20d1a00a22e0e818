//! OCSP responses for the web server to staple (RFC 6066 section 8). The vault sends them; the agent puts none
//! before the web server that it has not verified itself, and never an older one in place of a newer.

use std::path::Path;

use time::OffsetDateTime;
use vault_proto::v1;
use vault_revocation::{Issued, Response, Status};

use crate::config::Install;
use crate::error::{Error, Result};

/// What of the vault's response is to be put in place: nothing where it sent none, or what is there is as new.
///
/// # Errors
/// `Verification` where the response is not about this chain's leaf, not by its issuer, not in date, or does
/// not say good.
pub(super) fn wanted(
    wanted: &v1::WantedCertificate,
    present: Option<&[u8]>,
    now: OffsetDateTime,
) -> Result<Option<Vec<u8>>> {
    let sent = &wanted.ocsp_response;
    if sent.is_empty() || present.is_some_and(|present| present == sent) {
        return Ok(None);
    }
    let refused = |why: &dyn std::fmt::Display| {
        Error::verification("staple", format!("certificate {}", wanted.name), why)
            .hint("what was stapled before stays")
    };
    let issued = Issued::parse(&wanted.chain_pem).map_err(|e| refused(&e))?;
    let issued = issued.ok_or_else(|| refused(&"the leaf's issuer is not in the chain"))?;
    let response = Response::verify(&issued, sent, now).map_err(|e| refused(&e))?;
    if response.status != Status::Good {
        return Err(refused(&"it says that the certificate is revoked"));
    }
    // One of another leaf does not count.
    let before = present.and_then(|present| Response::parse(&issued, present, now).ok());
    let newer = before.is_none_or(|before| before.this_update < response.this_update);
    Ok(newer.then(|| sent.clone()))
}

/// Until when the response in place holds, where there is one for the chain in place.
pub fn next_update(install: &Install, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let read = |path: &Path| std::fs::read(path).ok();
    let chain = String::from_utf8(read(&install.chain)?).ok()?;
    let issued = Issued::parse(&chain).ok().flatten()?;
    let response = Response::parse(&issued, &read(install.staple.as_deref()?)?, now).ok()?;
    response.next_update
}
