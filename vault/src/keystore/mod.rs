//! Where private keys live: the trait that every key store has, and the types it speaks.
//!
//! A key store never gives a private key out. It generates, signs, lists and destroys; with a KEK
//! it also wraps a key inside the token, for backups. Only `signing.rs` holds one.

mod algorithm;
pub mod pkcs11;
mod signature;

use async_trait::async_trait;
use bytes::Bytes;
use vault_proto::ids::KeyId;

pub use algorithm::{Algorithm, Escrow, Form, Mechanism};
pub use signature::Signature;

use crate::error::{Error, Result};

/// A public key as SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// SubjectPublicKeyInfo, DER.
    pub spki_der: Vec<u8>,
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct KeySpec {
    /// Becomes the CKA_ID of both objects.
    pub id: KeyId,
    /// Becomes the CKA_LABEL of both objects; for people only.
    pub label: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// `Wrapped`: CKA_EXTRACTABLE with CKA_WRAP_WITH_TRUSTED. `None`: CKA_EXTRACTABLE false.
    pub escrow: Escrow,
}

/// A key pair found in the token.
#[derive(Debug, Clone)]
pub struct KeyObject {
    /// From CKA_ID; objects whose CKA_ID is no key id of ours are not listed.
    pub id: KeyId,
    /// CKA_LABEL.
    pub label: String,
    /// Whether the private key is there. A public key alone means a torn generation or loss.
    pub has_private: bool,
}

/// The token as it presents itself.
#[derive(Debug, Clone)]
pub struct TokenInfo {
    /// CK_TOKEN_INFO.label, trimmed.
    pub label: String,
    /// Manufacturer and model, trimmed.
    pub model: String,
    /// Serial number, trimmed.
    pub serial: String,
}

/// The trusted key-encryption key of a token.
#[derive(Debug, Clone)]
pub struct KekInfo {
    /// Its CKA_ID.
    pub id: KeyId,
}

/// How a token wraps private keys with an AES key; tokens differ, so it is negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrapMechanism {
    /// CKM_AES_KEY_WRAP_PAD as SoftHSM has it (RFC 5649 over zero-padded PKCS#8).
    AesKeyWrapPad,
    /// CKM_AES_CBC_PAD with a random IV.
    AesCbcPad,
}

/// A private key wrapped inside the token: useless without the KEK.
#[derive(Debug, Clone)]
pub struct WrappedKey {
    /// By which KEK.
    pub kek: KeyId,
    /// How it was wrapped.
    pub mechanism: WrapMechanism,
    /// The IV where the mechanism has one; else empty.
    pub iv: Vec<u8>,
    /// The wrapped PKCS#8.
    pub blob: Vec<u8>,
}

/// A store of private keys.
///
/// Every call has the store's own deadline. Errors have the kinds `NotFound` (no such key),
/// `Unavailable` (the HSM does not answer), `Exhausted` (its queue is full), `Denied` (it refuses:
/// wrong PIN, not wrappable), `Invalid` (mechanism does not fit the key).
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Asks the token who it is; fails where it does not answer.
    async fn token_info(&self) -> Result<TokenInfo>;

    /// Generates a key pair. Not idempotent: after an uncertain failure ask for `public_key(id)`.
    async fn generate(&self, spec: &KeySpec) -> Result<PublicKey>;

    /// The public key of `id`; `None` where the token has no such key pair.
    async fn public_key(&self, id: KeyId) -> Result<Option<PublicKey>>;

    /// Signs what the mechanism's [`Form`] says; hashing, where the mechanism has it, is done here.
    async fn sign(&self, id: KeyId, mechanism: Mechanism, message: Bytes) -> Result<Signature>;

    /// Signs as [`KeyStore::sign`] does, with a witness on the thread that makes the signature.
    async fn sign_witnessed(
        &self,
        id: KeyId,
        what: ToSign,
        witness: Box<dyn Witness>,
    ) -> Result<Signature>;

    /// Runs `body` on a new thread that has a session of its own, which signs what is to be signed
    /// [`Place::Here`]. Whoever drops the store waits for it.
    fn thread_with_session(&self, name: String, body: Box<dyn FnOnce() + Send>) -> Result<()>;

    /// Lists key pairs with an id of ours.
    async fn list(&self) -> Result<Vec<KeyObject>>;

    /// Destroys both objects of a key pair; `false` where there was none.
    async fn destroy(&self, id: KeyId) -> Result<bool>;

    /// The trusted, wrap-only KEK, where the token has one; the newest of several.
    async fn kek(&self) -> Result<Option<KekInfo>>;

    /// Whether the token has such a KEK: quicker than to find the newest, where one was found before.
    async fn has_kek(&self) -> Result<bool>;

    /// Destroys a KEK that a newer one has replaced; `false` where the token has none of this id.
    async fn retire_kek(&self, id: KeyId) -> Result<bool>;

    /// Wraps an escrowed private key with the newest KEK, inside the token.
    async fn wrap(&self, id: KeyId) -> Result<WrappedKey>;

    /// Wraps several in one go, one after the other; answers in their order. What keeps the token
    /// from wrapping any is an error of all of them.
    async fn wrap_some(&self, ids: Vec<KeyId>) -> Result<Vec<Result<WrappedKey>>>;
}

/// What a token is to sign.
#[derive(Debug, Clone)]
pub struct ToSign {
    /// How.
    pub mechanism: Mechanism,
    /// What the mechanism's [`Form`] says.
    pub message: Bytes,
    /// Where.
    pub place: Place,
}

/// The thread that asks the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of the store's own; whoever asks goes on with something else meanwhile.
    Queue,
    /// The one that calls, where it has a session of its own ([`KeyStore::thread_with_session`]): it
    /// blocks for as long as the token takes, and saves two ways between threads. Else as `Queue`.
    Here,
}

/// Says what is about to be done and what came of it, on the thread that asks the token. It may block,
/// and it saves a path that is walked thousands of times a second the ways between threads. What
/// several say in a row may be written at once.
pub trait Witness: Send {
    /// Says what is about to be done; the token is asked once that [stands](Witness::stands).
    ///
    /// # Errors
    /// Why the token may not be asked.
    fn before(&mut self) -> Result<()>;

    /// Says what came of it, whoever still waits for it; it is handed out once that
    /// [stands](Witness::stands).
    ///
    /// # Errors
    /// Why nothing may be handed out.
    fn after(&mut self, outcome: Result<(), &Error>) -> Result<()>;

    /// Returns when what it said last is written, and others' with it.
    ///
    /// # Errors
    /// Why it does not stand: after [`Witness::before`] the token is not asked, after
    /// [`Witness::after`] nothing is handed out.
    fn stands(&mut self) -> Result<()>;
}

/// Something that signs with one key for one purpose: what `x509` and `acme` take, so that they
/// never see a key store. `signing.rs` makes them.
#[async_trait]
pub trait MessageSigner: Send + Sync {
    /// The key's public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs the whole message with the key's default mechanism ([`Algorithm::default_mechanism`]).
    async fn sign(&self, message: &[u8]) -> Result<Signature>;
}
