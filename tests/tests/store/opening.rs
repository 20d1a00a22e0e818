//! Opening a store: its schema, its file, and databases that are not there.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    slice,
};

use testkit::{
    postgres::{PASSWORD, Postgres},
    process::{eventually, free_port},
};
use vault::{
    error::ErrorKind,
    store::{Accounts as _, Agents as _, Keys as _, Settings as _, Store as _, sql::SqlStore},
};

use super::{
    records::{agent, key, put_account},
    world::{Database, World, refused},
};

promises! {
    a_store_is_opened_as_often_as_one_likes
    a_schema_that_is_newer_is_refused_and_left_alone
    a_schema_that_was_changed_is_refused
}

async fn a_store_is_opened_as_often_as_one_likes(world: World) {
    let version = world.store.ping().await.unwrap();
    assert!(version >= 1);
    let account = put_account(&world.store).await;
    for _ in 0..3 {
        let again = world.open().await.unwrap();
        assert_eq!(again.ping().await.unwrap(), version);
        assert_eq!(again.accounts().await.unwrap(), slice::from_ref(&account));
        let backend = match world.database {
            Database::Sqlite => "sqlite",
            Database::Postgres => "postgres",
        };
        assert_eq!(again.backend(), backend);
    }
}

async fn a_schema_that_is_newer_is_refused_and_left_alone(world: World) {
    let newer = world.store.ping().await.unwrap() + 1;
    world
        .sql(&format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT {newer}, 'newer', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1"
        ))
        .await;
    world.sql("ALTER TABLE settings ADD COLUMN newer TEXT").await;
    let error = refused(ErrorKind::Conflict, world.open().await);
    assert!(error.why.contains(&format!("version {newer}")), "{error}");
    assert!(error.hint.contains("newer vaultd"), "{error:?}");
    world.sql("UPDATE settings SET newer = NULL").await;
}

async fn a_schema_that_was_changed_is_refused(world: World) {
    world.store.insert_key(&key("k"), None).await.unwrap();
    world.sql("UPDATE _sqlx_migrations SET checksum = (SELECT spki FROM keys)").await;
    refused(ErrorKind::Conflict, world.open().await);
}

#[tokio::test]
async fn a_url_of_another_kind_is_refused() {
    for url in ["", "vault.db", "mysql://localhost/vault", "sqlite3:vault.db", "file:vault.db"] {
        let error = refused(ErrorKind::Invalid, SqlStore::open(url, 1).await);
        assert!(error.hint.contains("sqlite:PATH"), "{error:?}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("file").permissions().mode() & 0o777
}

#[tokio::test]
async fn nobody_else_can_read_a_sqlite_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vault.db");
    // As somebody may have left it behind.
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let store = SqlStore::open(&format!("sqlite:{}", file.display()), 2).await.unwrap();
    store.put_settings(&[("a", "1")]).await.unwrap();
    let mut seen = Vec::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        seen.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert!(seen.contains(&"vault.db-wal".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn a_sqlite_store_s_path_may_have_any_characters() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["plain.db", "with space.db", "per%20cent.db", "a?mode=memory", "a#b", "größe.db"]
    {
        let file = dir.path().join(name);
        let url = format!("sqlite:{}", file.display());
        let store = SqlStore::open(&url, 1).await.unwrap();
        store.put_settings(&[("name", name)]).await.unwrap();
        drop(store);
        // SQLite's first bytes: it is this file and no other that has the content.
        assert!(fs::read(&file).unwrap().starts_with(b"SQLite format 3\0"), "{name}");
        let again = SqlStore::open(&url, 1).await.unwrap();
        assert_eq!(again.setting("name").await.unwrap().as_deref(), Some(name));
    }
}

#[tokio::test]
async fn a_sqlite_store_that_cannot_be_opened_is_unavailable_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = dir.path().join("garbage");
    fs::write(&garbage, "this is no database, and long enough to be none".repeat(100)).unwrap();
    symlink(dir.path().join("nowhere/vault.db"), dir.path().join("dangling")).unwrap();
    for name in [".", "missing/vault.db", "garbage/vault.db", "garbage", "dangling"] {
        let url = format!("sqlite:{}", dir.path().join(name).display());
        let error = refused(ErrorKind::Unavailable, SqlStore::open(&url, 1).await);
        assert!(!error.hint.is_empty(), "{name}: {error:?}");
    }
    assert!(fs::read(&garbage).unwrap().starts_with(b"this is no database"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing was made");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable() {
    let server = Postgres::shared();
    let there = server.database();
    let (base, _) = there.rsplit_once('/').unwrap();
    let wrong_password = there.replace(PASSWORD, "a-wrong-password");
    let urls = [
        format!("postgres://vault:secret-word@127.0.0.1:{}/vault", free_port()),
        format!("{base}/missing"),
        wrong_password,
    ];
    for url in urls {
        let error = refused(ErrorKind::Unavailable, SqlStore::open(&url, 1).await);
        let said = format!("{error:?}");
        assert!(!error.hint.is_empty(), "{said}");
        for secret in ["secret-word", PASSWORD, "a-wrong-password"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn a_database_that_comes_back_serves_again() {
    let mut server = Postgres::start();
    let url = server.database();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(SqlStore::open(&url, 4)).unwrap();
    let put = |name: &str| runtime.block_on(store.put_agent(&agent(name)));
    put("before").unwrap();
    server.stop();
    let reads = [
        runtime.block_on(store.agents()).map(drop),
        runtime.block_on(store.ping()).map(drop),
        put("meanwhile"),
        runtime.block_on(store.put_settings(&[("a", "1")])),
        runtime.block_on(store.insert_key(&key("k"), None)),
    ];
    for read in reads {
        let error = refused(ErrorKind::Unavailable, read);
        assert!(error.hint.contains("database"), "{error:?}");
    }
    server.restart();
    eventually("the store serves again", || put("after").ok());
    let agents = runtime.block_on(store.agents()).unwrap();
    let names: Vec<_> = agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["after", "before"]);
}

#[test]
fn vaults_that_start_at_once_on_an_empty_database_make_one_schema() {
    let server = Postgres::shared();
    let url = server.database();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = || {
        let url = url.clone();
        runtime.spawn(async move { SqlStore::open(&url, 2).await })
    };
    let starts: Vec<_> = (0..4).map(|_| start()).collect();
    for one in starts {
        let store = runtime.block_on(one).unwrap().unwrap();
        assert_eq!(runtime.block_on(store.setting("none")).unwrap(), None);
    }
}
