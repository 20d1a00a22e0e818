//! The one connection that writes an SQLite file. SQLite lets one transaction write at a time and syncs
//! the file for each, so those who write at once share a transaction: each has its turn in it, behind a
//! savepoint where it makes several statements, and hears that it is durable when all of it is. Whoever
//! comes while it is being synced is in the next one.
//!
//! The failure of one's statement is undone for it alone. Where the transaction as a whole fails, all who
//! were in it are told so. SQLite gives up a transaction by itself where a disk is full or fails; nobody
//! is taken for durable then, since the outermost savepoint is gone and cannot be released.

use std::sync::{Arc, Weak};

use sqlx::{AnyConnection, Error, Executor as _, SqlSafeStr as _};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};

use super::{PATIENCE, connect};

/// Opens a transaction, with the savepoint of its first turn: one way to the database's thread.
const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT shared; SAVEPOINT turn1";
/// That savepoint's number.
const FIRST: u32 = 1;

/// What became of a transaction; nothing before it has ended.
type Outcome = Option<Result<(), Arc<str>>>;

/// Those who write one file in this process.
pub(in super::super) struct Group {
    writer: Arc<Mutex<Writer>>,
    /// Told that somebody's turn is over.
    over: Arc<Notify>,
}

/// The connection, and how its transaction is.
struct Writer {
    url: String,
    connection: AnyConnection,
    transaction: State,
}

enum State {
    /// There is none.
    None,
    /// There may be one that is of no use: it has failed, or was given up while it began or ended.
    Unsure,
    Open(Shared),
}

/// A transaction that is open.
struct Shared {
    outcome: watch::Sender<Outcome>,
    /// The last savepoint's number.
    savepoint: u32,
    /// Whether what stands behind it shall not count.
    unkept: bool,
}

/// The right to write, one after the other.
pub(in super::super) struct Turn {
    writer: OwnedMutexGuard<Writer>,
    over: Arc<Notify>,
}

impl Group {
    /// Opens the file.
    pub(super) async fn open(url: &str) -> Result<Arc<Self>, Error> {
        let connection = connect(url).await?;
        let writer = Writer { url: url.to_owned(), connection, transaction: State::None };
        let over = Arc::<Notify>::default();
        let group = Arc::new(Self { writer: Arc::new(Mutex::new(writer)), over: over.clone() });
        tokio::spawn(commit(Arc::downgrade(&group), over));
        Ok(group)
    }

    /// Waits for one's turn to make a single statement, which leaves nothing behind where it fails.
    pub(super) async fn enter(group: &Arc<Self>) -> Result<Turn, Error> {
        let mut turn = group.turn().await?;
        turn.writer.prepare(false).await?;
        Ok(turn)
    }

    /// Waits for one's turn to make several statements, all or none of which shall count.
    pub(super) async fn begin(group: &Arc<Self>) -> Result<Turn, Error> {
        let mut turn = group.turn().await?;
        turn.writer.prepare(true).await?;
        Ok(turn)
    }

    async fn turn(&self) -> Result<Turn, Error> {
        // Whoever waits longest is next: those who commit get their turn, too.
        let writer = tokio::time::timeout(PATIENCE, self.writer.clone().lock_owned()).await;
        let writer = writer.map_err(|_| Error::PoolTimedOut)?;
        Ok(Turn { writer, over: self.over.clone() })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever commits sees that it is gone.
        self.over.notify_one();
    }
}

/// Commits what was written, for as long as there is somebody to write.
async fn commit(group: Weak<Group>, over: Arc<Notify>) {
    loop {
        over.notified().await;
        let Some(group) = group.upgrade() else { return };
        group.writer.lock().await.commit().await;
    }
}

impl Turn {
    pub(super) fn connection(&self) -> &AnyConnection {
        &self.writer.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut AnyConnection {
        &mut self.writer.connection
    }

    /// Ends it; waits until what it has written is durable.
    pub(super) async fn keep(mut self) -> Result<(), Error> {
        let State::Open(shared) = &mut self.writer.transaction else {
            return Err(failed("it is gone"));
        };
        shared.unkept = false;
        let mut outcome = shared.outcome.subscribe();
        drop(self);
        let ended = outcome.wait_for(Option::is_some).await;
        match ended.as_deref() {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(why))) => Err(failed(why)),
            Ok(None) | Err(_) => Err(failed("the vault stops")),
        }
    }
}

