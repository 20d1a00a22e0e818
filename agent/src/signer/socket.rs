//! The Unix socket that the PKCS#11 module in web servers connects to.
//!
//! Who may is decided by the peer's user (SO_PEERCRED), so that no PIN has to lie in a web server's
//! configuration.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use cryptoki_sys::{
    CKG_MGF1_SHA256, CKG_MGF1_SHA384, CKG_MGF1_SHA512, CKM_ECDSA, CKM_ECDSA_SHA256,
    CKM_ECDSA_SHA384, CKM_EDDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_SHA256, CKM_SHA256_RSA_PKCS,
    CKM_SHA256_RSA_PKCS_PSS, CKM_SHA384, CKM_SHA384_RSA_PKCS, CKM_SHA384_RSA_PKCS_PSS, CKM_SHA512,
    CKM_SHA512_RSA_PKCS, CKM_SHA512_RSA_PKCS_PSS,
};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use vault_proto::local::{
    LONGEST_LOCAL_MESSAGE,
    v1::{Reason, Refusal, Request, Response, Sign, Signature, request::Ask, response::Answer},
};

use super::held::KeyList;
use super::upstream::{Client, Stopping, Wanted};
use crate::config::Signer as Config;
use crate::error::{Error, ErrorKind, Result};
use crate::install::user;

/// Connections at once; web servers have one for each thread that signs.
const CONNECTIONS: usize = 4096;

/// What is read of a connection at once: more than a question to sign has.
const QUESTION: usize = 1024;

/// Connections of users that are not allowed which are told so at once; further ones are closed.
const STRANGERS: usize = 8;
/// How long a stranger may take to ask.
const PATIENCE: Duration = Duration::from_secs(1);

/// The listening socket.
pub struct Socket {
    listener: UnixListener,
    answering: Arc<Answering>,
}

struct Answering {
    allowed: BTreeSet<u32>,
    client: Client,
    keys: watch::Receiver<KeyList>,
}

impl Socket {
    /// Binds it; one that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// `Invalid` where an allowed user is not there, `Conflict` where another process listens,
    /// `Unavailable` where the socket cannot be made.
    pub async fn bind(
        config: &Config,
        client: Client,
        keys: watch::Receiver<KeyList>,
    ) -> Result<Self> {
        let mut allowed = BTreeSet::from([0, rustix::process::geteuid().as_raw()]);
        for name in &config.allow {
            allowed.insert(user(name)?);
        }
        let listener = listen(&config.socket).await?;
        Ok(Self { listener, answering: Arc::new(Answering { allowed, client, keys }) })
    }

    /// Answers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let answering = self.answering.clone();
            if !stream.peer_cred().is_ok_and(|peer| answering.allowed.contains(&peer.uid())) {
                // Counted by themselves: strangers take no web server's place.
                if let Ok(place) = strangers.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        turn_away(stream).await;
                        drop(place);
                    });
                }
                continue;
            }
            tokio::spawn(async move {
                if let Err(error) = answering.serve(stream).await {
                    tracing::debug!(%error, "a web server's connection ended");
                }
                drop(slot);
            });
        }
    }
}

async fn listen(path: &Path) -> Result<UnixListener> {
    let subject = || format!("signer socket {}", path.display());
    let failed = |e: io::Error| {
        Error::unavailable("listen", subject(), e)
            .hint("check [signer] socket in agent.toml and who may write there")
    };
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        if UnixStream::connect(path).await.is_ok() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "listen",
                subject(),
                "another process has it",
            ));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Everybody may knock; the peer's user decides.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// Answers the first question of a user that is not allowed, and hangs up.
