//! What one process knows between two calls.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    vec,
};

use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CKR_SESSION_HANDLE_INVALID,
    CKR_USER_ALREADY_LOGGED_IN, CKR_USER_NOT_LOGGED_IN,
};
use vault_proto::local::v1::{PssParameters, response::Answer};

use crate::{
    kept,
    key::Key,
    mechanism::Mechanism,
    objects::Objects,
    rv::{Result, fail},
    settings::Settings,
    transport::{Agent, Failure, Patience, answer, refused},
};

/// The token's name where no agent has said it yet.
const NAMELESS: &str = "vault-agent";

/// Everything of one process.
#[derive(Debug)]
pub(crate) struct State {
    /// Who signs.
    pub(crate) agent: Agent,
    questions: AtomicU64,
    inside: Mutex<Inside>,
}

/// What is looked at under the lock, and never while an answer is awaited.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    /// The objects.
    pub(crate) objects: Objects,
    sessions: HashMap<CK_SESSION_HANDLE, Session>,
    last_session: CK_SESSION_HANDLE,
    logged_in: bool,
}

/// What a session is in the middle of.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// A search: what is still to be handed out.
    pub(crate) search: Option<vec::IntoIter<CK_OBJECT_HANDLE>>,
    /// A signature.
    pub(crate) signing: Option<Signing>,
}

/// A signature that was begun.
#[derive(Debug)]
pub(crate) struct Signing {
    /// With which key.
    pub(crate) key: Arc<Key>,
    /// How.
    pub(crate) mechanism: &'static Mechanism,
    /// With which parameters.
    pub(crate) pss: Option<PssParameters>,
    /// The parts that have come; none where it is not known yet whether there will be parts.
    pub(crate) parts: Option<Vec<u8>>,
}

impl State {
    /// Nothing is known yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { agent: Agent::new(settings), questions: AtomicU64::new(0), inside: Mutex::default() }
    }

    /// Everything that is known. What a panicked call left is whole: see `ck_rv`.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything but the handles it gave out.
    pub(crate) fn clear(&self) {
        self.lock().close_all();
        self.agent.idle().clear();
    }

    /// Finds objects by asking the agent what there is: after a renewal the first search must find the
    /// new key. Where the agent does not say it at once, what it keeps on disk says the same, since it
    /// keeps a list before it gives it out; so a web server can start without an agent. What is not
    /// found there is worth waiting for.
    pub(crate) fn find(
        &self,
        wanted: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)],
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        match self.refresh(Patience::Once) {
            Err(Failure::Unreachable(_)) => {
                if self.take_kept() {
                    let found = self.lock().objects.find(wanted);
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                self.refresh(Patience::Whole)?;
            }
            asked => asked?,
        }
        Ok(self.lock().objects.find(wanted))
    }

    fn refresh(&self, patience: Patience) -> std::result::Result<(), Failure> {
        let asked = self.questions.fetch_add(1, Ordering::Relaxed) + 1;
        let list = self.agent.list(patience)?;
        if self.lock().objects.knows(&list) {
            return Ok(());
        }
        let keys = match answer(&list)? {
            Answer::Keys(keys) => keys,
            other => return Err(refused(other)),
        };
        let eddsa = self.agent.settings().eddsa;
        self.lock().objects.take(keys, list, asked, eddsa);
        Ok(())
    }

    /// Takes over the list on disk; whether there is one.
    fn take_kept(&self) -> bool {
        let settings = self.agent.settings();
        let Some(keys) = settings.keys.as_deref().and_then(|path| kept::read(path).ok()) else {
            return false;
        };
        let asked = self.questions.fetch_add(1, Ordering::Relaxed) + 1;
        // No answer of the agent's is empty, so its next one is taken.
        self.lock().objects.take(keys, Vec::new(), asked, settings.eddsa);
        true
    }

    /// The token's name. Libraries ask for it once, when they are loaded, and leave a slot whose
    /// token cannot be read out for good; so there is always one, and nobody waits for it who may
    /// not want any key. Where neither agent nor disk say it, key URIs without `token=` work as soon
    /// as the agent is there.
    pub(crate) fn label(&self) -> String {
        let known = || self.lock().objects.label().map(str::to_owned);
        let asked = || self.refresh(Patience::Once).is_ok() || self.take_kept();
        let label = known().or_else(|| if asked() { known() } else { None });
        label.unwrap_or_else(|| NAMELESS.to_owned())
    }
}

impl Inside {
    /// A new session.
    pub(crate) fn open(&mut self) -> CK_SESSION_HANDLE {
        self.last_session += 1;
        self.sessions.insert(self.last_session, Session::default());
        self.last_session
    }

    /// The session of a handle.
    pub(crate) fn session(&mut self, handle: CK_SESSION_HANDLE) -> Result<&mut Session> {
        self.sessions.get_mut(&handle).map_or_else(|| fail(CKR_SESSION_HANDLE_INVALID), Ok)
    }

    /// Ends a session; with the last one ends the login (section 5.6).
    pub(crate) fn close(&mut self, handle: CK_SESSION_HANDLE) -> Result {
        self.session(handle)?;
        self.sessions.remove(&handle);
        self.logged_in &= !self.sessions.is_empty();
        Ok(())
    }

    /// Ends them all.
    pub(crate) fn close_all(&mut self) {
        self.sessions.clear();
        self.logged_in = false;
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether somebody has logged in. It changes nothing but what C_GetSessionInfo says.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// Logs in or out; not twice.
    pub(crate) fn log(&mut self, in_: bool) -> Result {
        match (self.logged_in, in_) {
            (true, true) => fail(CKR_USER_ALREADY_LOGGED_IN),
            (false, false) => fail(CKR_USER_NOT_LOGGED_IN),
            _ => {
                self.logged_in = in_;
                Ok(())
            }
        }
    }
}
