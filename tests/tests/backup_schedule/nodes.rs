//! Several nodes of one vault make one backup.

use std::fs;

use testkit::{
    postgres::Postgres,
    process::eventually,
    scheduled::{Scheduled, list, name, wait_kept},
    vault::Vault,
};

/// A second node of a vault on PostgreSQL: the same token and store, sockets and log of its own.
fn another_node(first: &Vault) -> Vault {
    let mut second = Vault::new();
    let mut config = first.config.clone();
    let listen = |vault: &Vault| format!("address = \"{}\"", vault.address);
    for (from, to) in [
        (listen(first), listen(&second)),
        (first.path("admin.sock"), second.path("admin.sock")),
        (first.path("audit.log"), second.path("audit.log")),
    ] {
        assert!(config.contains(&from), "{from}");
        config = config.replace(&from, &to);
    }
    second.config = config;
    second
}

fn on_postgres(server: &Postgres, more: &str) -> Scheduled {
    let mut vault = Vault::new();
    let sqlite = format!("sqlite:{}", vault.path("vault.db"));
    vault.reconfigure(&sqlite, &server.database());
    Scheduled::on(vault, |vault| {
        let directory = vault.file("backups");
        fs::create_dir_all(&directory).unwrap();
        format!("directory = {directory:?}\n{more}\n")
    })
}

#[test]
fn two_nodes_make_each_backup_once() {
    let server = Postgres::shared();
    let scheduled = on_postgres(&server, "every = \"2s\"");
    let mut second = another_node(scheduled.vault());
    second.start();
    let made = scheduled.wait_kept(5);
    let there = list(&second);
    assert!(made.iter().all(|backup| there.contains(backup)), "both know of all");
    // None was made before it was due: not while the other node made it, nor right after.
    let times: Vec<_> = made.iter().map(name).collect();
    let began = |name: &str| {
        let format = time::macros::format_description!(
            "[year][month][day]T[hour][minute][second].[subsecond digits:6]Z.age"
        );
        let at = &name[name.len() - "20260101T000000.000000Z.age".len()..];
        time::PrimitiveDateTime::parse(at, format).unwrap()
    };
    for two in times.windows(2) {
        assert!(began(&two[0]) - began(&two[1]) >= time::Duration::seconds(2), "{times:?}");
    }
}

#[test]
fn a_node_that_dies_in_the_middle_leaves_the_work_to_the_other() {
    let server = Postgres::shared();
    let mut scheduled = on_postgres(&server, "");
    let vault = scheduled.vault_mut();
    vault.stop();
    vault.environment = vec![("FAILPOINTS".to_owned(), "store.begun=return".to_owned())];
    vault.start();
    vault.ctl(&["backup", "run"]).refused(6, "");
    assert!(!vault.process().wait_exit().success());
    let partial = |files: &[String]| files.iter().any(|name| name.starts_with('.'));
    assert!(partial(&scheduled.files()));
    let mut second = another_node(scheduled.vault());
    second.start();
    let made = eventually("the other node makes one", || {
        let made = second.ctl(&["-o", "json", "backup", "run"]);
        (made.code == 0).then(|| made.json())
    });
    assert_eq!(made["state"], "kept");
    assert_eq!(wait_kept(&second, 2).len(), 2);
    assert!(!partial(&scheduled.files()), "what the dead node has left is gone");
}
