//! The vault's KEKs: dealt to custodians, attested by a transcript, rotated, their shares replaced.
//!
//! A rotation is durable at each step: the new KEK's shares are kept before the token has it, and
//! what wraps is always the newest KEK of the token. So a crash anywhere leaves a KEK whose shares
//! are kept, and the next start completes the rest.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use vault_custody::{
    locked::Locked,
    shares::{EncryptedShare, Kek, Quorum},
    transcript::{About, Occasion, Transcript},
};
use vault_proto::ids::KeyId;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::fault::crash_point;
use crate::keystore::MessageSigner as _;
use crate::policy::{Action, Principal};
use crate::settings::{self, Vault};
use crate::signing::{Finding, Signing};
use crate::store::Store;

const KEK: Principal = Principal::Vault("kek");

/// Does in the token what only its security officer may, in a process of its own: a token lets no
/// officer in where a user is logged in.
#[async_trait]
pub trait Officer: Send + Sync {
    /// Creates a trusted, wrap-only KEK.
    ///
    /// # Errors
    /// `Denied` for a wrong SO PIN, `Invalid` where none is configured, `Verification` where the
    /// token does not keep the KEK's restrictions.
    async fn create_kek(&self, id: KeyId, value: &Locked) -> Result<()>;
}

/// A KEK's shares, before anybody has attested them.
pub struct Dealt {
    id: KeyId,
    check_value: String,
    threshold: usize,
    shares: Vec<EncryptedShare>,
}

/// The vault's KEKs.
pub struct Keks {
    store: Arc<dyn Store>,
    signing: Signing,
    clock: Arc<dyn Clock>,
    officer: Arc<dyn Officer>,
    /// One ceremony at a time.
    turn: Mutex<()>,
}

/// Splits a KEK among a quorum's custodians.
///
/// # Errors
/// As [`Kek::split`].
pub fn deal(kek: &Kek, quorum: &Quorum, vault_id: &str) -> Result<Dealt> {
    Ok(Dealt {
        id: kek.id,
        check_value: kek.check_value(vault_id),
        threshold: quorum.threshold(),
        shares: kek.split(quorum, vault_id)?,
    })
}

/// Has the internal CA sign who got what.
///
/// # Errors
/// Those of the signature.
pub async fn attest(
    signing: &Signing,
    vault: &Vault,
    dealt: Dealt,
    occasion: Occasion,
    now: OffsetDateTime,
) -> Result<settings::Kek> {
    let about = About {
        occasion,
        vault_id: &vault.id,
        kek_id: &dealt.id.to_string(),
        check_value: &dealt.check_value,
        threshold: dealt.threshold,
        token_serial: &vault.token_serial,
        time: now,
    };
    let transcript = Transcript::new(about, &dealt.shares);
    let key = signing.record(vault.ca_key).await?;
    let context = json!({ "kek": dealt.id, "occasion": occasion });
    let signer = signing.bind(KEK, key, Action::SignTranscript, context);
    let signature = signer.sign(&transcript.message()?).await?.x509()?;
    let share = |share: EncryptedShare| settings::Share {
        custodian: share.custodian.to_string(),
        recipient: share.recipient,
        age_armored: share.armored,
    };
    Ok(settings::Kek {
        id: dealt.id,
        check_value: dealt.check_value,
        custodians: dealt.shares.iter().map(|share| share.custodian.to_string()).collect(),
        threshold: dealt.threshold,
        made_at: now,
        transcript: transcript.signed(&signature, &vault.ca_root_pem)?,
        shares: dealt.shares.into_iter().map(share).collect(),
    })
}

impl Keks {
    /// The KEKs of a vault.
    pub fn new(
        store: Arc<dyn Store>,
        signing: Signing,
        clock: Arc<dyn Clock>,
        officer: Arc<dyn Officer>,
    ) -> Self {
        Self { store, signing, clock, officer, turn: Mutex::new(()) }
    }

