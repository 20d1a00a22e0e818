//! An agent's desired state, followed change by change, is what a look at everything finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::LazyLock,
};

use proptest::prelude::*;
use time::Duration;
use vault::{
    clock::ManualClock,
    push::{Changes, DesiredState, View},
    store::{
        CertificateRecord, CertificateSettings, Certificates as _, ChallengeKind, ChallengeRecord,
        Custody, KeyPurpose, KeyRecord, Keys as _, OrderRecord, OrderState, VersionRecord,
        sql::SqlStore,
    },
};
use vault_proto::{
    ids::{AgentName, CertificateName},
    v1,
};

use super::{
    records::{
        certificate, challenge, key, name, order, put_account, put_agents, put_order, start,
        version,
    },
    world::{Database, World},
};

promises! {
    challenges_go_to_agents_unless_the_dns_shows_them
    what_is_removed_is_removed_with_its_challenges
}

/// The certificates that things happen to; `web` is in custody `agent`.
const CERTIFICATES: [&str; 3] = ["mail", "shop", "web"];
const AGENTS: [&str; 2] = ["web1", "web2"];

/// A chain that can be parsed; nobody checks it here.
static CHAIN: LazyLock<String> = LazyLock::new(|| {
    let names = vec!["shop.example".to_owned()];
    rcgen::generate_simple_self_signed(names).unwrap().cert.pem()
});

/// What may happen to a certificate.
#[derive(Debug, Clone, Copy)]
enum Change {
    Order,
    Csr,
    Challenges,
    Issue,
    Fail,
    Revoke,
    Challenge(ChallengeKind),
    Deploy(usize),
    Undeploy(usize),
    Delete,
    Declare,
}

fn a_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Order),
        2 => Just(Change::Csr),
        3 => Just(Change::Challenges),
        2 => Just(Change::Issue),
        1 => Just(Change::Fail),
        1 => Just(Change::Revoke),
        1 => prop::sample::select(ChallengeKind::ALL).prop_map(Change::Challenge),
        3 => (0..AGENTS.len()).prop_map(Change::Deploy),
        1 => (0..AGENTS.len()).prop_map(Change::Undeploy),
        1 => Just(Change::Delete),
        1 => Just(Change::Declare),
    ]
}

/// Does it where it can be done; a refusal changes nothing.
async fn happen(store: &SqlStore, declared: &CertificateRecord, change: Change) {
    let name = &declared.name;
    let open = store.open_order(name).await.unwrap();
    let ready = open.clone().filter(|order| order.state == OrderState::Ready);
    let Some(now) = store.certificate(name).await.unwrap() else {
        if matches!(change, Change::Declare) {
            store.insert_certificate(declared, &[]).await.unwrap();
        }
        return;
    };
    match (change, open, ready) {
        (Change::Order, None, _) => {
            let state = match now.custody {
                Custody::Agent => OrderState::AwaitingCsr,
                Custody::Vault => OrderState::Ready,
            };
            let key_id = declared.key_id;
            store.insert_order(&OrderRecord { state, key_id, ..order(&now) }).await.unwrap();
        }
        (Change::Csr, Some(order), None) => {
            store.update_order(&OrderRecord { state: OrderState::Ready, ..order }).await.unwrap();
        }
        (Change::Challenges, _, Some(order)) => {
            let tokens = ["a", "b"].map(|token| format!("{name}-{token}-{}", order.version));
            let challenges = tokens.map(|token| challenge(&order, &token));
            store.put_challenges(&challenges).await.unwrap();
        }
        (Change::Issue, _, Some(order)) => {
            let issued = VersionRecord { chain_pem: CHAIN.clone(), ..version(&order) };
            let renew_at = start() + Duration::days(60);
            store.record_issuance(order.id, &issued, renew_at).await.unwrap();
        }
        (Change::Fail, Some(order), _) => {
            store.fail_order(order.id, "no", 1, start(), start()).await.unwrap();
        }
        (Change::Revoke, ..) if now.current_version > 0 => {
            store.revoke_version(name, now.current_version, "superseded", None).await.unwrap();
        }
        (Change::Challenge(challenge), ..) => {
            let settings = CertificateSettings { challenge, ..now.settings() };
            assert!(store.change_settings(name, &now.settings(), &settings).await.unwrap());
        }
        (Change::Deploy(agent), ..) => {
            store.insert_deployment(name, &agent_name(agent), start()).await.unwrap();
        }
        (Change::Undeploy(agent), ..) => {
            let _ = store.remove_deployment(name, &agent_name(agent)).await;
        }
        (Change::Delete, ..) => {
            let _ = store.delete_certificate(name).await;
        }
        _ => {}
    }
}

fn agent_name(agent: usize) -> AgentName {
    name(AGENTS[agent])
}

async fn declared(store: &SqlStore) -> Vec<CertificateRecord> {
    put_account(store).await;
    put_agents(store, &AGENTS).await;
    let mut all = Vec::new();
    for name in CERTIFICATES {
        let key = KeyRecord { purpose: KeyPurpose::Certificate, ..key(name) };
        store.insert_key(&key, None).await.unwrap();
        let custody = if name == "web" { Custody::Agent } else { Custody::Vault };
        let key_id = (custody == Custody::Vault).then_some(key.id);
        let one = CertificateRecord { custody, key_id, ..certificate(name) };
        store.insert_certificate(&one, &[]).await.unwrap();
        all.push(one);
    }
    all
}

