//! Certificate revocation lists (RFC 5280 section 5).

use time::OffsetDateTime;
use webpki::{
    CertRevocationList, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_cert_ocsp::{
    crl::{CertificateList, TbsCertList},
    der::{Decode as _, oid::db::rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT},
    ext::pkix::{CrlDistributionPoints, crl::IssuingDistributionPoint},
    time::Time,
};

use crate::error::{Error, Result};
use crate::issued::{Issued, extension};
use crate::{SKEW, Status};

/// A CRL that was read. Whose it is and whether it is in date is checked with each question.
#[derive(Debug)]
pub struct Crl {
    list: CertRevocationList<'static>,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
    /// It has a part of the issuer's certificates only: those that name an address of it.
    is_part: bool,
    size: usize,
}

impl Crl {
    /// Reads one, DER. Delta CRLs and indirect ones are refused.
    ///
    /// # Errors
    /// Where it is malformed, says no end, or is of a kind that is not read.
    pub fn parse(der: &[u8]) -> Result<Self> {
        let read = CertificateList::from_der(der).map_err(Error::new)?.tbs_cert_list;
        let is_part = is_part(&read)?;
        let next_update = read.next_update.ok_or_else(|| Error::new("it says no end"))?;
        let list = OwnedCertRevocationList::from_der(der).map_err(Error::new)?;
        Ok(Self {
            list: list.into(),
            this_update: offset(read.this_update)?,
            next_update: offset(next_update)?,
            is_part,
            size: der.len(),
        })
    }

    /// Since when it holds.
    pub fn this_update(&self) -> OffsetDateTime {
        self.this_update
    }

    /// Until when it holds.
    pub fn next_update(&self) -> OffsetDateTime {
        self.next_update
    }

    /// How long it is, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What it says of a certificate. The issuer's key must have signed it; the bit cRLSign (RFC 5280 section
    /// 4.2.1.3) is not asked for, since some CAs have none, and who has that key can do worse than to
    /// withdraw what it has issued.
    ///
    /// # Errors
    /// Where it was not signed by the certificate's issuer, is not in date, or does not cover the certificate.
    pub fn status(&self, issued: &Issued, now: OffsetDateTime) -> Result<Status> {
        if self.this_update > now + SKEW {
            return Err(Error::new(format!("it holds only from {}", self.this_update)));
        }
        if self.next_update <= now {
            return Err(Error::new(format!("it held until {}", self.next_update)));
        }
        let lists = [&self.list];
        let options = RevocationOptionsBuilder::new(&lists)
            .map_err(|_| Error::new("there is none"))?
            .with_depth(RevocationCheckDepth::EndEntity)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build();
        match issued.verify(KeyUsage::server_auth(), Some(options), now) {
            // Where the certificate names addresses, this is one of them. One that names none may be of another
            // part (RFC 5280 section 6.3.3 (b) (2)); only an entry tells something of it.
            Ok(())
                if self.is_part && extension::<CrlDistributionPoints>(&issued.leaf).is_none() =>
            {
                Err(Error::new("it is for a part of the certificates, and this may be of another"))
            }
            Ok(()) => Ok(Status::Good),
            Err(webpki::Error::CertRevoked) => self.entry(issued),
            Err(webpki::Error::UnknownRevocationStatus) => {
                Err(Error::new("it is not for this certificate"))
            }
            Err(error) => Err(Error::new(error)),
        }
    }

    /// The entry of a certificate that is known to be on the list.
    fn entry(&self, issued: &Issued) -> Result<Status> {
        let serial = issued.leaf.tbs_certificate.serial_number.as_bytes();
        // With the zero that DER puts before a high first bit, or without.
        let bare = serial.strip_prefix(&[0]).unwrap_or(serial);
        let padded = [&[0], bare].concat();
        for serial in [serial, bare, &padded] {
            if let Some(entry) = self.list.find_serial(serial).map_err(Error::new)? {
                let at = i64::try_from(entry.revocation_date.as_secs()).unwrap_or(i64::MAX);
                let at = OffsetDateTime::from_unix_timestamp(at).map_err(Error::new)?;
                return Ok(Status::Revoked { reason: entry.reason_code.into(), at });
            }
        }
        Err(Error::new("its entry cannot be found"))
    }
}

/// Whether it says where those certificates are told to look that it is for (RFC 5280 section 5.2.5).
fn is_part(list: &TbsCertList) -> Result<bool> {
    let mut extensions = list.crl_extensions.iter().flatten();
    let scope = extensions.find(|one| one.extn_id == ID_CE_ISSUING_DISTRIBUTION_POINT);
    let Some(scope) = scope else { return Ok(false) };
    let scope = IssuingDistributionPoint::from_der(scope.extn_value.as_bytes());
    Ok(scope.map_err(Error::new)?.distribution_point.is_some())
}

fn offset(time: Time) -> Result<OffsetDateTime> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(Error::new)
}
