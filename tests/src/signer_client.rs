//! What asks an agent for signatures without a web server or a PKCS#11 module: any number at once, and
//! each known by what was signed.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use cryptoki_sys::CKM_ECDSA_SHA256;
use prost::Message as _;
use vault_proto::local::v1::{
    ListKeys, Refusal, Request, Response, Sign, request::Ask, response::Answer,
};

/// A connection to an agent's socket.
pub struct SignerClient(UnixStream);

/// Why there is no signature.
#[derive(Debug)]
pub enum Failure {
    /// The agent says no.
    Refused(Refusal),
    /// The agent has hung up.
    Gone(io::Error),
}

impl SignerClient {
    /// Connects.
    ///
    /// # Errors
    /// Where no agent listens, or it takes no more connections.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        UnixStream::connect(socket).map(Self)
    }

    /// The id of the one key there is.
    ///
    /// # Panics
    /// Where the agent lists none, or several.
    pub fn only_key(&mut self) -> Vec<u8> {
        let listed = self.ask(Ask::ListKeys(ListKeys {})).expect("a list of keys");
        let Answer::Keys(listed) = listed else { panic!("no list of keys: {listed:?}") };
        assert_eq!(listed.keys.len(), 1, "{listed:?}");
        listed.keys[0].id.clone()
    }

    /// Has a message signed with a P-256 key.
    ///
    /// # Errors
    /// Where it is refused, or the agent is gone.
    pub fn sign(&mut self, key: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
        let sign = Sign {
            key_id: key.to_vec(),
            mechanism: CKM_ECDSA_SHA256,
            pss: None,
            data: message.to_vec(),
        };
        match self.ask(Ask::Sign(sign)).map_err(Failure::Gone)? {
            Answer::Signature(signature) => Ok(signature.signature),
            Answer::Refusal(refusal) => Err(Failure::Refused(refusal)),
            Answer::Keys(_) => Err(Failure::Gone(io::Error::other("no answer to the question"))),
        }
    }

    fn ask(&mut self, ask: Ask) -> io::Result<Answer> {
        let request = Request { ask: Some(ask) }.encode_to_vec();
        let length = u32::try_from(request.len()).map_err(io::Error::other)?;
        self.0.write_all(&[&length.to_be_bytes()[..], &request].concat())?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer)?;
        let answer = Response::decode(&*answer).map_err(io::Error::other)?.answer;
        answer.ok_or_else(|| io::Error::other("an empty answer"))
    }
}

/// What a server signs in a handshake of TLS 1.3 (RFC 8446 section 4.4.3), of a transcript that has
/// this hash.
pub fn certificate_verify(transcript: [u8; 32]) -> Vec<u8> {
    [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &transcript].concat()
}