fn failed(why: &str) -> Error {
    Error::Io(std::io::Error::other(format!("the transaction failed: {why}")))
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

impl Writer {
    /// Sees to it that there is a transaction, and a savepoint where that is asked for. Each step says
    /// before it begins what is to be undone where it is given up.
    async fn prepare(&mut self, savepoint: bool) -> Result<(), Error> {
        self.undo().await;
        if !matches!(self.transaction, State::Open(_)) {
            self.reset().await;
            self.transaction = State::Unsure;
            self.execute(BEGIN.to_owned()).await?;
            let outcome = watch::Sender::new(None);
            let shared = Shared { outcome, savepoint: FIRST, unkept: savepoint };
            self.transaction = State::Open(shared);
            return Ok(());
        }
        let State::Open(shared) = &mut self.transaction else { return Ok(()) };
        if !savepoint {
            return Ok(());
        }
        shared.savepoint += 1;
        shared.unkept = true;
        let begin = format!("SAVEPOINT turn{}", shared.savepoint);
        self.execute(begin).await
    }

    /// Undoes what the turn before has not kept.
    async fn undo(&mut self) {
        let State::Open(shared) = &self.transaction else { return };
        if !shared.unkept {
            return;
        }
        let undo = format!("ROLLBACK TO turn{}", shared.savepoint);
        let undone = self.execute(undo).await;
        let State::Open(shared) = &mut self.transaction else { return };
        match undone {
            Ok(()) => shared.unkept = false,
            Err(error) => self.fail(&error).await,
        }
    }

    /// Ends the transaction, and tells all who were in it.
    async fn commit(&mut self) {
        self.undo().await;
        if !matches!(self.transaction, State::Open(_)) {
            return self.reset().await;
        }
        match self.execute("RELEASE shared; COMMIT".to_owned()).await {
            Ok(()) => self.end(Ok(()), State::None),
            Err(error) => self.fail(&error).await,
        }
    }

    /// What was written of the transaction shall not count.
    async fn fail(&mut self, why: &Error) {
        self.end(Err(why.to_string().into()), State::Unsure);
        self.reset().await;
    }

    fn end(&mut self, outcome: Result<(), Arc<str>>, next: State) {
        if let State::Open(shared) = std::mem::replace(&mut self.transaction, next) {
            shared.outcome.send_replace(Some(outcome));
        }
    }

    /// Ends what there may be. That there is nothing to end is one of its answers.
    async fn reset(&mut self) {
        if !matches!(self.transaction, State::Unsure) {
            return;
        }
        if let Err(Error::WorkerCrashed) = self.execute("ROLLBACK".to_owned()).await
            && let Ok(connection) = connect(&self.url).await
        {
            self.connection = connection;
        }
        self.transaction = State::None;
    }

    async fn execute(&mut self, sql: String) -> Result<(), Error> {
        let sql = sqlx::AssertSqlSafe(sql).into_sql_str();
        self.connection.execute(sql).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::task::JoinHandle;

    use super::*;

    /// A file with a table of names, and who writes it.
    async fn group() -> (tempfile::TempDir, Arc<Group>) {
        sqlx::any::install_default_drivers();
        let dir = tempfile::tempdir().unwrap();
        let group = Group::open(&url(dir.path())).await.unwrap();
        let mut turn = Group::enter(&group).await.unwrap();
        run(&mut turn, "CREATE TABLE names (name TEXT PRIMARY KEY)").await.unwrap();
        turn.keep().await.unwrap();
        (dir, group)
    }

    fn url(dir: &Path) -> String {
        format!("sqlite://{}?mode=rwc", dir.join("names.db").display())
    }

    async fn run(turn: &mut Turn, sql: &'static str) -> Result<(), Error> {
        turn.connection_mut().execute(sql).await.map(drop)
    }

    /// What another connection sees.
    async fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let mut other = connect(&url(dir.path())).await.unwrap();
        let names = sqlx::query_scalar("SELECT name FROM names ORDER BY name");
        names.fetch_all(&mut other).await.unwrap()
    }

    /// A turn that comes while another's is on, so that both are of one transaction.
    fn behind(group: &Arc<Group>, sql: &'static str) -> JoinHandle<Result<(), Error>> {
        let group = group.clone();
        tokio::spawn(async move {
            let mut turn = Group::begin(&group).await?;
            let done = run(&mut turn, sql).await;
            turn.keep().await?;
            done
        })
    }

    #[tokio::test]
    async fn nothing_counts_before_all_of_it_is_durable() {
        let (dir, group) = group().await;
        let mut turn = Group::enter(&group).await.unwrap();
        let next = behind(&group, "INSERT INTO names VALUES ('b')");
        tokio::task::yield_now().await;
        run(&mut turn, "INSERT INTO names VALUES ('a')").await.unwrap();
        assert_eq!(names(&dir).await, [""; 0]);
        let kept = turn.keep();
        assert!(!next.is_finished());
        kept.await.unwrap();
        // Both were in one transaction: where one is durable the other is.
        assert_eq!(names(&dir).await, ["a", "b"]);
        next.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_one_gives_up_is_undone_for_it_alone() {
        let (dir, group) = group().await;
        let mut turn = Group::begin(&group).await.unwrap();
        run(&mut turn, "INSERT INTO names VALUES ('a')").await.unwrap();
        let next = behind(&group, "INSERT INTO names VALUES ('b')");
        tokio::task::yield_now().await;
        let refused = run(&mut turn, "INSERT INTO names VALUES ('a')").await;
        assert!(matches!(refused, Err(Error::Database(_))), "{refused:?}");
        drop(turn);
        next.await.unwrap().unwrap();
        assert_eq!(names(&dir).await, ["b"]);
        // Nor does one that is last leave anything.
        let mut turn = Group::begin(&group).await.unwrap();
        run(&mut turn, "INSERT INTO names VALUES ('c')").await.unwrap();
        drop(turn);
        let mut turn = Group::enter(&group).await.unwrap();
        run(&mut turn, "INSERT INTO names VALUES ('d')").await.unwrap();
        turn.keep().await.unwrap();
        assert_eq!(names(&dir).await, ["b", "d"]);
    }

    #[tokio::test]
    async fn a_refusal_is_one_s_own() {
        let (dir, group) = group().await;
        let mut turn = Group::enter(&group).await.unwrap();
        let next = behind(&group, "INSERT INTO names VALUES ('a')");
        tokio::task::yield_now().await;
        run(&mut turn, "INSERT INTO names VALUES ('a')").await.unwrap();
        turn.keep().await.unwrap();
        let refused = next.await.unwrap();
        assert!(matches!(refused, Err(Error::Database(_))), "{refused:?}");
        assert_eq!(names(&dir).await, ["a"]);
    }

    /// As SQLite ends it where a disk is full or fails.
    #[tokio::test]
    async fn a_transaction_that_is_lost_counts_for_nobody() {
        for lost in ["ROLLBACK", "ROLLBACK; BEGIN"] {
            let (dir, group) = group().await;
            let mut turn = Group::enter(&group).await.unwrap();
            let next = behind(&group, "INSERT INTO names VALUES ('b')");
            tokio::task::yield_now().await;
            run(&mut turn, "INSERT INTO names VALUES ('a')").await.unwrap();
            run(&mut turn, lost).await.unwrap();
            let told = turn.keep().await.unwrap_err();
            assert!(told.to_string().contains("the transaction failed"), "{lost}: {told}");
            next.await.unwrap().unwrap_err();
            assert_eq!(names(&dir).await, [""; 0], "{lost}");
            let again = behind(&group, "INSERT INTO names VALUES ('c')");
            again.await.unwrap().unwrap();
            assert_eq!(names(&dir).await, ["c"], "{lost}");
        }
    }

    #[tokio::test]
    async fn whoever_is_given_up_at_any_point_leaves_nothing_and_stops_nobody() {
        let (dir, group) = group().await;
        for polls in 0..40 {
            let given_up = behind(&group, "INSERT INTO names VALUES ('given up')");
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            given_up.abort();
            let ended = given_up.await;
            let mut turn = Group::begin(&group).await.unwrap();
            run(&mut turn, "INSERT INTO names VALUES ('kept')").await.unwrap();
            turn.keep().await.unwrap();
            let there = names(&dir).await;
            assert!(there.contains(&"kept".to_owned()), "{polls}: {there:?}");
            if let Ok(done) = ended {
                done.unwrap();
                assert_eq!(there, ["given up", "kept"], "{polls}");
            }
            let mut turn = Group::enter(&group).await.unwrap();
            run(&mut turn, "DELETE FROM names").await.unwrap();
            turn.keep().await.unwrap();
        }
    }
}
