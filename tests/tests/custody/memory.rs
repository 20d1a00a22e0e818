//! Where the KEK may be in the clear, and where it may not.

use std::fs;

use testkit::{
    custodians::{custodians, quorum_flags},
    vault::Vault,
};

use super::scene::{in_force, words};

/// A namespace of the test's own, whose root has no right to lock more than it is allowed to.
const NO_LOCKED_MEMORY: [&str; 5] =
    ["unshare", "--user", "--map-root-user", "prlimit", "--memlock=0:0"];

#[test]
fn a_ceremony_is_refused_where_memory_cannot_be_locked() {
    let mut vault = Vault::new();
    vault.through = NO_LOCKED_MEMORY.map(str::to_owned).into();
    vault.start();
    let keepers = custodians(vault.dir(), &["ops", "security"]);
    let flags = quorum_flags(&keepers, 2, &vault.file("shares"));
    let init = words(&["init"], &flags);
    vault.ctl(&init).refused(6, "lock failed on memory for the KEK");
    assert_eq!(vault.json(&["status"])["initialized"], false);
    assert_eq!(fs::read_dir(vault.file("shares")).unwrap().count(), 0, "shares of no KEK");
    vault.stop();
    vault.through.clear();
    vault.start();
    vault.ok(&init);
    let old = in_force(&vault);
    vault.stop();
    vault.through = NO_LOCKED_MEMORY.map(str::to_owned).into();
    vault.start();
    let flags = quorum_flags(&keepers, 2, &vault.file("shares-2"));
    let rotate = words(&["kek", "rotate", "--yes"], &flags);
    vault.ctl(&rotate).refused(6, "lock failed on memory for the KEK");
    assert_eq!(in_force(&vault), old);
    // Everything else goes on: no key of its work is ever in the clear.
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256", "--escrow", "wrapped"]);
}
