//! A stand-in for the agent's socket, for those who test what is on this side of it: real keys and
//! real signatures, and it stops, slows down and refuses when it is told to. Where a test is about
//! the agent, it starts the agent.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cryptoki_sys::{CKM_ECDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_PSS};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};
use vault_proto::local::v1::{
    Keys, Reason, Refusal, Request, Response, Signature, request::Ask, response::Answer,
};

use crate::{
    programs::run,
    signer_key::{Kind, SignerKey},
};

/// What the token of a stand-in is called.
pub const TOKEN: &str = "web1";

/// What cargo calls the PKCS#11 module of `agent/pkcs11`.
const MODULE: &str = "libvault_pkcs11.so";

/// The mechanisms that are not given the message.
const GIVEN_DIGESTS: [u64; 3] = [CKM_ECDSA, CKM_RSA_PKCS, CKM_RSA_PKCS_PSS];

/// A socket that answers as the agent's does; gone when dropped.
pub struct SignerSocket {
    dir: TempDir,
    shared: Arc<Shared>,
    running: Option<Runtime>,
}

#[derive(Default)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    connections: AtomicUsize,
    lists: AtomicUsize,
    signatures: AtomicUsize,
    messages: Mutex<Vec<Vec<u8>>>,
}

#[derive(Default, Clone)]
struct Behaviour {
    keys: Vec<Arc<SignerKey>>,
    refusal: Option<Reason>,
    delay: Duration,
    hangs_up: bool,
}

/// What it was asked so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// How many connections were opened.
    pub connections: usize,
    /// How many lists were asked for.
    pub lists: usize,
    /// How many signatures were asked for, and refused ones with them.
    pub signatures: usize,
}

impl SignerSocket {
    /// One that does not listen yet and has no key.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        Self { dir, shared: Arc::default(), running: None }
    }

    /// One that listens and has a key for each of these certificates.
    pub fn with(keys: &[(Kind, &str)]) -> Self {
        let mut socket = Self::new();
        for (kind, label) in keys {
            socket.add(*kind, label);
        }
        socket.start();
        socket
    }

    /// Listens.
    ///
    /// # Panics
    /// Where it cannot.
    pub fn start(&mut self) {
        let _ = fs::remove_file(self.path());
        let runtime = Runtime::new().expect("runtime");
        let _inside = runtime.enter();
        let listener = UnixListener::bind(self.path()).expect("socket");
        let shared = Arc::clone(&self.shared);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        self.running = Some(runtime);
    }

    /// Ends as the agent does: nobody listens, and every connection is closed, whatever was asked.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Where it listens.
    pub fn path(&self) -> PathBuf {
        self.file("signer.sock")
    }

    /// Keeps its list on disk as it is now, as the agent does with every list.
    ///
    /// # Panics
    /// Where it cannot.
    pub fn keep_list(&self) {
        fs::write(self.kept(), self.behaviour().list().encode_to_vec()).expect("the list");
    }

    /// Where a list is looked for while nobody listens; there is none unless it was kept.
    pub fn kept(&self) -> PathBuf {
        self.file("signer-keys.pb")
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in its directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A command that finds this socket.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("VAULT_AGENT_SOCKET", self.path()).env("VAULT_AGENT_KEYS", self.kept());
        // Long, because a loaded machine is slow and nothing here asserts a time.
        command.env("VAULT_AGENT_TIMEOUT_MS", "120000");
        command.env("VAULT_PKCS11_DEBUG", "1").current_dir(self.dir());
        command
    }

    /// Makes a key with its certificate, and lists it. `NAME.pub` is the public half, `NAME.pem` the
    /// certificate, both in its directory.
    pub fn add(&self, kind: Kind, label: &str) -> Arc<SignerKey> {
        let key = Arc::new(SignerKey::new(kind, label));
        fs::write(self.file(&format!("{label}.pub")), &key.public_pem).expect("public key");
        fs::write(self.file(&format!("{label}.pem")), &key.certificate_pem).expect("certificate");
        self.behaviour().keys.push(Arc::clone(&key));
        key
    }

    /// The key of a certificate.
    ///
    /// # Panics
    /// Where it has none.
    pub fn key(&self, label: &str) -> Arc<SignerKey> {
        let keys = &self.behaviour().keys;
        let found = keys.iter().find(|key| key.listed.label == label);
        Arc::clone(found.unwrap_or_else(|| panic!("no key of {label}")))
    }

    /// Takes the keys of a certificate from the list.
    pub fn remove(&self, label: &str) {
        self.behaviour().keys.retain(|key| key.listed.label != label);
    }

    /// From now on it refuses to sign for this reason; or no longer.
    pub fn refuse(&self, reason: Option<Reason>) {
        self.behaviour().refusal = reason;
    }

    /// From now on a signature takes so long.
    pub fn slow_down(&self, delay: Duration) {
        self.behaviour().delay = delay;
    }

    /// From now on each connection is closed after its first answer; or no longer.
    pub fn hang_up(&self, hangs_up: bool) {
        self.behaviour().hangs_up = hangs_up;
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Asked {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        Asked {
            connections: count(&self.shared.connections),
            lists: count(&self.shared.lists),
            signatures: count(&self.shared.signatures),
        }
    }

    /// What it was given to sign by mechanisms that hash, in the order in which it came.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.shared.messages.lock().expect("messages").clone()
    }

    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.shared.behaviour.lock().expect("behaviour")
    }
}