async fn turn_away(mut stream: UnixStream) {
    if let Ok(peer) = stream.peer_cred() {
        tracing::warn!(uid = peer.uid(), pid = peer.pid(), "not in [signer] allow");
    }
    let told = async {
        if ask(&mut stream, &mut Vec::new()).await?.is_some() {
            answer(&mut stream, refusal(Reason::Denied, "this user may not use the agent")).await?;
        }
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(PATIENCE, told).await;
}

/// Reads a question; `None` where the peer has hung up.
async fn ask(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> io::Result<Option<Ask>> {
    let Ok(length) = stream.read_u32().await else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LONGEST_LOCAL_MESSAGE {
        return Err(io::Error::other("the message is too long"));
    }
    bytes.resize(length, 0);
    stream.read_exact(bytes).await?;
    let request = Request::decode(bytes.as_slice()).map_err(io::Error::other)?;
    request.ask.map(Some).ok_or_else(|| io::Error::other("the message asks nothing"))
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), answer: Answer) -> io::Result<()> {
    let answer = Response { answer: Some(answer) };
    let mut framed = Vec::with_capacity(4 + answer.encoded_len());
    let length = u32::try_from(answer.encoded_len()).map_err(io::Error::other)?;
    framed.extend(length.to_be_bytes());
    answer.encode(&mut framed).map_err(io::Error::other)?;
    stream.write_all(&framed).await
}

impl Answering {
    async fn serve(&self, stream: UnixStream) -> io::Result<()> {
        // A question is read at once, its length with it.
        let mut stream = BufReader::with_capacity(QUESTION, stream);
        let mut bytes = Vec::new();
        while let Some(asked) = ask(&mut stream, &mut bytes).await? {
            let answered = match asked {
                Ask::ListKeys(_) => Answer::Keys(self.keys.borrow().list().clone()),
                Ask::Sign(sign) => match self.sign(sign).await {
                    Ok(answered) => answered,
                    // Hung up on, the module asks the agent that comes next.
                    Err(Stopping) => return Ok(()),
                },
            };
            answer(&mut stream, answered).await?;
        }
        Ok(())
    }

    async fn sign(&self, sign: Sign) -> Result<Answer, Stopping> {
        let Some(mechanism) = mechanism(&sign) else {
            let why = "the mechanism or its parameters are not offered";
            return Ok(refusal(Reason::Mechanism, why));
        };
        if !self.keys.borrow().has(&sign.key_id) {
            return Ok(refusal(Reason::NoKey, "no certificate here has this key"));
        }
        let wanted = Wanted { key_id: sign.key_id, mechanism, data: sign.data };
        Ok(match self.client.sign(wanted).await? {
            Ok(signature) => Answer::Signature(Signature { signature }),
            Err(error) => {
                tracing::warn!(%error, hint = error.hint, "a handshake was not signed");
                refusal(reason(error.kind), &error.to_string())
            }
        })
    }
}

fn refusal(reason: Reason, why: &str) -> Answer {
    Answer::Refusal(Refusal { reason: reason.into(), why: why.to_owned() })
}

fn reason(kind: ErrorKind) -> Reason {
    match kind {
        ErrorKind::Denied | ErrorKind::Unauthenticated | ErrorKind::Conflict => Reason::Denied,
        ErrorKind::NotFound => Reason::NoKey,
        ErrorKind::Invalid => Reason::Data,
        _ => Reason::Unavailable,
    }
}

/// The vault's name of a PKCS#11 mechanism; RSASSA-PSS with the parameters of TLS 1.3 only.
fn mechanism(sign: &Sign) -> Option<&'static str> {
    let pss = |whole: &'static str, hash: u64| match &sign.pss {
        Some(given) => {
            let wanted = match hash {
                CKM_SHA256 => (CKM_SHA256, CKG_MGF1_SHA256, 32),
                CKM_SHA384 => (CKM_SHA384, CKG_MGF1_SHA384, 48),
                _ => (CKM_SHA512, CKG_MGF1_SHA512, 64),
            };
            ((given.hash, given.mgf, given.salt_length) == wanted).then_some(whole)
        }
        None => None,
    };
    match sign.mechanism {
        CKM_ECDSA => Some("ecdsa-digest"),
        CKM_ECDSA_SHA256 => Some("ecdsa-sha256"),
        CKM_ECDSA_SHA384 => Some("ecdsa-sha384"),
        CKM_EDDSA => Some("ed25519"),
        CKM_RSA_PKCS => Some("rsa-pkcs1-digest"),
        CKM_SHA256_RSA_PKCS => Some("rsa-pkcs1-sha256"),
        CKM_SHA384_RSA_PKCS => Some("rsa-pkcs1-sha384"),
        CKM_SHA512_RSA_PKCS => Some("rsa-pkcs1-sha512"),
        CKM_SHA256_RSA_PKCS_PSS => pss("rsa-pss-sha256", CKM_SHA256),
        CKM_SHA384_RSA_PKCS_PSS => pss("rsa-pss-sha384", CKM_SHA384),
        CKM_SHA512_RSA_PKCS_PSS => pss("rsa-pss-sha512", CKM_SHA512),
        CKM_RSA_PKCS_PSS => match sign.pss.as_ref()?.hash {
            CKM_SHA256 => pss("rsa-pss-sha256-digest", CKM_SHA256),
            CKM_SHA384 => pss("rsa-pss-sha384-digest", CKM_SHA384),
            CKM_SHA512 => pss("rsa-pss-sha512-digest", CKM_SHA512),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_user_that_is_not_allowed_is_told_so_and_hung_up_on() {
        let (agent, mut module) = UnixStream::pair().unwrap();
        let away = tokio::spawn(turn_away(agent));
        let request = Request { ask: Some(Ask::ListKeys(Default::default())) }.encode_to_vec();
        module.write_u32(u32::try_from(request.len()).unwrap()).await.unwrap();
        module.write_all(&request).await.unwrap();
        let mut told = Vec::new();
        module.read_to_end(&mut told).await.unwrap();
        away.await.unwrap();
        let response = Response::decode(&told[4..]).unwrap();
        let Some(Answer::Refusal(refusal)) = response.answer else { panic!("{response:?}") };
        assert_eq!(refusal.reason(), Reason::Denied);
    }

    #[test]
    fn pss_is_taken_with_the_parameters_of_tls_alone() {
        use vault_proto::local::v1::PssParameters;
        let with = |hash, mgf, salt_length| Sign {
            mechanism: CKM_RSA_PKCS_PSS,
            pss: Some(PssParameters { hash, mgf, salt_length }),
            ..Sign::default()
        };
        let tls = with(CKM_SHA384, CKG_MGF1_SHA384, 48);
        assert_eq!(mechanism(&tls), Some("rsa-pss-sha384-digest"));
        for odd in [
            with(CKM_SHA384, CKG_MGF1_SHA384, 32),
            with(CKM_SHA384, CKG_MGF1_SHA256, 48),
            with(0x0220, 1, 20),
            Sign { mechanism: CKM_RSA_PKCS_PSS, ..Sign::default() },
            Sign { mechanism: 0x0001_0000, ..Sign::default() },
        ] {
            assert_eq!(mechanism(&odd), None, "{odd:?}");
        }
    }
}
