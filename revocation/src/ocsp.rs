//! OCSP (RFC 6960): the question, and the answer with its signature.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_cert_ocsp::{
    Certificate,
    der::{
        Decode as _, Encode as _,
        asn1::{AnyRef, Null, ObjectIdentifier, OctetString},
    },
    spki::AlgorithmIdentifierOwned,
};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse,
    OcspResponseStatus, Request, ResponderId, SingleResponse, TbsRequest,
};

use crate::error::{Error, Result};
use crate::issued::Issued;
use crate::{SKEW, Status};

/// id-sha1. Responders know certificates by it (RFC 5019 section 2.1.1); nothing is proven by it.
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
/// id-pkix-ocsp-basic (RFC 6960 section 4.2.1).
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
/// The content octets of id-kp-OCSPSigning (RFC 6960 section 4.2.2.2).
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];
/// How long an answer counts that says no end: there is no nonce that would show when it was made.
const WITHOUT_END: Duration = Duration::hours(1);

/// A responder's answer about one certificate, whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What it says.
    pub status: Status,
    /// Since when that holds.
    pub this_update: OffsetDateTime,
    /// Until when it holds.
    pub next_update: Option<OffsetDateTime>,
}

/// The question about a certificate, DER: without a nonce, as most responders answer from what they have
/// signed before (RFC 5019).
///
/// # Errors
/// Where it cannot be encoded.
pub fn request(issued: &Issued) -> Result<Vec<u8>> {
    let question = Request { req_cert: id_of(issued)?, single_request_extensions: None };
    let tbs_request = TbsRequest { request_list: vec![question], ..TbsRequest::default() };
    OcspRequest { tbs_request, optional_signature: None }.to_der().map_err(Error::new)
}

impl Response {
    /// Reads an answer, DER: it must be about this certificate and signed by its issuer, or by a responder that
    /// the issuer has named by a certificate for that (RFC 6960 section 4.2.2.2). Dates are another matter.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn parse(issued: &Issued, der: &[u8], now: OffsetDateTime) -> Result<Self> {
        let answer = OcspResponse::from_der(der).map_err(Error::new)?;
        if answer.response_status != OcspResponseStatus::Successful {
            return Err(Error::new(format!("the responder says {:?}", answer.response_status)));
        }
        let bytes = answer.response_bytes.ok_or_else(|| Error::new("it is empty"))?;
        if bytes.response_type != BASIC {
            return Err(Error::new(format!("its type is {}", bytes.response_type)));
        }
        let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).map_err(Error::new)?;
        verify(issued, &basic, now)?;
        let wanted = id_of(issued)?;
        let about_it = |one: &&SingleResponse| same(&one.cert_id, &wanted);
        let single = basic.tbs_response_data.responses.iter().find(about_it);
        let single = single.ok_or_else(|| Error::new("it is about another certificate"))?;
        let status = match single.cert_status {
            CertStatus::Good(_) => Status::Good,
            CertStatus::Revoked(info) => Status::Revoked {
                reason: info.revocation_reason.into(),
                at: offset(info.revocation_time)?,
            },
            CertStatus::Unknown(_) => {
                return Err(Error::new("the responder does not know the certificate"));
            }
        };
        Ok(Self {
            status,
            this_update: offset(single.this_update)?,
            next_update: single.next_update.map(offset).transpose()?,
        })
    }

    /// Reads an answer that holds now.
    ///
    /// # Errors
    /// As [`Response::parse`], and where it is not in date.
    pub fn verify(issued: &Issued, der: &[u8], now: OffsetDateTime) -> Result<Self> {
        let answer = Self::parse(issued, der, now)?;
        if answer.this_update > now + SKEW {
            return Err(Error::new(format!("it holds only from {}", answer.this_update)));
        }
        let end = answer.next_update.unwrap_or(answer.this_update + WITHOUT_END);
        if end <= now {
            return Err(Error::new(format!("it held until {end}")));
        }
        Ok(answer)
    }
}

/// How a responder knows a certificate.
fn id_of(issued: &Issued) -> Result<CertId> {
    let issuer = &issued.issuer.tbs_certificate;
    let name = issuer.subject.to_der().map_err(Error::new)?;
    Ok(CertId {
        hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Null.into()) },
        issuer_name_hash: sha1(&name)?,
        issuer_key_hash: key_hash(&issued.issuer)?,
        serial_number: issued.leaf.tbs_certificate.serial_number.clone(),
    })
}

fn key_hash(certificate: &Certificate) -> Result<OctetString> {
    let key = &certificate.tbs_certificate.subject_public_key_info.subject_public_key;
    sha1(key.raw_bytes())
}

fn sha1(bytes: &[u8]) -> Result<OctetString> {
    OctetString::new(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()).map_err(Error::new)
}

/// Whether two are the same, however the parameters of SHA-1 are written.
fn same(one: &CertId, other: &CertId) -> bool {
    one.hash_algorithm.oid == other.hash_algorithm.oid
        && one.issuer_name_hash == other.issuer_name_hash
        && one.issuer_key_hash == other.issuer_key_hash
        && one.serial_number == other.serial_number
}

/// Checks who has signed an answer.
fn verify(issued: &Issued, basic: &BasicOcspResponse, now: OffsetDateTime) -> Result<()> {
    let responder = &basic.tbs_response_data.responder_id;
    let is_it = |certificate: &Certificate| match responder {
        ResponderId::ByName(name) => Ok(*name == certificate.tbs_certificate.subject),
        ResponderId::ByKey(hash) => Ok::<_, Error>(*hash == key_hash(certificate)?),
    };
    if is_it(&issued.issuer)? {
        return signed_by(issued.issuer_der(), basic);
    }
    for certificate in basic.certs.iter().flatten() {
        if is_it(certificate)? {
            let der = CertificateDer::from(certificate.to_der().map_err(Error::new)?);
            issued
                .verify_other(&der, KeyUsage::required(OCSP_SIGNING), None, now)
                .map_err(|e| Error::new(format!("the responder's certificate: {e}")))?;
            return signed_by(&der, basic);
        }
    }
    Err(Error::new("its signer is neither the issuer nor shown"))
}

fn signed_by(signer: &CertificateDer<'_>, basic: &BasicOcspResponse) -> Result<()> {
    let algorithm = basic.signature_algorithm.to_der().map_err(Error::new)?;
    let algorithm = AnyRef::from_der(&algorithm).map_err(Error::new)?;
    let message = basic.tbs_response_data.to_der().map_err(Error::new)?;
    let signature = basic.signature.as_bytes().ok_or_else(|| Error::new("no signature"))?;
    let signer = EndEntityCert::try_from(signer).map_err(Error::new)?;
    let mut fitting = ALL_VERIFICATION_ALGS
        .iter()
        .filter(|one| one.signature_alg_id().as_ref() == algorithm.value());
    // One identifier stands for several, by the curve of the key.
    match fitting.any(|one| signer.verify_signature(*one, &message, signature).is_ok()) {
        true => Ok(()),
        false => Err(Error::new("its signature does not hold")),
    }
}

fn offset(time: OcspGeneralizedTime) -> Result<OffsetDateTime> {
    let seconds = i64::try_from(time.0.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_err(Error::new)
}
