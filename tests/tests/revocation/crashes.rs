//! A vault that dies while it takes in that a certificate is revoked.

use testkit::nginx::Nginx;
use testkit::world::{CERTIFICATE, Install};

use super::world::{By, World, serial};

#[test]
fn a_revocation_is_taken_in_once_wherever_the_vault_dies() {
    let install = |nginx: &Nginx| Install::file(CERTIFICATE, nginx.file("shop.pem"));
    let mut world = World::with(By::Crl, "", install);
    world.revoker.publish_crl(&world.crl());
    let mut last = world.issue("vault", &[]);
    for (version, point) in [(1, "revocation.alerted"), (2, "revocation.recorded")] {
        world.wait_found("good");
        world.vault.kill();
        world.vault.environment = vec![("FAILPOINTS".to_owned(), format!("{point}=return"))];
        world.vault.start();
        world.revoker.revokes(serial(&last), "superseded");
        world.revoker.publish_crl(&world.crl());
        let status = world.vault.process().wait_exit();
        assert!(!status.success(), "{point}: the vault did not crash");
        world.vault.environment.clear();
        world.vault.start();
        last = world.wait_replaced(version);
        assert_eq!(last["version"], version + 1, "{point}: one successor");
        world.wait_over("revoked");
    }
    let count = |action: &str| {
        let records = world.vault.audit();
        records.iter().filter(|record| record["action"] == action).count()
    };
    assert_eq!((count("alert.raise"), count("alert.clear")), (2, 2));
    let history = world.vault.json(&["cert", "history", CERTIFICATE]);
    let revoked = history.as_array().unwrap().iter().filter(|v| v["revoked"] == "superseded");
    assert_eq!(revoked.count(), 2, "{history}");
    world.vault.ok(&["audit", "verify"]);
}
