//! Programs started for a test.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take to come up before its test fails. Long, because machines are slow
/// and nothing here asserts a time.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How long a program that is asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// A running program, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its stdout and stderr go to `DIR/NAME.log`, appended.
    ///
    /// # Panics
    /// Where the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("log file");
        let err = out.try_clone().expect("log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} ({:?}): {e}", command.get_program()));
        Self { name: name.to_owned(), child, log }
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has used so far, in KiB.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim().strip_suffix(" kB").and_then(|kib| kib.parse().ok()).expect("KiB")
    }

    /// Its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// Where it does not end within [`PATIENCE`].
    pub fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            if Instant::now() >= end {
                panic!("{} still runs:\n{}\n{}", self.name, self.log(), self.stacks());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where each of its threads is: one that hangs seldom shows it once only.
    fn stacks(&self) -> String {
        let mut debugger = Command::new("gdb");
        debugger.args(["-batch", "-ex", "thread apply all backtrace", "-p"]);
        debugger.arg(self.id().to_string()).stderr(Stdio::null());
        match debugger.output() {
            Ok(said) => String::from_utf8_lossy(&said.stdout).into_owned(),
            Err(error) => format!("gdb: {error}"),
        }
    }

    /// Ends it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end by `signal`, and kills it where it does not: for programs that leave
    /// something behind when they are killed.
    pub fn end_by(&mut self, signal: rustix::process::Signal) {
        self.signal(signal);
        let end = Instant::now() + GRACE;
        while self.exited().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("pid"), signal);
    }

    /// The process ids of its children, a server's workers for example.
    pub fn children(&self) -> Vec<String> {
        let list = format!("/proc/{0}/task/{0}/children", self.id());
        let ids = fs::read_to_string(&list).unwrap_or_default();
        ids.split_whitespace().map(str::to_owned).collect()
    }

    /// Waits until these children of it are gone, whatever others it has by then.
    ///
    /// # Panics
    /// Where they stay.
    pub fn wait_gone(&self, children: &[String]) {
        eventually(&format!("{}'s children are gone", self.name), || {
            self.children().iter().all(|id| !children.contains(id)).then_some(())
        });
    }

    /// Kills its children (SIGKILL), a server's workers for example, and waits until they are gone;
    /// it may have new ones by then.
    ///
    /// # Panics
    /// Where it has none.
    pub fn kill_children(&self) {
        let killed = self.children();
        assert!(!killed.is_empty(), "{} has no children", self.name);
        for id in &killed {
            let pid = id.parse().ok().and_then(rustix::process::Pid::from_raw).expect("pid");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        self.wait_gone(&killed);
    }

    /// Waits until `ready` holds.
    ///
    /// # Panics
    /// Where it does not within [`PATIENCE`], or the program ends; with the program's output.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !ready() {
            if let Some(status) = self.exited() {
                panic!("{} ended ({status}) before {what}:\n{}", self.name, self.log());
            }
            assert!(Instant::now() < end, "{}: no {what}:\n{}", self.name, self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it accepts TCP connections.
    pub fn wait_listening(&mut self, address: SocketAddr) {
        self.wait_until(&format!("listening on {address}"), || {
            TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
    }
}

/// A loopback port that nothing listens on now and that nobody else gets: it is below those that
/// the kernel gives to connections, chosen at random, and given once by each test program.
///
/// # Panics
/// Where there is none.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let below = kernels_first_port();
    for _ in 0..1000 {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let room = u64::from(below - LOWEST_PORT);
        let port = LOWEST_PORT + u16::try_from(random % room).expect("less than a port");
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free && given.insert(port) {
            return port;
        }
    }
    panic!("no free port from {LOWEST_PORT} to {below}");
}

/// The lowest port that [`free_port`] gives.
const LOWEST_PORT: u16 = 10_000;

/// The first port that the kernel gives to connections.
fn kernels_first_port() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    // Where it leaves no room below, any port is as good as another.
    first.filter(|first| *first > 2 * LOWEST_PORT).unwrap_or(u16::MAX)
}

/// Waits until `ready` gives a value.
///
/// # Panics
/// Where it does not within [`PATIENCE`].
pub fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
