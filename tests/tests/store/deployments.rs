//! Where certificates go.

use std::slice;

use time::Duration;
use vault::{
    error::ErrorKind,
    store::{Certificates as _, DeploymentRecord, DeploymentStatus},
};

use super::{
    records::{name, put_account, put_agents, put_certificates, start},
    world::{World, refused},
};

promises! {
    a_deployment_that_is_there_stays_as_it_is
    a_deployment_reads_back_as_it_was_replaced
    a_deployment_needs_its_certificate_and_its_agent
    a_deployment_that_is_not_there_is_neither_changed_nor_ended
    deployments_are_listed_from_either_side
}

async fn put_one(world: &World) -> DeploymentRecord {
    put_account(&world.store).await;
    put_agents(&world.store, &["web1"]).await;
    put_certificates(&world.store, &["shop"]).await;
    world.store.insert_deployment(&name("shop"), &name("web1"), start()).await.unwrap();
    DeploymentRecord {
        certificate: name("shop"),
        agent: name("web1"),
        held_version: 0,
        status: DeploymentStatus::Pending,
        detail: String::new(),
        updated_at: start(),
    }
}

async fn a_deployment_that_is_there_stays_as_it_is(world: World) {
    let store = &world.store;
    let first = put_one(&world).await;
    assert_eq!(store.deployments_of(&first.certificate).await.unwrap(), slice::from_ref(&first));
    let serving = DeploymentRecord {
        held_version: 7,
        status: DeploymentStatus::Serving,
        detail: "seen".to_owned(),
        ..first
    };
    store.update_deployment(&serving).await.unwrap();
    let later = start() + Duration::days(1);
    store.insert_deployment(&serving.certificate, &serving.agent, later).await.unwrap();
    assert_eq!(store.deployments_of(&serving.certificate).await.unwrap(), [serving]);
}

async fn a_deployment_reads_back_as_it_was_replaced(world: World) {
    let first = put_one(&world).await;
    for (version, status) in (1..).zip(DeploymentStatus::ALL) {
        let replaced = DeploymentRecord {
            held_version: version,
            status: *status,
            detail: format!("proven by \"{version}\""),
            updated_at: start() + Duration::microseconds(1),
            ..first.clone()
        };
        world.store.update_deployment(&replaced).await.unwrap();
        let read = world.store.deployments_on(&first.agent).await.unwrap();
        assert_eq!(read, [replaced]);
    }
}

async fn a_deployment_needs_its_certificate_and_its_agent(world: World) {
    let store = &world.store;
    let first = put_one(&world).await;
    for (certificate, agent) in [("shop", "web2"), ("mail", "web1"), ("mail", "web2")] {
        let added = store.insert_deployment(&name(certificate), &name(agent), start()).await;
        refused(ErrorKind::Conflict, added);
    }
    assert_eq!(store.deployments_on(&first.agent).await.unwrap(), [first]);
}

async fn a_deployment_that_is_not_there_is_neither_changed_nor_ended(world: World) {
    let store = &world.store;
    let first = put_one(&world).await;
    let agents = put_agents(store, &["web2"]).await;
    let missing = DeploymentRecord { agent: agents[0].clone(), ..first.clone() };
    refused(ErrorKind::NotFound, store.update_deployment(&missing).await);
    refused(ErrorKind::NotFound, store.remove_deployment(&first.certificate, &agents[0]).await);
    assert_eq!(store.deployments_of(&first.certificate).await.unwrap(), slice::from_ref(&first));
    store.remove_deployment(&first.certificate, &first.agent).await.unwrap();
    assert_eq!(store.deployments_of(&first.certificate).await.unwrap(), []);
    refused(ErrorKind::NotFound, store.remove_deployment(&first.certificate, &first.agent).await);
}

async fn deployments_are_listed_from_either_side(world: World) {
    let store = &world.store;
    put_account(store).await;
    let agents = put_agents(store, &["c", "a", "b"]).await;
    let certificates = put_certificates(store, &["z", "x", "y"]).await;
    for certificate in &certificates {
        for agent in &agents {
            if (certificate.as_str(), agent.as_str()) != ("x", "a") {
                store.insert_deployment(certificate, agent, start()).await.unwrap();
            }
        }
    }
    let on = store.deployments_on(&name("a")).await.unwrap();
    let on: String = on.iter().map(|deployment| deployment.certificate.to_string()).collect();
    assert_eq!(on, "yz");
    let of = store.deployments_of(&name("z")).await.unwrap();
    let of: String = of.iter().map(|deployment| deployment.agent.to_string()).collect();
    assert_eq!(of, "abc");
}
