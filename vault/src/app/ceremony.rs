//! `vaultctl init`: from an empty token to a vault.
//!
//! Until its last step, one transaction that writes who this vault is, nothing counts: a ceremony
//! that is interrupted is begun anew on a wiped token, since nobody was told of its keys.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;
use vault_custody::transcript::Occasion;
use vault_proto::{
    ids::{Identity, OperatorName},
    v1,
};

use super::{Parts, blocking, rooms};
use crate::api::{self, Initializer};
use crate::backup::{
    ceremony::{Kek, Quorum},
    keks, restore,
};
use crate::error::{Error, Result};
use crate::keystore::{
    Algorithm, KeyStore,
    pkcs11::{KekSpec, Module, TokenState, TokenUri},
};
use crate::policy::{Action, Principal};
use crate::settings::{self, Vault};
use crate::signing::{NewKey, Signing};
use crate::store::{KeyPurpose, KeyRecord, KeyState};
use crate::x509::ca;

const INIT: Principal = Principal::Vault("init");
/// The internal CA key's name.
const CA_KEY: &str = "root";

/// A vault that was just made, on its way to the server; answered once it serves.
pub(super) type Handover = (rooms::Opened, oneshot::Sender<()>);

/// The ceremony.
pub(super) struct Ceremony {
    parts: Parts,
    done: Arc<Mutex<bool>>,
    handover: mpsc::Sender<Handover>,
}

/// A request, checked before the token is touched.
struct Plan {
    quorum: Option<Quorum>,
    operator: Option<(OperatorName, Vec<u8>)>,
    uri: TokenUri,
}

struct Token {
    keystore: Arc<dyn KeyStore>,
    kek: Option<Kek>,
    serial: String,
}

impl Ceremony {
    /// `done` is whether this is a vault by now; whoever makes it one holds it.
    pub(super) fn new(
        parts: Parts,
        done: Arc<Mutex<bool>>,
        handover: mpsc::Sender<Handover>,
    ) -> Self {
        Self { parts, done, handover }
    }

    fn plan(&self, request: v1::InitRequest) -> Result<Plan> {
        let invalid = |why: &str| Error::invalid("initialise", "this vault", why);
        let quorum = if request.custodians.is_empty() {
            if request.threshold > 0 {
                return Err(invalid("there is a threshold and no custodian"));
            }
            None
        } else {
            Some(api::quorum(request.custodians, request.threshold)?)
        };
        let operator = match (request.operator.is_empty(), request.operator_csr_der.is_empty()) {
            (true, true) => None,
            (false, false) => {
                ca::identity_csr(&request.operator_csr_der)?;
                Some((request.operator.parse()?, request.operator_csr_der))
            }
            _ => return Err(invalid("an operator needs both a name and a CSR")),
        };
        Ok(Plan { quorum, operator, uri: self.parts.config.hsm.uri.parse()? })
    }

    /// Makes the token ready: initialised, with a KEK where there are custodians, logged in, empty.
    async fn token(&self, plan: &Plan) -> Result<Token> {
        let store = self.parts.store.as_ref();
        let hsm = &self.parts.config.hsm;
        let pin = hsm.pin.read()?;
        let uri = plan.uri.clone();
        let (module, state) = blocking(move || {
            let module = Module::load(uri.module_path())?;
            let state = module.token(&uri)?;
            Ok((module, state))
        })
        .await?;
        let label = plan.uri.label();
        let ours = settings::init_was_started_on(store, label).await?
            || restore::was_started_on(store, label).await?;
        let make = ours || matches!(state, TokenState::Absent);
        let so_pin = match &hsm.so_pin {
            Some(source) => Some(source.read()?),
            None if make || plan.quorum.is_some() => {
                return Err(Error::invalid(
                    "initialise",
                    format!("token {}", plan.uri.label()),
                    "the security officer's PIN is not configured",
                )
                .hint("set so_pin in [hsm] of vault.toml for the ceremony, then remove it"));
            }
            None => None,
        };
        if make && let Some(so_pin) = so_pin.clone() {
            settings::note_init_started(store, plan.uri.label()).await?;
            self.forget_keys().await?;
            let wipe = !matches!(state, TokenState::Absent);
            let (module, uri, pin) = (module.clone(), plan.uri.clone(), pin.clone());
            blocking(move || module.initialize_token(&uri, &so_pin, &pin, wipe)).await?;
        }
        let kek = plan.quorum.as_ref().map(|_| Kek::generate()).transpose()?;
        if let (Some(kek), Some(so_pin)) = (&kek, so_pin) {
            let spec = KekSpec { id: kek.id, value: kek.copy()? };
            let (module, uri) = (module.clone(), plan.uri.clone());
            blocking(move || module.install_kek(&uri, &so_pin, &spec)).await?;
        }
        let keystore = rooms::open_keystore(hsm).await?;
        let serial = keystore.token_info().await?.serial;
        self.check_empty(plan, keystore.as_ref(), kek.as_ref()).await?;
        Ok(Token { keystore, kek, serial })
    }

