//! The admin socket, and what a vault serves before it is initialised.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use testkit::{
    grpc::{self, call, methods},
    vault::Vault,
};
use tonic::Code;
use vault_proto::error::{ErrorDetail, ErrorKind};

/// The calls that an uninitialised vault answers.
const BEFORE_INIT: &[&str] = &[
    "/keyvault.v1.SystemService/Init",
    "/keyvault.v1.SystemService/Status",
    "/keyvault.v1.RestoreService/Restore",
];

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

#[tokio::test]
async fn a_vault_that_is_not_initialised_serves_init_restore_and_status_alone_and_no_network() {
    let mut vault = Vault::new();
    vault.start();
    assert!(TcpStream::connect(vault.address).is_err(), "it listens on the network");
    let channel = grpc::local(&vault.file("admin.sock")).await.unwrap();
    for path in methods().iter().filter(|path| !BEFORE_INIT.contains(&path.as_str())) {
        let status = call(&channel, path).await.expect_err(path);
        let detail = ErrorDetail::from_status(&status);
        match detail.kind() {
            ErrorKind::Unavailable => assert!(detail.hint.contains("vaultctl init"), "{detail:?}"),
            // On the socket nobody is an agent that could enrol.
            kind => assert_eq!((kind, path.ends_with("/Enroll")), (ErrorKind::Denied, true)),
        }
    }
    call(&channel, "/keyvault.v1.SystemService/Status").await.unwrap();
    let status = vault.json(&["status"]);
    assert_eq!(status["initialized"], false);
    assert_eq!(fs::read_dir(vault.file("tokens")).unwrap().count(), 0, "the token was touched");

    vault.ok(&["init"]);
    assert!(TcpStream::connect(vault.address).is_ok(), "it does not listen on the network");
    let again = call(&channel, BEFORE_INIT[0]).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again:?}");
}

#[test]
fn the_admin_socket_is_its_owner_s_alone_and_goes_with_the_vault() {
    let mut vault = Vault::initialized();
    let socket = vault.file("admin.sock");
    let meta = fs::symlink_metadata(&socket).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    vault.stop();
    assert!(!socket.exists(), "a socket is left");
}

#[test]
fn a_stale_admin_socket_is_replaced_and_anything_else_there_is_not() {
    let mut vault = Vault::initialized();
    let socket = vault.file("admin.sock");
    vault.kill();
    assert!(is_socket(&socket), "the test's own premise");
    vault.start();
    vault.ok(&["status"]);
    vault.stop();

    fs::write(&socket, "somebody's file").unwrap();
    vault.run_daemon().refused(1, "it is there and is no socket");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "somebody's file");
    fs::remove_file(&socket).unwrap();
    let elsewhere = vault.file("elsewhere");
    fs::write(&elsewhere, "somebody's file").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &socket).unwrap();
    vault.run_daemon().refused(1, "it is there and is no socket");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "somebody's file");
}
