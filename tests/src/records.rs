//! The store's records to begin with; a test changes what it is about.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};
use vault::{
    keystore::{Algorithm, Escrow},
    store::{
        AccountRecord, AccountStatus, Accounts as _, AgentRecord, AgentStatus, Agents as _,
        CertificateRecord, CertificateStatus, Certificates as _, ChallengeKind, ChallengeRecord,
        Custody, Identifier, KeyPurpose, KeyRecord, KeyState, Keys as _, OrderRecord, OrderState,
        TlsUse, Turn, VersionRecord, sql::SqlStore,
    },
};
use vault_proto::ids::{AgentName, CertificateName, KeyId, OrderId};

/// A time with every microsecond in use.
pub fn start() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_000)
}

/// A name of any kind.
pub fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("name")
}

/// A key that an operator generated.
pub fn key(name: &str) -> KeyRecord {
    KeyRecord {
        id: KeyId::random(),
        name: name.to_owned(),
        version: 1,
        purpose: KeyPurpose::General,
        algorithm: Algorithm::EcP256,
        escrow: Escrow::Wrapped,
        state: KeyState::Active,
        spki_der: vec![0x30, 0x00, 0xff],
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        created_at: start(),
    }
}

/// A registered account with that key.
pub fn account(account: &str, key: &KeyRecord) -> AccountRecord {
    AccountRecord {
        name: name(account),
        directory: "https://ca.example/dir".parse().expect("URL"),
        url: Some("https://ca.example/account/1".parse().expect("URL")),
        status: AccountStatus::Valid,
        contacts: vec!["mailto:ops@shop.example".to_owned(), "mailto:b@shop.example".to_owned()],
        key_id: key.id,
        next_contacts: None,
        next_key_id: None,
        eab_kid: Some("kid".to_owned()),
        ca_root_pem: None,
        created_at: start(),
        last_ok_at: Some(start() + Duration::microseconds(1)),
        last_error: None,
    }
}

/// An agent that has enrolled.
pub fn agent(agent: &str) -> AgentRecord {
    AgentRecord {
        name: name(agent),
        status: AgentStatus::Active,
        identity_not_after: Some(start() + Duration::days(30)),
        last_seen_at: None,
        software_version: "0.1.0".to_owned(),
        created_at: start(),
    }
}

/// A certificate of account `ca` that was never issued.
pub fn certificate(certificate: &str) -> CertificateRecord {
    CertificateRecord {
        name: name(certificate),
        account: name("ca"),
        identifiers: vec![
            Identifier::Dns("*.shop.example".to_owned()),
            Identifier::Ip([192, 0, 2, 7].into()),
        ],
        challenge: ChallengeKind::Http01,
        custody: Custody::Vault,
        algorithm: Algorithm::EcP384,
        profile: Some("shortlived".to_owned()),
        must_staple: true,
        tls_use: TlsUse::Tls13,
        rotate_key: true,
        fallback: Vec::new(),
        preferred_chain: Some("Root X1".to_owned()),
        windows: Vec::new(),
        turn: Turn { place: 1, failures: 2 },
        status: CertificateStatus::Pending,
        current_version: 0,
        key_id: None,
        renew_at: start(),
        failed_attempts: 0,
        last_error: None,
        created_at: start(),
    }
}

/// An order of a certificate's next version.
pub fn order(certificate: &CertificateRecord) -> OrderRecord {
    OrderRecord {
        id: OrderId::random(),
        certificate: certificate.name.clone(),
        version: certificate.current_version + 1,
        account: certificate.account.clone(),
        state: OrderState::Ready,
        url: Some("https://ca.example/order/1".parse().expect("URL")),
        csr_der: Some(vec![0x30, 0x00]),
        key_id: certificate.key_id,
        error: None,
        created_at: start(),
        updated_at: start(),
    }
}

/// A challenge of an order.
pub fn challenge(order: &OrderRecord, token: &str) -> ChallengeRecord {
    ChallengeRecord {
        token: token.to_owned(),
        order_id: order.id,
        kind: ChallengeKind::Http01,
        identifier: Identifier::Dns("shop.example".to_owned()),
        key_authorization: format!("{token}.thumbprint"),
    }
}

/// What an order has become.
pub fn version(order: &OrderRecord) -> VersionRecord {
    VersionRecord {
        certificate: order.certificate.clone(),
        version: order.version,
        account: order.account.clone(),
        chain_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        serial: format!("{:02x}", order.version),
        not_before: start(),
        not_after: start() + Duration::days(90),
        fingerprint: "ab".repeat(32),
        key_id: order.key_id,
        issued_at: start() + Duration::minutes(1),
        revoked: None,
    }
}

/// Stores account `ca` with its key, which every certificate needs.
pub async fn put_account(store: &SqlStore) -> AccountRecord {
    let key = KeyRecord { purpose: KeyPurpose::AcmeAccount, ..key("ca") };
    store.insert_key(&key, None).await.expect("key");
    let account = account("ca", &key);
    store.insert_account(&account).await.expect("account");
    account
}

/// Stores agents.
pub async fn put_agents(store: &SqlStore, names: &[&str]) -> Vec<AgentName> {
    for one in names {
        store.put_agent(&agent(one)).await.expect("agent");
    }
    names.iter().map(|one| name(one)).collect()
}

/// Stores certificates of account `ca`, deployed nowhere.
pub async fn put_certificates(store: &SqlStore, names: &[&str]) -> Vec<CertificateName> {
    for one in names {
        store.insert_certificate(&certificate(one), &[]).await.expect("certificate");
    }
    names.iter().map(|one| name(one)).collect()
}

/// Stores account `ca`, certificate `shop` and its open order with two challenges.
pub async fn put_order(store: &SqlStore) -> (CertificateRecord, OrderRecord) {
    put_account(store).await;
    let certificate = certificate("shop");
    store.insert_certificate(&certificate, &[]).await.expect("certificate");
    let order = order(&certificate);
    store.insert_order(&order).await.expect("order");
    let challenges = [challenge(&order, "one"), challenge(&order, "two")];
    store.put_challenges(&challenges).await.expect("challenges");
    (certificate, order)
}

/// Issues a certificate's version of this number, for this key, which ends that many days after the start.
pub async fn issue(
    store: &SqlStore,
    certificate: &CertificateRecord,
    number: u64,
    key: KeyId,
    days: i64,
) {
    let order = OrderRecord { version: number, key_id: Some(key), ..order(certificate) };
    store.insert_order(&order).await.expect("order");
    let not_after = start() + Duration::days(days);
    let version = VersionRecord { not_after, ..version(&order) };
    store.record_issuance(order.id, &version, start()).await.expect("version");
}

/// Issues a certificate's next version, which is to be renewed in sixty days.
pub async fn issue_next(store: &SqlStore, certificate: &CertificateName) -> VersionRecord {
    let known = store.certificate(certificate).await.expect("the store");
    let order = order(&known.expect("a certificate"));
    store.insert_order(&order).await.expect("order");
    let version = version(&order);
    let renew_at = start() + Duration::days(60);
    store.record_issuance(order.id, &version, renew_at).await.expect("version");
    version
}
