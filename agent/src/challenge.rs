//! HTTP-01 challenges (RFC 8555 section 8.3): files below the web server's root, or answers by
//! the agent's own listener.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use vault_proto::v1::{self, resource_report::Resource};
use zeroize::Zeroizing;

use crate::blocking;
use crate::config::Http01;
use crate::desired::{Challenges, Exchange, Report};
use crate::durable;
use crate::error::{Error, Result};
use crate::install::target::{Access, Content, Target};
use crate::tls_alpn::Responder;

/// Where challenges live (RFC 8555 section 8.3, RFC 8615).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";
/// The same as folders below a webroot.
const FOLDERS: &[&str] = &[".well-known", "acme-challenge"];
/// Requests that the agent's own listener answers at once.
const CONNECTIONS: usize = 64;

/// The kind of challenge that [`Responder`] shows.
const TLS_ALPN: &str = "tls-alpn-01";

type Answers = Arc<ArcSwap<BTreeMap<String, String>>>;

/// Presents challenges in the configured way.
pub enum Presenter {
    /// Files below a web server's root.
    Webroot {
        /// What the web server serves as `/`.
        root: PathBuf,
        /// What was written there, so that a restart removes it.
        written: PathBuf,
    },
    /// The agent's own listener.
    Listener(Answers),
    /// No way was configured: every challenge is refused.
    None,
}

impl Presenter {
    /// Prepares the configured way; a listener is bound now.
    ///
    /// # Errors
    /// `Unavailable` where the address is taken, `Invalid` where the webroot is no directory.
    pub async fn new(
        http01: Option<&Http01>,
        state_dir: &Path,
        stop: CancellationToken,
    ) -> Result<Self> {
        match http01 {
            None => Ok(Self::None),
            Some(Http01::Webroot(root)) => {
                if !root.is_dir() {
                    let subject = format!("webroot {}", root.display());
                    return Err(Error::invalid("use", subject, "it is no directory")
                        .hint("check [http01] webroot in agent.toml"));
                }
                let written = state_dir.join("challenges.json");
                Ok(Self::Webroot { root: root.clone(), written })
            }
            Some(Http01::Listen(address)) => {
                let listener = TcpListener::bind(address).await.map_err(|e| {
                    Error::unavailable("listen", address.to_string(), e)
                        .hint("check [http01] listen in agent.toml; port 80 needs a capability")
                })?;
                let answers = Answers::default();
                tokio::spawn(serve(listener, answers.clone(), stop));
                Ok(Self::Listener(answers))
            }
        }
    }

    /// Follows the desired state until `stop`; `tls_alpn` shows what is not HTTP-01's.
    pub async fn run(
        self,
        tls_alpn: Option<Responder>,
        mut exchange: Exchange,
        stop: CancellationToken,
    ) {
        let (mut connection, mut presented) = (0, BTreeSet::new());
        let presenter = Arc::new(self);
        loop {
            let desired = exchange.desired.borrow_and_update().clone();
            if desired.connection != connection {
                connection = desired.connection;
                presented.clear();
            }
            if desired.known {
                let wanted = &desired.challenges;
                if let Some(responder) = &tls_alpn {
                    responder.keep_only(wanted);
                }
                let new = wanted.iter().filter(|(token, _)| presented.insert((*token).clone()));
                let (by_tls, by_http): (Vec<_>, Vec<_>) =
                    new.map(|(_, new)| new.clone()).partition(|new| new.kind == TLS_ALPN);
                let by_tls = by_tls.into_iter().map(|challenge| {
                    let shown = present_by(tls_alpn.as_ref(), &challenge);
                    (challenge, shown)
                });
                let (here, all) = (presenter.clone(), wanted.clone());
                let by_http = blocking(move || {
                    let shown = here.present(&all, &by_http);
                    Ok(by_http.into_iter().zip(shown).collect::<Vec<_>>())
                });
                let by_http = by_http.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "challenges are not presented");
                    Vec::new()
                });
                for (challenge, outcome) in by_tls.chain(by_http) {
                    let report = report(&challenge.token, outcome);
                    let report = Report { connection, report };
                    if exchange.reports.send(report).await.is_err() {
                        return;
                    }
                }
                presented.retain(|token| wanted.contains_key(token));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = exchange.desired.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Ends showing whatever is not wanted any more, and shows what is new; what became of each of these.
    fn present(&self, wanted: &Challenges, new: &[Arc<v1::WantedChallenge>]) -> Vec<Result<()>> {
        let subject = |new: &v1::WantedChallenge| format!("the challenge for {}", new.identifier);
        // The token becomes a file's name: anything else than base64url could be a path.
        let each = |show: &dyn Fn(&v1::WantedChallenge) -> Result<()>| {
            let one = |new: &Arc<v1::WantedChallenge>| match is_token(&new.token) {
                true => show(new),
                false => Err(Error::invalid("present", subject(new), "its token is malformed")),
            };
            new.iter().map(one).collect::<Vec<_>>()
        };
        match self {
            Self::None => each(&|new| {
                Err(Error::invalid("present", subject(new), "no [http01] is configured"))
            }),
            Self::Listener(answers) => {
                answers.rcu(|now| {
                    let mut shown = BTreeMap::clone(now);
                    shown.retain(|token, _| wanted.contains_key(token));
                    let new = new.iter().filter(|new| is_token(&new.token));
                    shown.extend(new.map(|c| (c.token.clone(), c.key_authorization.clone())));
                    shown
                });
                each(&|_| Ok(()))
            }
            Self::Webroot { root, written } => {
                let prepared = prepare(root, written, wanted, new);
                each(&|new| prepared.clone().and_then(|()| write(root, new)))
            }
        }
    }
}

