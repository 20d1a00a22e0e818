//! The rooms alone, with a clock that the test moves, on a token and a store.

use std::{collections::BTreeSet, sync::Arc, time::Duration as StdDuration};

use secrecy::SecretString;
use testkit::{
    inside,
    records::{certificate, order, put_account, start, version},
    softhsm::SoftHsm,
};
use time::Duration;
use tokio_util::sync::CancellationToken;
use vault::{
    accounts::Accounts,
    acme,
    alerts::Alerts,
    audit::{self, AuditLog},
    clock::ManualClock,
    keystore::{
        Algorithm, KeyStore,
        pkcs11::{Module, Options, Pkcs11KeyStore, TokenUri},
    },
    policy::{Principal, RoleAuthorizer},
    push::Hub,
    renewal::{Issuer, IssuerParts, Planning, Presenters, planner::Policy},
    signing::{NewKey, Signing},
    store::{
        CertificateRecord, Certificates as _, KeyPurpose, KeyRecord, KeyState, Keys as _,
        OrderRecord, VersionRecord, sql::SqlStore,
    },
};
use vault_proto::ids::KeyId;

/// Who makes certificates' keys.
const RENEWAL: Principal = Principal::Vault("renewal");
/// As long as no deadline is what a test is about.
const LONG: StdDuration = StdDuration::from_secs(120);

struct Rooms {
    clock: ManualClock,
    keystore: Arc<dyn KeyStore>,
    store: Arc<SqlStore>,
    audit: AuditLog,
    signing: Signing,
    issuer: Issuer,
    _dir: tempfile::TempDir,
}

impl Rooms {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let module = SoftHsm::module();
        let uri = format!("pkcs11:token=vault?module-path={}", module.display());
        let (uri, module): (TokenUri, _) = (uri.parse().unwrap(), Module::load(&module).unwrap());
        let (so_pin, pin) = (SecretString::from("1234-officer"), SecretString::from("1234-user"));
        module.initialize_token(&uri, &so_pin, &pin, false).unwrap();
        let options = Options { workers: 2, queue: 64, deadline: LONG };
        let keystore: Arc<dyn KeyStore> =
            Arc::new(Pkcs11KeyStore::open(&module, &uri, &pin, options).unwrap());
        let url = format!("sqlite:{}/vault.db", dir.path().display());
        let store = Arc::new(SqlStore::open(&url, 2).await.unwrap());
        let clock = ManualClock::new(start());
        let clocks = Arc::new(clock.clone());
        let options = audit::Options { queue: 64, deadline: LONG, sync: audit::Sync::Each };
        let log = dir.path().join("audit.log");
        let (audit, _) = AuditLog::open(&log, options, clocks.clone()).unwrap();
        let signing = Signing::new(
            keystore.clone(),
            store.clone(),
            audit.clone(),
            Arc::new(RoleAuthorizer),
            clocks.clone(),
        );
        let hub = Hub::new(store.clone(), clocks.clone());
        let options = acme::Options { request_timeout: LONG };
        let accounts = Accounts::new(store.clone(), signing.clone(), clocks.clone(), options);
        let policy = Policy { renew_after: 0.5 };
        let alerts = Alerts::new(store.clone(), audit.clone(), clocks.clone());
        let presenters = Presenters::new(hub.clone());
        let issuer = Issuer::new(IssuerParts {
            store: store.clone(),
            signing: signing.clone(),
            hub,
            presenters,
            clock: clocks,
            policy,
            accounts,
            alerts,
            planning: Planning::new(Vec::new(), 1),
        });
        put_account(&store).await;
        Self { clock, keystore, store, audit, signing, issuer, _dir: dir }
    }

    /// Declares a certificate and makes its first key.
    async fn declare(&self, name: &str) -> (CertificateRecord, KeyRecord) {
        let declared = certificate(name);
        self.store.insert_certificate(&declared, &[]).await.unwrap();
        let new = NewKey {
            name: name.to_owned(),
            purpose: KeyPurpose::Certificate,
            algorithm: Algorithm::EcP256,
            escrow: None,
            labels: [].into(),
        };
        (declared, self.signing.generate(&RENEWAL, new).await.unwrap())
    }

    /// Replaces a certificate's key as its renewal does.
    async fn rotate(&self, name: &str) -> KeyRecord {
        self.signing.rotate(&RENEWAL, KeyPurpose::Certificate, name).await.unwrap()
    }

    /// Issues a version for a key, which ends that many days from the start of all on.
    async fn issue(&self, of: &CertificateRecord, number: u64, key: &KeyRecord, ends: i64) {
        let order = OrderRecord { version: number, key_id: Some(key.id), ..order(of) };
        self.store.insert_order(&order).await.unwrap();
        let version =
            VersionRecord { not_after: start() + Duration::days(ends), ..version(&order) };
        self.store.record_issuance(order.id, &version, start()).await.unwrap();
    }

    /// Looks for keys to end; answers how many it has ended.
    async fn look(&self) -> usize {
        self.issuer.end_retired_keys(&CancellationToken::new()).await.unwrap()
    }

    /// The private keys in the token.
    async fn in_token(&self) -> BTreeSet<KeyId> {
        let objects = self.keystore.list().await.unwrap();
        objects.into_iter().filter(|object| object.has_private).map(|object| object.id).collect()
    }
}

