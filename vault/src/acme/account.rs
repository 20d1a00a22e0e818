//! Accounts (RFC 8555 section 7.3).

use std::{sync::Arc, time::Duration};

use instant_acme::{NewAccount, RevocationReason, RevocationRequest};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use secrecy::SecretSlice;
use url::Url;

use super::{
    away,
    clients::Clients,
    resign::{Keys, Resigner},
};
use crate::error::{Error, ErrorKind, Result};
use crate::keystore::MessageSigner;

/// How long anything that takes several requests may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// A CA.
#[derive(Debug, Clone)]
pub struct Ca {
    /// Its directory (RFC 8555 section 7.1.1).
    pub directory: Url,
    /// Roots of its HTTPS server, PEM; `None` for the system's.
    pub root_pem: Option<String>,
}

/// An external account binding (RFC 8555 section 7.3.4), as the CA has handed it out.
pub struct Eab {
    /// The key's id.
    pub kid: String,
    /// The MAC key.
    pub hmac: SecretSlice<u8>,
}

/// What a registration gave.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The account's URL.
    pub url: Url,
}

/// A registered account.
pub struct Account {
    pub(super) inner: instant_acme::Account,
    pub(super) keys: Arc<Keys>,
    pub(super) ca: String,
    /// For what `instant_acme` does not offer.
    pub(super) client: Resigner,
}

impl Account {
    /// Registers the signer's key; the CA answers with the account there is, where it knows it.
    ///
    /// # Errors
    /// `Invalid` where the CA wants terms agreed to or an account bound, `Unavailable` where it
    /// does not answer as it should.
    pub async fn register(
        ca: &Ca,
        clients: &Clients,
        signer: Arc<dyn MessageSigner>,
        contacts: &[String],
        agree_tos: bool,
        eab: Option<Eab>,
    ) -> Result<Registered> {
        let mut keys = Keys::of(signer);
        keys.eab = eab.map(|eab| (eab.kid, eab.hmac));
        let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contacts,
            terms_of_service_agreed: agree_tos,
            only_return_existing: false,
        };
        // Control of no name is to be proven here: what is not accepted is what was given.
        let refused = |error: Error| match error.kind {
            ErrorKind::Verification => Error { kind: ErrorKind::Invalid, ..error }.hint(
                "the CA does not let this account in: check --eab-kid and --eab-hmac-file, and \
                 what it says",
            ),
            _ => error,
        };
        Self::ask(ca, clients, keys, &account).await.map_err(refused)
    }

    /// The URL of the account that has the signer's key.
    ///
    /// # Errors
    /// `NotFound` where the CA knows no account with this key.
    pub async fn find(
        ca: &Ca,
        clients: &Clients,
        signer: Arc<dyn MessageSigner>,
    ) -> Result<Registered> {
        let account =
            NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: true };
        Self::ask(ca, clients, Keys::of(signer), &account).await
    }

    async fn ask(
        ca: &Ca,
        clients: &Clients,
        keys: Keys,
        account: &NewAccount<'_>,
    ) -> Result<Registered> {
        let (client, name) = client(clients, ca, Arc::new(keys))?;
        let builder = instant_acme::Account::builder_with_http(Box::new(client));
        let asked = builder.create(account, ca.directory.to_string(), None);
        // The credentials hold the throw-away key only; they end here.
        let (account, _) = within(&name, asked).await?;
        Ok(Registered { url: parse_url(&name, account.id())? })
    }

    /// Opens an account from its URL and its key alone.
    ///
    /// # Errors
    /// `Unavailable` where the CA's directory cannot be read.
    pub async fn open(
        ca: &Ca,
        clients: &Clients,
        signer: Arc<dyn MessageSigner>,
        url: Url,
    ) -> Result<Self> {
        Self::open_with(ca, clients, Keys::of(signer), url).await
    }

    async fn open_with(ca: &Ca, clients: &Clients, keys: Keys, url: Url) -> Result<Self> {
        let keys = Arc::new(keys);
        let (client, name) = client(clients, ca, keys.clone())?;
        let throw_away = rcgen::KeyPair::generate()
            .map_err(|e| Error::internal("generate", "a throw-away key", e))?;
        let throw_away = PrivatePkcs8KeyDer::from(throw_away.serialize_der());
        let builder = instant_acme::Account::builder_with_http(Box::new(client.clone()));
        let opened = builder.from_parts(url.to_string(), throw_away, ca.directory.to_string());
        let inner = within(&name, opened).await?;
        Ok(Self { inner, keys, ca: name, client })
    }

    /// Its CA, for people.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Rolls the account over to `next` (RFC 8555 section 7.3.5).
    ///
    /// # Errors
    /// `Unavailable` where the outcome is not known: ask with [`Account::find`].
    pub async fn rollover(
        ca: &Ca,
        clients: &Clients,
        current: Arc<dyn MessageSigner>,
        next: Arc<dyn MessageSigner>,
        url: Url,
    ) -> Result<()> {
        let mut keys = Keys::of(current);
        keys.next = Some(next);
        let mut account = Self::open_with(ca, clients, keys, url).await?;
        within(&account.ca.clone(), account.inner.update_key()).await.map(drop)
    }

    /// Deactivates the account, for ever (RFC 8555 section 7.3.6).
    ///
    /// # Errors
    /// What the CA says.
    pub async fn deactivate(self) -> Result<()> {
        within(&self.ca, self.inner.deactivate()).await
    }

    /// Revokes a certificate (RFC 8555 section 7.6) for an RFC 5280 reason.
    ///
    /// # Errors
    /// `Invalid` for an unknown reason, else what the CA says.
    pub async fn revoke(&self, certificate_der: &[u8], reason: &str) -> Result<()> {
        let certificate = CertificateDer::from(certificate_der);
        let request =
            RevocationRequest { certificate: &certificate, reason: Some(reason_of(reason)?) };
        within(&self.ca, self.inner.revoke(&request)).await
    }
}

