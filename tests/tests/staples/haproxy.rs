//! HAProxy, which takes `FILE.ocsp` beside its certificate's file.

use testkit::{haproxy::Haproxy, world::Install};

use super::world::{World, about, wait_stapled};

#[test]
fn haproxy_staples_what_lies_beside_its_certificate() {
    let haproxy = Haproxy::start_with(Vec::new());
    let staple = haproxy.file("chain.pem.ocsp");
    // It takes none whose end is less than five minutes away.
    let world = World::lasting(60, |_| Install {
        certificate: "shop".to_owned(),
        chain: haproxy.file("chain.pem"),
        key: Some(haproxy.file("chain.pem.key")),
        test: Some(haproxy.test_command()),
        reload: Some(haproxy.reload_command()),
        check: Some((haproxy.https, "15s".to_owned())),
        more: format!("staple = {staple:?}\n"),
    });
    let first = world.issue();
    let serial = first["serial"].as_str().unwrap();
    world.revoker.knows(serial);
    world.wait_held(1);
    assert_eq!(about(&staple), serial.to_uppercase());
    wait_stapled(haproxy.https);
}
