//! Which shares open which backup.

use testkit::{
    custodians::{Custodian, Kept, custodians, quorum_flags, share_flags},
    programs::Ended,
    vault::Vault,
};

use super::scene::words;

fn backup(vault: &Vault, holder: &Custodian, name: &str) -> String {
    let out = vault.path(name);
    vault.ok(&["backup", "create", "--out", &out, "--recipient", &holder.recipient]);
    out
}

fn verify(vault: &Vault, file: &str, holder: &Custodian, shares: &[String]) -> Ended {
    let identity = holder.identity.display().to_string();
    vault.ctl(&words(&["backup", "verify", file, "--identity", &identity], shares))
}

#[test]
fn the_next_backup_is_under_the_new_kek_and_an_earlier_one_opens_with_the_old_shares() {
    let kept = Kept::new();
    let vault = &kept.vault;
    vault.ok(&["key", "generate", "k", "--algorithm", "ec-p256", "--escrow", "wrapped"]);
    let holder = Custodian::new(vault.dir(), "holder");
    let earlier = backup(vault, &holder, "earlier.age");
    let newcomers = custodians(vault.dir(), &["legal", "board"]);
    let dir = vault.file("shares-2");
    let flags = quorum_flags(&newcomers, 2, &dir);
    vault.ok(&words(&["kek", "rotate", "--yes"], &flags));
    let later = backup(vault, &holder, "later.age");
    let old = share_flags(&kept.keepers[..2], &kept.shares());
    let new = share_flags(&newcomers, &dir);
    for (file, right, wrong) in [(&earlier, &old, &new), (&later, &new, &old)] {
        let done = verify(vault, file, &holder, right);
        assert_eq!(done.code, 0, "{done:?}");
        verify(vault, file, &holder, wrong).refused(7, "the shares are of KEK");
    }
}

#[test]
fn new_shares_of_the_same_kek_open_every_backup_under_it() {
    let kept = Kept::new();
    let vault = &kept.vault;
    let holder = Custodian::new(vault.dir(), "holder");
    let earlier = backup(vault, &holder, "earlier.age");
    let newcomers = custodians(vault.dir(), &["legal", "board"]);
    let dir = vault.file("shares-2");
    let mut args = vec!["kek".to_owned(), "reshare".to_owned(), "--yes".to_owned()];
    args.extend(share_flags(&kept.keepers[1..], &kept.shares()));
    args.extend(quorum_flags(&newcomers, 2, &dir));
    vault.ok(&words(&[], &args));
    let later = backup(vault, &holder, "later.age");
    for file in [&earlier, &later] {
        for shares in [share_flags(&newcomers, &dir), share_flags(&kept.keepers, &kept.shares())] {
            let done = verify(vault, file, &holder, &shares);
            assert_eq!(done.code, 0, "{done:?}");
        }
    }
}