/// The reasons of RFC 5280 section 5.3.1 that a subscriber may give.
pub(super) fn reason_of(text: &str) -> Result<RevocationReason> {
    match text {
        "unspecified" => Ok(RevocationReason::Unspecified),
        "key-compromise" => Ok(RevocationReason::KeyCompromise),
        "affiliation-changed" => Ok(RevocationReason::AffiliationChanged),
        "superseded" => Ok(RevocationReason::Superseded),
        "cessation-of-operation" => Ok(RevocationReason::CessationOfOperation),
        _ => Err(Error::invalid("revoke", format!("reason {text:?}"), "it is not known").hint(
            "use unspecified, key-compromise, affiliation-changed, superseded or \
             cessation-of-operation",
        )),
    }
}

pub(super) fn client(clients: &Clients, ca: &Ca, keys: Arc<Keys>) -> Result<(Resigner, String)> {
    let transport = clients.of(ca)?;
    let name = transport.ca.clone();
    Ok((Resigner { transport, keys }, name))
}

pub(super) fn parse_url(ca: &str, text: &str) -> Result<Url> {
    text.parse().map_err(|e| away(ca, format!("its URL {text:?}: {e}")))
}

/// Waits for a call of `instant_acme` and gives its error as ours.
pub(super) async fn within<T>(
    ca: &str,
    call: impl Future<Output = Result<T, instant_acme::Error>>,
) -> Result<T> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(domain(ca, error)),
        Err(_) => Err(away(ca, format!("nothing came of it within {DEADLINE:?}"))),
    }
}

fn domain(ca: &str, error: instant_acme::Error) -> Error {
    let error = match error {
        instant_acme::Error::Other(inner) => match inner.downcast::<Error>() {
            Ok(own) => return *own,
            Err(other) => instant_acme::Error::Other(other),
        },
        error => error,
    };
    let why = format!("its answer makes no sense: {error}");
    match error {
        instant_acme::Error::Api(_) => Error::conflict("ask", ca, why),
        _ => away(ca, why),
    }
    .hint("check that the URL is an ACME directory, and the CA's health")
}
