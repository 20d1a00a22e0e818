//! What is shown of certificates and of agents is what its parts say, however many are read at once.

use time::Duration;
use vault::store::{
    AgentSummaries as _, AgentSummary, Agents as _, CertificateView, CertificateViews as _,
    Certificates as _, Placements as _, RenewalInfoRecord, RenewalInfos as _, RevocationCheck,
    RevocationStatus, Revocations as _, Rollouts as _, Staple, VersionRecord, sql::SqlStore,
};
use vault_proto::ids::{AgentName, CertificateName};

use super::{
    records::{issue_next, name, order, put_account, put_agents, put_certificates, start},
    world::World,
};

promises! {
    what_is_shown_is_what_the_parts_say
    what_was_said_of_another_version_is_not_shown
    a_fleet_is_read_as_each_of_its_certificates_is
    an_agent_is_shown_with_its_windows_and_what_goes_to_it
}

/// Keeps something of each kind that is kept of a version.
async fn watch(store: &SqlStore, version: &VersionRecord) {
    let (certificate, version) = (version.certificate.clone(), version.version);
    let info = RenewalInfoRecord {
        certificate: certificate.clone(),
        version,
        window: Some((start() + Duration::days(40), start() + Duration::days(41))),
        explanation_url: Some("https://ca.example/why".parse().unwrap()),
        selected_at: Some(start() + Duration::days(40)),
        checked_at: Some(start()),
        next_check_at: start() + Duration::hours(6),
        failures: 2,
        replaces_refused: true,
    };
    assert!(store.keep_renewal_info(&info, None, start()).await.unwrap());
    let check = RevocationCheck {
        certificate: certificate.clone(),
        version,
        status: RevocationStatus::Unknown,
        source: String::new(),
        detail: "nobody answers".to_owned(),
        checked_at: start(),
        unknown_since: Some(start() - Duration::hours(1)),
        next_at: start() + Duration::hours(1),
    };
    store.put_revocation_check(&check).await.unwrap();
    let staple = Staple {
        certificate,
        version,
        response: vec![1],
        this_update: start(),
        next_update: start() + Duration::days(4),
        fetched_at: start(),
    };
    store.put_staple(&staple).await.unwrap();
}

/// `shop` on two agents, the first of which is its canary.
async fn put_shop(store: &SqlStore) -> (CertificateName, Vec<AgentName>) {
    put_account(store).await;
    let shop = put_certificates(store, &["shop"]).await.remove(0);
    let agents = put_agents(store, &["web1", "web2"]).await;
    for agent in agents.iter().rev() {
        store.insert_deployment(&shop, agent, start()).await.unwrap();
    }
    assert!(store.set_canary(&shop, Some(&agents[0])).await.unwrap());
    (shop, agents)
}

async fn shown(store: &SqlStore, certificate: &CertificateName) -> CertificateView {
    store.certificate_view(certificate).await.unwrap().unwrap()
}

async fn what_is_shown_is_what_the_parts_say(world: World) {
    let store = &world.store;
    assert_eq!(store.certificate_view(&name("shop")).await.unwrap(), None);
    let (shop, agents) = put_shop(store).await;
    let declared = CertificateView {
        certificate: store.certificate(&shop).await.unwrap().unwrap(),
        order: None,
        version: None,
        renewal_info: None,
        check: None,
        staple_next_update: None,
        rolled_out: None,
        deployments: store.deployments_of(&shop).await.unwrap(),
        canary: Some(agents[0].clone()),
    };
    assert_eq!(declared.deployments.len(), 2);
    assert_eq!(shown(store, &shop).await, declared);
    issue_next(store, &shop).await;
    let second = issue_next(store, &shop).await;
    watch(store, &second).await;
    let open = order(&store.certificate(&shop).await.unwrap().unwrap());
    store.insert_order(&open).await.unwrap();
    let all = shown(store, &shop).await;
    assert_eq!(Some(&all.certificate), store.certificate(&shop).await.unwrap().as_ref());
    assert_eq!(all.order, Some(open.state));
    assert_eq!(all.version, store.version(&shop, 2).await.unwrap());
    assert_eq!(all.version.unwrap().serial, second.serial);
    assert_eq!(all.renewal_info, store.renewal_info(&shop).await.unwrap());
    assert!(all.renewal_info.unwrap().replaces_refused);
    assert_eq!(all.check, store.revocation_check(&shop, 2).await.unwrap());
    assert_eq!(all.check.unwrap().status, RevocationStatus::Unknown);
    assert_eq!(all.staple_next_update, Some(start() + Duration::days(4)));
    assert_eq!(all.deployments, store.deployments_of(&shop).await.unwrap());
    let rolled_out = all.rolled_out.unwrap();
    assert_eq!(Some(&rolled_out.rollout), store.rollout(&shop).await.unwrap().as_ref());
    assert!(agents.iter().all(|agent| rolled_out.wanted_version(agent) == 1));
    store.fail_order(open.id, "no", 1, start(), start()).await.unwrap();
    assert_eq!(shown(store, &shop).await.order, None);
}

