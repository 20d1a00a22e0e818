//! Whom the vault takes for a CA, and how long it lets itself be kept.

use rcgen::CertificateParams;
use testkit::{
    fault_ca::{Answer, Fault, FaultCa, Place},
    process::free_port,
};

use super::world::{ACCOUNT, World};

#[test]
fn a_ca_with_another_tls_certificate_is_told_nothing() {
    let world = World::bare();
    let before = world.made();
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let ended = {
        let mut params = named("127.0.0.1");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        params
    };
    for (params, why) in [(named("elsewhere.example"), "not valid for name"), (ended, "expired")] {
        let ca = FaultCa::with_certificate(&world.pebble, params);
        world.register_at(&ca, &["--agree-tos"]).refused(6, why).refused(6, "--ca-root");
        assert!(ca.all_seen().is_empty(), "{why}: {:?}", ca.all_seen());
    }
    // A good certificate of a root that was not named.
    let (directory, root) = (world.ca.directory(), world.pebble.root().display().to_string());
    let args = ["account", "register", ACCOUNT, "--agree-tos", "--directory", &directory];
    for root in [&["--ca-root", &root][..], &[]] {
        let ended = world.vault.ctl(&[&args[..], root].concat());
        ended.refused(6, "certificate").refused(6, "--ca-root");
    }
    assert!(world.ca.all_seen().is_empty(), "{:?}", world.ca.all_seen());
    assert_eq!(world.made(), before);
}

#[test]
fn a_ca_that_is_not_there_is_said_to_be_away() {
    let world = World::bare();
    let before = world.made();
    let directory = format!("https://127.0.0.1:{}/dir", free_port());
    let root = world.pebble.root().display().to_string();
    let args = ["account", "register", ACCOUNT, "--agree-tos", "--directory", &directory];
    let ended = world.vault.ctl(&[&args[..], &["--ca-root", &root]].concat());
    ended.refused(6, "onnect").refused(6, "check that the CA runs");
    assert_eq!(world.made(), before);
}

#[test]
fn a_redirect_is_not_followed() {
    let world = World::bare();
    let before = world.made();
    let elsewhere = FaultCa::before(&world.pebble);
    for place in [Place::Directory, Place::Nonce] {
        let target = elsewhere.directory();
        let targets = [target.clone(), target.replace("https:", "http:")];
        for (status, target) in [301, 302, 307, 308].into_iter().zip(targets.iter().cycle()) {
            let answer = Answer::html(status).header("location", target);
            world.ca.fail(place, Fault::Answer(answer));
            let ended = world.register(&["--agree-tos"]);
            ended.refused(6, &status.to_string());
            world.ca.heal();
        }
    }
    assert!(elsewhere.all_seen().is_empty(), "{:?}", elsewhere.all_seen());
    // It is not known of newNonce that nothing comes of it, so the account is still to be had.
    let ended = world.register(&["--agree-tos"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_ne!(world.made(), before);
}

#[test]
fn a_ca_that_takes_no_nonce_is_given_up_in_time() {
    let world = World::bare();
    let refusal = Answer::problem(400, "badNonce", "never seen it").header("replay-nonce", "again");
    world.ca.fail(Place::NewAccount, Fault::Answer(refusal));
    world.register(&["--agree-tos"]).refused(6, "badNonce");
    let asked = world.ca.seen(Place::NewAccount).len();
    assert!((2..=50).contains(&asked), "it was asked {asked} times");
    world.ca.heal();
    assert_eq!(world.register(&["--agree-tos"]).code, 0);
}
