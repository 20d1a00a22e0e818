//! Questions to the agent: each on one connection, alone, within one deadline.
//!
//! An idle connection makes a signature cost one write and one read. Where the agent was restarted
//! since, the idle ones are dead: the question is asked again at once on a new one, and where nobody
//! listens yet, again and again until the deadline. Every question may be asked twice: a signature
//! that nobody got is of no use to anybody.

use std::{
    fmt, io,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, stat},
    io::retry_on_intr,
    net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send,
        socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use vault_proto::local::v1::{
    ListKeys, Reason, Refusal, Request, Response, Sign, request::Ask, response::Answer,
};

use crate::{
    frame,
    pool::{Connection, Pool},
    settings::Settings,
};

/// The pauses between two tries to reach the agent, from the first to the longest: short, because
/// a handshake waits.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// How long a server that starts may be held up where it need not be: a healthy agent answers in far
/// less.
const ONCE: Duration = Duration::from_millis(500);

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until the deadline, over an agent's restart and everything else.
    Whole,
    /// One try and a moment: there is something else to go by.
    Once,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The question is longer than the agent takes.
    TooLong,
    /// No agent answered in time.
    Unreachable(io::Error),
    /// What came is no answer to the question.
    Malformed,
    /// The agent said no.
    Refused(Reason),
}

/// The agent, as one process reaches it.
#[derive(Debug)]
pub(crate) struct Agent {
    settings: Settings,
    idle: Pool,
}

impl Agent {
    /// Nothing is connected yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, idle: Pool::new() }
    }

    /// How it is reached.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its idle connections.
    pub(crate) fn idle(&self) -> &Pool {
        &self.idle
    }

    /// Asks for a signature.
    pub(crate) fn sign(&self, sign: Sign) -> Result<Vec<u8>, Failure> {
        self.said("signature", || match answer(&self.ask(Ask::Sign(sign), Patience::Whole)?)? {
            Answer::Signature(signature) => Ok(signature.signature),
            other => Err(refused(other)),
        })
    }

    /// Asks for the list of keys: as it came, for [`answer`], so that a list that is the old one need
    /// not be read.
    pub(crate) fn list(&self, patience: Patience) -> Result<Vec<u8>, Failure> {
        self.said("list of keys", || self.ask(Ask::ListKeys(ListKeys {}), patience))
    }

    /// Says on stderr, where the user wants it, why there is no `what`. A PKCS#11 caller gets no more
    /// than a number.
    fn said<T>(&self, what: &str, ask: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let result = ask();
        if let (Err(failure), true) = (&result, self.settings.debug) {
            let socket = self.settings.socket.display();
            let line = format!("vault-pkcs11: no {what} from the agent at {socket}: {failure}\n");
            // In one write, so that lines of several processes do not mix; where stderr is gone,
            // there is nobody to tell.
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        }
        result
    }

    fn ask(&self, ask: Ask, patience: Patience) -> Result<Vec<u8>, Failure> {
        let question = frame::pack(&Request { ask: Some(ask) }).ok_or(Failure::TooLong)?;
        let (whole, once) = (self.settings.timeout, patience == Patience::Once);
        let wait = if once { whole.min(ONCE) } else { whole };
        let end = Instant::now() + wait;
        if let Some(idle) = self.idle.take() {
            // Idle ones wait for the whole time, as most questions want it.
            let asked = if once { wait_at_most(&idle, wait) } else { Ok(()) };
            match asked.and_then(|()| exchange(&idle, &question, end)) {
                Ok(answer) => {
                    if !once || wait_at_most(&idle, whole).is_ok() {
                        self.idle.put(idle);
                    }
                    return Ok(answer);
                }
                Err(error) if !is_worth_another(&error) => return Err(error.into()),
                // Its agent has ended, and with it the other connections.
                Err(_) => self.idle.clear(),
            }
        }
        let mut pause = PAUSES.0;
        loop {
            let error = match self.ask_anew(&question, end) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if once || !is_worth_another(&error) || Instant::now() + pause >= end {
                return Err(error.into());
            }
            thread::sleep(pause);
            pause = PAUSES.1.min(pause * 2);
        }
    }

    fn ask_anew(&self, question: &[u8], end: Instant) -> io::Result<Vec<u8>> {
        let connection = self.connect(end)?;
        let answer = exchange(&connection, question, end)?;
        wait_at_most(&connection, self.settings.timeout)?;
        self.idle.put(connection);
        Ok(answer)
    }

    fn connect(&self, end: Instant) -> io::Result<Connection> {
        let path = &self.settings.socket;
        let mode = stat(path)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::Socket {
            // Nothing that waiting cures.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no socket"));
        }
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let connection = Connection::new(socket)?;
        // Before connecting: where the agent's queue is full, connecting waits too.
        wait_at_most(&connection, left(end)?)?;
        let address = SocketAddrUnix::new(path)?;
        retry_on_intr(|| connect(&connection, &address)).map_err(timed_out)?;
        Ok(connection)
    }
}

