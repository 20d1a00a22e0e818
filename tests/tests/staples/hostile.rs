//! A vault that was taken over gets nothing stapled that the CA has not said.

use std::{fs, net::SocketAddr};

use testkit::{
    agent::Agent,
    fake_vault::FakeVault,
    nginx::Nginx,
    process::{eventually, free_port},
    world::{AGENT, CERTIFICATE, SITE, webroot},
};
use vault_proto::v1;

use super::world::stapled;

#[test]
fn a_staple_that_does_not_verify_is_refused_and_nothing_else_is() {
    let vault = FakeVault::start();
    let nginx = Nginx::start(SITE, SocketAddr::from(([127, 0, 0, 1], free_port())));
    let config = format!("{}{}", stapled(&nginx).toml(), webroot(&nginx));
    let mut agent = Agent::at(vault.address, &config);
    let ended = agent.enroll_with(AGENT, &vault.fingerprint);
    assert_eq!(ended.code, 0, "{ended:?}");
    agent.start();
    agent.wait_log("connected");
    let want = |version, chain_pem, ocsp_response: &[u8], csr_wanted| {
        let certificate = v1::WantedCertificate {
            name: CERTIFICATE.to_owned(),
            custody: v1::Custody::Agent.into(),
            version,
            chain_pem,
            ocsp_response: ocsp_response.to_vec(),
            csr_wanted,
            ..Default::default()
        };
        vault.say(v1::VaultMessage { certificates: vec![certificate], ..Default::default() });
    };
    let order = v1::CsrWanted {
        order_id: "order".to_owned(),
        algorithm: v1::KeyAlgorithm::EcP256.into(),
        domains: vec![SITE.to_owned()],
        ..Default::default()
    };
    want(0, String::new(), b"", Some(order));
    let csr = eventually("the CSR", || vault.csrs().pop().map(|csr| csr.csr_der));
    let file = nginx.file("staple.der");
    fs::write(&file, "what was there").unwrap();
    let chain = vault.chain(SITE, &csr);
    for garbage in [&b"garbage"[..], &[0x30, 0x03, 0x0a, 0x01, 0x00], &[0xff; 70_000]] {
        want(1, chain.clone(), garbage, None);
        eventually("the chain is served", || {
            let reports = vault.reports();
            reports.iter().any(|r| r.outcome() == v1::Outcome::Serving).then_some(())
        });
        agent.wait_log("staple refused");
        assert_eq!(fs::read_to_string(&file).unwrap(), "what was there");
    }
}