/// Keeps a promise in a process of its own, on an empty token.
fn keep(test: &str, promise: impl AsyncFnOnce(Rooms)) {
    if inside::is_inside() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { promise(Rooms::new().await).await });
        return;
    }
    let hsm = SoftHsm::new();
    inside::run(&format!("retired_keys::rooms::{test}"), hsm.environment(), hsm.dir());
}

#[test]
fn a_replaced_key_ends_a_day_after_its_last_certificate() {
    keep("a_replaced_key_ends_a_day_after_its_last_certificate", async |rooms| {
        let (shop, first) = rooms.declare("shop").await;
        rooms.issue(&shop, 1, &first, 90).await;
        rooms.issue(&shop, 2, &first, 120).await;
        let second = rooms.rotate("shop").await;
        rooms.issue(&shop, 3, &second, 150).await;
        let both = BTreeSet::from([first.id, second.id]);
        rooms.clock.advance(Duration::days(121) - Duration::microseconds(1));
        assert_eq!(rooms.look().await, 0, "a microsecond too early");
        assert_eq!(rooms.in_token().await, both);
        rooms.clock.advance(Duration::microseconds(1));
        assert_eq!(rooms.look().await, 1);
        assert_eq!(rooms.in_token().await, [second.id].into());
        let ended = rooms.store.key(first.id).await.unwrap().unwrap();
        assert_eq!(ended.state, KeyState::Destroyed, "its row stays as evidence");
        assert_eq!(rooms.look().await, 0, "no key ends twice");
        assert!(rooms.audit.verify().await.unwrap().problem.is_none());
    });
}

#[test]
fn the_key_of_a_certificate_that_is_not_renewed_never_ends() {
    keep("the_key_of_a_certificate_that_is_not_renewed_never_ends", async |rooms| {
        // One with its only key, and one whose renewal has a new key and fails ever since.
        let (shop, active) = rooms.declare("shop").await;
        rooms.issue(&shop, 1, &active, 90).await;
        let (other, retired) = rooms.declare("other").await;
        rooms.issue(&other, 1, &retired, 90).await;
        let next = rooms.rotate("other").await;
        rooms.clock.advance(Duration::days(10_000));
        assert_eq!(rooms.look().await, 0);
        let all = BTreeSet::from([active.id, retired.id, next.id]);
        assert_eq!(rooms.in_token().await, all);
        // At last it is renewed.
        rooms.issue(&other, 2, &next, 20_000).await;
        assert_eq!(rooms.look().await, 1);
        assert_eq!(rooms.in_token().await, [active.id, next.id].into());
    });
}

#[test]
fn a_key_that_is_in_use_is_not_taken_for_a_retired_one() {
    keep("a_key_that_is_in_use_is_not_taken_for_a_retired_one", async |rooms| {
        let (_, first) = rooms.declare("shop").await;
        let second = rooms.rotate("shop").await;
        let refused = rooms.signing.discard_retired(&RENEWAL, second.id).await.unwrap_err();
        assert_eq!(refused.kind, vault::error::ErrorKind::Conflict, "{refused}");
        assert_eq!(rooms.in_token().await, [first.id, second.id].into());
        rooms.signing.discard_retired(&RENEWAL, first.id).await.unwrap();
        let again = rooms.signing.discard_retired(&RENEWAL, first.id).await.unwrap_err();
        assert!(again.why.contains("it is destroyed"), "{again}");
        assert_eq!(rooms.in_token().await, [second.id].into());
    });
}

#[test]
fn a_vault_that_stops_ends_no_further_key() {
    keep("a_vault_that_stops_ends_no_further_key", async |rooms| {
        let (_, first) = rooms.declare("shop").await;
        let second = rooms.rotate("shop").await;
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(rooms.issuer.end_retired_keys(&stop).await.unwrap(), 0);
        assert_eq!(rooms.in_token().await, [first.id, second.id].into());
        assert_eq!(rooms.look().await, 1, "nothing is left for it: no certificate was issued");
    });
}