/// What an agent has made of the messages that it got.
#[derive(Debug, Default, PartialEq)]
struct Told {
    certificates: BTreeMap<String, v1::WantedCertificate>,
    challenges: BTreeMap<String, v1::WantedChallenge>,
}

impl Told {
    fn apply(&mut self, message: v1::VaultMessage) {
        if message.full {
            *self = Self::default();
        }
        self.certificates.retain(|name, _| !message.removed_certificates.contains(name));
        self.challenges.retain(|token, _| !message.removed_challenges.contains(token));
        self.certificates
            .extend(message.certificates.into_iter().map(|one| (one.name.clone(), one)));
        self.challenges.extend(message.challenges.into_iter().map(|one| (one.token.clone(), one)));
    }

    fn whole(state: &DesiredState) -> Self {
        let mut told = Self::default();
        told.apply(state.message(None, 1).unwrap());
        told
    }
}

/// One agent's session: what changed since it last looked, what it computed, what it has said.
struct Session {
    agent: AgentName,
    changed: BTreeSet<CertificateName>,
    state: DesiredState,
    told: Told,
}

impl Session {
    async fn look(&mut self, store: &SqlStore) {
        let clock = ManualClock::new(start());
        let view = View { store, clock: &clock, agent: &self.agent, foreign: &[] };
        let changes = Changes::Of(mem::take(&mut self.changed));
        if let Some(message) = self.state.follow(view, &changes, 2).await.unwrap() {
            assert!(!message.full, "the difference alone is sent");
            self.told.apply(message);
        }
        let whole = DesiredState::whole(view).await.unwrap();
        assert_eq!(self.state, whole);
        assert_eq!(self.told, Told::whole(&whole));
        let all = self.state.follow(view, &Changes::All, 3).await.unwrap();
        assert_eq!(all, None, "there is nothing left to say");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn following_changes_one_by_one_or_many_at_once_leads_to_the_whole(
        changes in prop::collection::vec((0..CERTIFICATES.len(), a_change(), any::<bool>()), 1..40)
    ) {
        World::enter(Database::Sqlite, async |world: World| {
            let store = &world.store;
            let declared = declared(store).await;
            let mut sessions = Vec::new();
            for agent in AGENTS {
                let agent = name(agent);
                let (changed, state) = (BTreeSet::new(), DesiredState::default());
                sessions.push(Session { agent, changed, state, told: Told::default() });
            }
            for (at, change, look) in changes {
                happen(store, &declared[at], change).await;
                for session in &mut sessions {
                    session.changed.insert(declared[at].name.clone());
                    if look {
                        session.look(store).await;
                    }
                }
            }
            for session in &mut sessions {
                session.look(store).await;
            }
        });
    }
}

async fn challenges_go_to_agents_unless_the_dns_shows_them(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let agents = put_agents(store, &["web1", "web2"]).await;
    store.insert_deployment(&shop.name, &agents[0], start()).await.unwrap();
    let clock = ManualClock::new(start());
    let tokens = async |agent: &AgentName| {
        let view = View { store, clock: &clock, agent, foreign: &[] };
        let told = Told::whole(&DesiredState::whole(view).await.unwrap());
        told.challenges.into_values().map(|one| (one.token, one.kind)).collect::<Vec<_>>()
    };
    for kind in [ChallengeKind::Http01, ChallengeKind::TlsAlpn01, ChallengeKind::Dns01] {
        let rows = ["one", "two"].map(|token| ChallengeRecord { kind, ..challenge(&order, token) });
        store.put_challenges(&rows).await.unwrap();
        let both = ["one", "two"].map(|token| (token.to_owned(), kind.to_string()));
        let shown = if kind == ChallengeKind::Dns01 { &[][..] } else { &both };
        assert_eq!(tokens(&agents[0]).await, shown);
        assert_eq!(tokens(&agents[1]).await, []);
    }
}

async fn what_is_removed_is_removed_with_its_challenges(world: World) {
    let store = &world.store;
    let (shop, order) = put_order(store).await;
    let agents = put_agents(store, &["web1"]).await;
    store.insert_deployment(&shop.name, &agents[0], start()).await.unwrap();
    let clock = ManualClock::new(start());
    let view = View { store, clock: &clock, agent: &agents[0], foreign: &[] };
    let mut state = DesiredState::whole(view).await.unwrap();
    store.remove_deployment(&shop.name, &agents[0]).await.unwrap();
    let changes = Changes::Of([shop.name.clone()].into());
    let message = state.follow(view, &changes, 7).await.unwrap().unwrap();
    assert_eq!((message.sequence, message.full), (7, false));
    assert_eq!(message.removed_certificates, [shop.name.as_str()]);
    assert_eq!(message.removed_challenges, ["one", "two"]);
    assert_eq!(store.challenges_of(order.id).await.unwrap().len(), 2, "the order goes on");
    assert_eq!(state, DesiredState::default());
    assert_eq!(state.follow(view, &changes, 8).await.unwrap(), None);
}