async fn what_was_said_of_another_version_is_not_shown(world: World) {
    let store = &world.store;
    let (shop, _) = put_shop(store).await;
    let first = issue_next(store, &shop).await;
    watch(store, &first).await;
    assert!(shown(store, &shop).await.check.is_some());
    let second = issue_next(store, &shop).await;
    let view = shown(store, &shop).await;
    assert_eq!(view.version.map(|version| version.version), Some(second.version));
    assert_eq!((view.renewal_info, view.check, view.staple_next_update), (None, None, None));
    assert!(store.renewal_info(&shop).await.unwrap().is_some(), "it is still kept");
}

async fn a_fleet_is_read_as_each_of_its_certificates_is(world: World) {
    let store = &world.store;
    let some = async |after: Option<&CertificateName>, limit| {
        store.certificate_views(after, limit).await.unwrap()
    };
    assert_eq!(some(None, 9).await, []);
    let (shop, agents) = put_shop(store).await;
    let others = put_certificates(store, &["api", "web"]).await;
    store.insert_deployment(&others[1], &agents[1], start()).await.unwrap();
    issue_next(store, &shop).await;
    let second = issue_next(store, &shop).await;
    watch(store, &second).await;
    let first = issue_next(store, &others[1]).await;
    watch(store, &first).await;
    let mut each = Vec::new();
    for name in [&others[0], &shop, &others[1]] {
        each.push(shown(store, name).await);
    }
    assert_eq!(some(None, 9).await, each);
    assert_eq!(some(None, 2).await, each[..2]);
    assert_eq!(some(Some(&others[0]), 1).await, each[1..2]);
    assert_eq!(some(Some(&shop), 9).await, each[2..]);
    assert_eq!(some(Some(&others[1]), 9).await, []);
}

async fn an_agent_is_shown_with_its_windows_and_what_goes_to_it(world: World) {
    let store = &world.store;
    assert_eq!(store.agent_summaries().await.unwrap(), []);
    let (shop, agents) = put_shop(store).await;
    let others = put_certificates(store, &["api", "web"]).await;
    store.insert_deployment(&others[1], &agents[0], start()).await.unwrap();
    store.insert_deployment(&others[0], &agents[0], start()).await.unwrap();
    let agents = [&agents[..], &put_agents(store, &["web3"]).await].concat();
    let windows = vec!["Sat 02:00-04:00".parse().unwrap(), "daily 01:00-01:30".parse().unwrap()];
    store.set_agent_windows(&agents[1], &windows).await.unwrap();
    let certificates =
        [vec![others[0].clone(), shop.clone(), others[1].clone()], vec![shop], vec![]];
    let mut each = Vec::new();
    for (agent, certificates) in agents.iter().zip(certificates) {
        let windows = if *agent == agents[1] { windows.clone() } else { Vec::new() };
        let agent = store.agent(agent).await.unwrap().unwrap();
        let summary = AgentSummary { agent, windows, certificates };
        assert_eq!(
            store.agent_summary(&summary.agent.name).await.unwrap().as_ref(),
            Some(&summary)
        );
        each.push(summary);
    }
    assert_eq!(store.agent_summaries().await.unwrap(), each);
    assert_eq!(store.agent_summary(&name("missing")).await.unwrap(), None);
}