/// What an answer says; a refusal is a failure.
pub(crate) fn answer(message: &[u8]) -> Result<Answer, Failure> {
    let response = Response::decode(message).map_err(|_| Failure::Malformed)?;
    response.answer.ok_or(Failure::Malformed)
}

/// Why an answer is not the one that was asked for.
pub(crate) fn refused(answer: Answer) -> Failure {
    match answer {
        Answer::Refusal(Refusal { reason, .. }) => {
            Failure::Refused(Reason::try_from(reason).unwrap_or_default())
        }
        Answer::Keys(_) | Answer::Signature(_) => Failure::Malformed,
    }
}

/// One question and its answer. What has failed is not used again: a late answer would be taken for
/// that to the next question.
fn exchange(connection: &Connection, question: &[u8], end: Instant) -> io::Result<Vec<u8>> {
    let mut rest = question;
    while !rest.is_empty() {
        // A connection that the agent has closed must not end the host by SIGPIPE.
        let sent = retry_on_intr(|| send(connection, rest, SendFlags::NOSIGNAL));
        rest = &rest[sent.map_err(timed_out)?..];
        left(end)?;
    }
    frame::unpack(|buffer, again| {
        if again {
            // The socket's own timeout is for a wait that begins now; this one began before.
            let wait = Timespec::try_from(left(end)?).map_err(io::Error::other)?;
            let mut socket = [PollFd::new(connection, PollFlags::IN)];
            if retry_on_intr(|| poll(&mut socket, Some(&wait)))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        retry_on_intr(|| rustix::io::read(connection, &mut *buffer)).map_err(timed_out)
    })
}

fn wait_at_most(connection: &Connection, wait: Duration) -> io::Result<()> {
    for which in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(connection.as_fd(), which, Some(wait))?;
    }
    Ok(())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A blocking socket says EAGAIN when its timeout is over.
fn timed_out(error: rustix::io::Errno) -> io::Error {
    match error {
        rustix::io::Errno::AGAIN => io::ErrorKind::TimedOut.into(),
        other => other.into(),
    }
}

/// Whether the same question may be answered if it is asked again: not where time is over, and not
/// where what the agent says or the path is makes no sense. A socket that may not be reached is
/// tried again: an agent that starts gives it its mode after its name.
fn is_worth_another(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidFilename, InvalidInput, TimedOut};
    !matches!(error.kind(), TimedOut | InvalidData | InvalidFilename | InvalidInput)
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Malformed,
            _ => Self::Unreachable(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the question is too long"),
            Self::Unreachable(error) if error.kind() == io::ErrorKind::TimedOut => {
                write!(f, "it did not answer in time (VAULT_AGENT_TIMEOUT_MS): is it well?")
            }
            Self::Unreachable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{error}: may this server's user reach the socket?")
            }
            Self::Unreachable(error) if error.kind() == io::ErrorKind::InvalidInput => {
                write!(f, "{error}: set VAULT_AGENT_SOCKET to the agent's")
            }
            Self::Unreachable(error) => write!(f, "{error}: does vault-agent run?"),
            Self::Malformed => write!(f, "what came is no answer: is it vault-agent's socket?"),
            Self::Refused(reason) => write!(f, "{}; its log says why", reason.as_str_name()),
        }
    }
}