    /// A token that holds keys already is somebody's.
    async fn check_empty(
        &self,
        plan: &Plan,
        keystore: &dyn KeyStore,
        kek: Option<&Kek>,
    ) -> Result<()> {
        let subject = || format!("token {}", plan.uri.label());
        let conflict = |why: String| {
            Error::conflict("initialise", subject(), why)
                .hint("give this vault a token of its own: another token= in [hsm] uri")
        };
        let found = keystore.list().await?.len();
        if found > 0 {
            return Err(conflict(format!("it holds {found} key pairs already")));
        }
        let installed = keystore.kek().await?.map(|kek| kek.id);
        if installed != kek.map(|kek| kek.id) {
            return Err(conflict("it holds another KEK already".to_owned()));
        }
        Ok(())
    }

    /// Rows of an interrupted ceremony, whose keys go with the token's old content.
    async fn forget_keys(&self) -> Result<()> {
        for key in self.parts.store.keys().await? {
            self.parts.store.set_key_state(key.id, KeyState::Destroyed).await?;
        }
        Ok(())
    }

    async fn ca_key(&self, signing: &Signing) -> Result<KeyRecord> {
        let new = NewKey {
            name: CA_KEY.to_owned(),
            purpose: KeyPurpose::InternalCa,
            algorithm: Algorithm::EcP256,
            escrow: None,
            labels: std::collections::BTreeMap::new(),
        };
        signing.generate(&INIT, new).await
    }

    async fn make(
        &self,
        by: &Principal,
        plan: Plan,
    ) -> Result<(Vault, rooms::Opened, v1::InitResponse)> {
        let mut token = self.token(&plan).await?;
        let id = Uuid::now_v7().to_string();
        // From here on the KEK exists in the token and as shares only.
        let escrow = token.kek.take().zip(plan.quorum.as_ref());
        let escrow = escrow.map(|(kek, quorum)| keks::deal(&kek, quorum, &id)).transpose()?;
        let signing = rooms::signing(&self.parts, token.keystore);
        let key = self.ca_key(&signing).await?;
        let context = serde_json::json!({ "root": id });
        let signer = signing.bind(INIT, key.clone(), Action::SignCertificate, context);
        let root_der = ca::root(&signer, &id, self.parts.clock.now()).await?;
        let mut vault = Vault {
            id,
            trust_domain: self.parts.config.policy.trust_domain.clone(),
            ca_root_pem: ca::pem(&root_der)?,
            ca_key: key.id,
            token_serial: token.serial,
            kek: None,
            next_kek: None,
            earlier_keks: Vec::new(),
        };
        if let Some(dealt) = escrow {
            let now = self.parts.clock.now();
            let kek = keks::attest(&signing, &vault, dealt, Occasion::Init, now).await?;
            vault.kek = Some(kek);
        }
        let opened = rooms::assemble(&self.parts, signing, &vault, Vec::new())?;
        let operator = match plan.operator {
            None => None,
            Some((name, csr)) => {
                let identities = &opened.rooms.identities;
                let issued = identities.issue_client(by, Identity::Operator(name), &csr).await?;
                Some(api::identity(&issued, &root_der)?)
            }
        };
        let response = v1::InitResponse {
            vault_id: vault.id.clone(),
            ca_pem: vault.ca_root_pem.clone(),
            ca_fingerprint: ca::fingerprint(&root_der),
            shares: vault.kek.iter().flat_map(api::shares).collect(),
            operator,
            kek_check_value: vault.kek.as_ref().map_or(String::new(), |k| k.check_value.clone()),
            kek_transcript: vault.kek.as_ref().map_or(String::new(), |k| k.transcript.clone()),
        };
        Ok((vault, opened, response))
    }
}

#[async_trait]
impl Initializer for Ceremony {
    async fn init(&self, by: &Principal, request: v1::InitRequest) -> Result<v1::InitResponse> {
        let conflict = |why: &str| Error::conflict("initialise", "this vault", why);
        let mut done = self
            .done
            .try_lock()
            .map_err(|_| conflict("a ceremony or a restore is under way already"))?;
        if *done {
            return Err(conflict("it is initialised already"));
        }
        let (vault, opened, response) = self.make(by, self.plan(request)?).await?;
        vault.write(self.parts.store.as_ref()).await?;
        *done = true;
        let (ready, serving) = oneshot::channel();
        let handed = self.handover.send((opened, ready)).await;
        handed.map_err(|_| Error::unavailable("serve", "this vault", "it is stopping"))?;
        // The shares go out even where the network cannot be listened on: that is the log's matter.
        let _ = serving.await;
        Ok(response)
    }
}