    /// A new KEK: the next backup holds every key under it, earlier ones open with the old shares.
    ///
    /// # Errors
    /// `Conflict` where the vault has no KEK or a ceremony is under way, and those of the officer.
    pub async fn rotate(&self, quorum: &Quorum) -> Result<settings::Kek> {
        let _turn = self.turn()?;
        let mut vault = self.vault("rotate").await?;
        if vault.next_kek.is_some() {
            // One that failed half-way: whichever the token has counts.
            settle(self.store.as_ref(), &self.signing, &mut vault).await?;
        }
        let kek = Kek::generate()?;
        let dealt = deal(&kek, quorum, &vault.id)?;
        let now = self.clock.now();
        let next = attest(&self.signing, &vault, dealt, Occasion::Rotate, now).await?;
        vault.next_kek = Some(next.clone());
        vault.write(self.store.as_ref()).await?;
        crash_point!("rotate.kept");
        self.officer.create_kek(kek.id, &kek.copy()?).await?;
        drop(kek);
        crash_point!("rotate.created");
        settle(self.store.as_ref(), &self.signing, &mut vault).await?;
        crash_point!("rotate.settled");
        match &vault.kek {
            Some(kek) if kek.id == next.id => Ok(next),
            _ => Err(Error::internal("rotate", "the KEK", "the token does not have the new one")),
        }
    }

    /// New shares of the same KEK, which a quorum of the old ones has made elsewhere.
    ///
    /// # Errors
    /// `Conflict` where they are of another KEK or a ceremony is under way.
    pub async fn replace_shares(
        &self,
        id: KeyId,
        check_value: &str,
        threshold: usize,
        shares: Vec<EncryptedShare>,
    ) -> Result<settings::Kek> {
        let _turn = self.turn()?;
        let mut vault = self.vault("replace the shares of").await?;
        let now = self.clock.now();
        let same = vault.kek.as_ref().is_some_and(|k| k.id == id && k.check_value == check_value);
        if !same {
            let why = "they are of another KEK than the one in force";
            return Err(Error::conflict("replace", "the KEK's shares", why)
                .hint("`vaultctl kek show` names it: use shares of its ceremony"));
        }
        let dealt = Dealt { id, check_value: check_value.to_owned(), threshold, shares };
        let kek = attest(&self.signing, &vault, dealt, Occasion::Reshare, now).await?;
        vault.earlier_keks.splice(0..0, vault.kek.replace(kek.clone()));
        vault.write(self.store.as_ref()).await?;
        crash_point!("reshare.kept");
        Ok(kek)
    }

    fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        self.turn.try_lock().map_err(|_| {
            Error::conflict("change", "the KEK", "a ceremony is under way already")
                .hint("wait for it to end")
        })
    }

    async fn vault(&self, what: &str) -> Result<Vault> {
        let vault = Vault::read(self.store.as_ref()).await?;
        vault.filter(|vault| vault.kek.is_some()).ok_or_else(|| {
            Error::conflict(what, "the KEK", "this vault has none: it escrows nothing")
                .hint("custodians are named when a vault is initialised")
        })
    }
}

/// Brings settings and token together: the newest KEK of the token, which wraps, is the one in
/// force, and older ones of ours go.
///
/// # Errors
/// Where token or store do not answer.
pub async fn reconcile(store: &dyn Store, signing: &Signing) -> Result<Vec<Finding>> {
    match Vault::read(store).await? {
        Some(mut vault) if vault.kek.is_some() => settle(store, signing, &mut vault).await,
        _ => Ok(Vec::new()),
    }
}

async fn settle(store: &dyn Store, signing: &Signing, vault: &mut Vault) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let Some(newest) = signing.kek().await?.map(|kek| kek.id) else {
        findings.push(Finding("the KEK is GONE from the token: no key can be wrapped".to_owned()));
        return Ok(findings);
    };
    if vault.next_kek.is_some() || vault.kek.as_ref().is_none_or(|kek| kek.id != newest) {
        // None is forgotten: a KEK may come into the token late, from a process that outlived us.
        let known = [vault.kek.take(), vault.next_kek.take()].into_iter().flatten();
        let (in_force, others) = known
            .chain(std::mem::take(&mut vault.earlier_keks))
            .partition::<Vec<_>, _>(|kek| kek.id == newest);
        let mut in_force = in_force.into_iter();
        let Some(kek) = in_force.next() else {
            findings
                .push(Finding(format!("KEK {newest} of the token is nobody's: nobody has shares")));
            return Ok(findings);
        };
        vault.earlier_keks = others.into_iter().chain(in_force).collect();
        vault.kek = Some(kek);
        vault.write(store).await?;
        crash_point!("rotate.switched");
    }
    for kek in vault.earlier_keks.iter().filter(|kek| kek.id != newest) {
        if signing.retire_kek(kek.id).await? {
            tracing::info!(kek = %kek.id, "a KEK that was replaced is gone from the token");
        }
    }
    Ok(findings)
}