impl Default for SignerSocket {
    fn default() -> Self {
        Self::new()
    }
}

impl Behaviour {
    fn list(&self) -> Keys {
        let keys = self.keys.iter().map(|key| key.listed.clone()).collect();
        Keys { token_label: TOKEN.to_owned(), keys }
    }
}

impl Shared {
    async fn serve(&self, mut stream: UnixStream) {
        while let Some(request) = read(&mut stream).await {
            let behaviour = self.behaviour.lock().expect("behaviour").clone();
            let answer = self.answer(request, &behaviour).await;
            let response = Response { answer: Some(answer) }.encode_to_vec();
            let length = u32::try_from(response.len()).expect("a short answer").to_be_bytes();
            let frame = [&length[..], &response].concat();
            if stream.write_all(&frame).await.is_err() || behaviour.hangs_up {
                return;
            }
        }
    }

    async fn answer(&self, request: Request, behaviour: &Behaviour) -> Answer {
        let Some(Ask::Sign(sign)) = request.ask else {
            self.lists.fetch_add(1, Ordering::SeqCst);
            return Answer::Keys(behaviour.list());
        };
        self.signatures.fetch_add(1, Ordering::SeqCst);
        if !GIVEN_DIGESTS.contains(&sign.mechanism) {
            self.messages.lock().expect("messages").push(sign.data.clone());
        }
        if !behaviour.delay.is_zero() {
            tokio::time::sleep(behaviour.delay).await;
        }
        let key = behaviour.keys.iter().find(|key| key.listed.id == sign.key_id);
        let signed = match (behaviour.refusal, key) {
            (Some(reason), _) => Err(reason),
            (None, None) => Err(Reason::NoKey),
            (None, Some(key)) => key.sign(sign.mechanism, sign.pss.as_ref(), &sign.data),
        };
        match signed {
            Ok(signature) => Answer::Signature(Signature { signature }),
            Err(reason) => {
                Answer::Refusal(Refusal { reason: reason.into(), why: "told so".to_owned() })
            }
        }
    }
}

async fn read(stream: &mut UnixStream) -> Option<Request> {
    let length = stream.read_u32().await.ok()?;
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message).await.ok()?;
    Some(Request::decode(&*message).expect("a request of the module's"))
}

/// The PKCS#11 module's file, built from its sources as they are.
///
/// # Panics
/// Where it cannot be built.
pub fn module() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

/// Cargo builds a library of C's for nobody who depends on it, so it is told to.
fn build() -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--package", "vault-pkcs11"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    let ended = run(cargo);
    assert_eq!(ended.code, 0, "vault-pkcs11 is not built: {ended:?}");
    let test = env::current_exe().expect("the test's own path");
    let found = test.ancestors().map(|dir| dir.join(MODULE)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("cargo built no {MODULE} beside the tests"))
}