/// Removes the files of what is not wanted any more, and notes which are to be written: a restart
/// removes whatever is noted.
fn prepare(
    root: &Path,
    written: &Path,
    wanted: &Challenges,
    new: &[Arc<v1::WantedChallenge>],
) -> Result<()> {
    let known: BTreeSet<String> = durable::read_json(written)?.unwrap_or_default();
    let mut gone = None;
    for token in known.iter().filter(|token| !wanted.contains_key(*token) && is_token(token)) {
        let target = Target::below(root, FOLDERS, token)?;
        target.unlink()?;
        gone = Some(target);
    }
    if let Some(gone) = gone {
        gone.settle()?;
    }
    let kept = known.iter().filter(|token| wanted.contains_key(*token)).cloned();
    let new = new.iter().map(|new| new.token.clone()).filter(|token| is_token(token));
    let next: BTreeSet<String> = kept.chain(new).collect();
    if next == known { Ok(()) } else { durable::write_json(written, &next) }
}

/// After a power loss the vault says again what is to be shown.
fn write(root: &Path, challenge: &v1::WantedChallenge) -> Result<()> {
    let bytes = Zeroizing::new(challenge.key_authorization.clone().into_bytes());
    let access = Access { mode: 0o644, uid: None, gid: None };
    Target::below(root, FOLDERS, &challenge.token)?.show(&Content { bytes, access })
}

/// Shows a TLS-ALPN-01 challenge, where that is set up.
fn present_by(responder: Option<&Responder>, challenge: &v1::WantedChallenge) -> Result<()> {
    let none = || {
        let subject = format!("the challenge for {}", challenge.identifier);
        Error::invalid("present", subject, "no [tls_alpn01] is configured")
    };
    responder.ok_or_else(none)?.present(challenge)
}

/// RFC 8555 section 8.1: base64url, and long enough not to be guessed.
fn is_token(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn report(token: &str, outcome: Result<()>) -> v1::ResourceReport {
    let (outcome, detail) = match outcome {
        Ok(()) => (v1::Outcome::Serving, String::new()),
        Err(error) => {
            tracing::warn!(%error, "a challenge is not presented");
            (v1::Outcome::Failed, error.to_string())
        }
    };
    v1::ResourceReport {
        resource: Some(Resource::Challenge(token.to_owned())),
        version: 0,
        outcome: outcome.into(),
        detail,
    }
}

async fn serve(listener: TcpListener, answers: Answers, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let answers = answers.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&answers, &request);
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(10))
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a challenge request ended early");
            }
            drop(slot);
        });
    }
}

fn answer(answers: &Answers, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(WELL_KNOWN).unwrap_or_default();
    let known = answers.load().get(token).cloned();
    let (status, body) = match known {
        Some(answer) => (StatusCode::OK, answer),
        None => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let octets = http::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, octets);
    response
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_that_is_a_path_is_refused() {
        for text in ["", "..", "../x", "a/b", ".hidden", "a b", "a%2e"] {
            assert!(!is_token(text), "{text}");
        }
        assert!(is_token("DGyRejmCefe7v4NfDGDKfA-_"));
    }

    async fn webroot(root: &Path, state: &Path) -> (Presenter, Arc<v1::WantedChallenge>) {
        let webroot = Http01::Webroot(root.to_owned());
        let presenter =
            Presenter::new(Some(&webroot), state, CancellationToken::new()).await.unwrap();
        let challenge = v1::WantedChallenge {
            token: "tok".to_owned(),
            key_authorization: "tok.thumb".to_owned(),
            identifier: "a.example".to_owned(),
            kind: String::new(),
        };
        (presenter, Arc::new(challenge))
    }

    /// Shows it as new.
    fn present(presenter: &Presenter, challenge: &Arc<v1::WantedChallenge>) -> Result<()> {
        let wanted = Challenges::default().insert(challenge.token.clone(), challenge.clone());
        presenter.present(&wanted, std::slice::from_ref(challenge)).remove(0)
    }

    #[tokio::test]
    async fn a_challenge_below_the_webroot_comes_and_goes() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (presenter, challenge) = webroot(root.path(), state.path()).await;
        present(&presenter, &challenge).unwrap();
        let file = root.path().join(".well-known/acme-challenge/tok");
        assert_eq!(fs::read_to_string(&file).unwrap(), "tok.thumb");
        let foreign = file.with_file_name("other");
        fs::write(&foreign, "somebody else's").unwrap();
        assert!(presenter.present(&Challenges::default(), &[]).is_empty());
        assert!(!file.exists());
        assert!(foreign.exists());
    }

    #[tokio::test]
    async fn a_link_below_the_webroot_leads_nowhere() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let elsewhere = tempfile::tempdir().unwrap();
        let (presenter, challenge) = webroot(root.path(), state.path()).await;
        let link = root.path().join(".well-known");
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        assert!(present(&presenter, &challenge).is_err());
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), link.join("acme-challenge")).unwrap();
        assert!(present(&presenter, &challenge).is_err());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
