//! Threads beside the store's own that have a session with the token.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
};

use tokio::runtime::Handle;
use vault::{
    error::{Error, Result},
    keystore::{
        Algorithm, Escrow, KeySpec, KeyStore, Mechanism, Place, PublicKey, ToSign, Witness,
        pkcs11::Options,
    },
};

use super::{
    verify::verifies,
    world::{OPTIONS, World, spec},
};

promises! {
    a_thread_with_a_session_signs_itself_and_any_other_leaves_it_to_the_store
    a_session_that_such_a_thread_lost_is_there_again
    whoever_drops_the_store_waits_for_such_a_thread
}

/// Notes on which thread the token was asked.
struct Where(Arc<Mutex<Vec<ThreadId>>>);

impl Witness for Where {
    fn before(&mut self) -> Result<()> {
        self.0.lock().unwrap().push(thread::current().id());
        Ok(())
    }

    fn after(&mut self, _: Result<(), &Error>) -> Result<()> {
        Ok(())
    }

    fn stands(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A store with a key.
#[derive(Clone)]
struct Signed {
    store: Arc<dyn KeyStore>,
    spec: KeySpec,
    key: PublicKey,
}

impl Signed {
    async fn new(world: &World) -> Self {
        let store = world.store_with(Options { workers: 2, ..OPTIONS });
        let spec = spec(Algorithm::EcP256, Escrow::None);
        let key = store.generate(&spec).await.unwrap();
        Self { store, spec, key }
    }

    /// Signs once; on which thread.
    async fn sign(&self, place: Place) -> ThreadId {
        let asked = Arc::default();
        let what = ToSign { mechanism: Mechanism::EcdsaSha256, message: b"m"[..].into(), place };
        let witness = Box::new(Where(Arc::clone(&asked)));
        let signature = self.store.sign_witnessed(self.spec.id, what, witness).await.unwrap();
        assert!(verifies(&self.key, b"m", &signature));
        let asked = asked.lock().unwrap().clone();
        let [thread] = asked[..] else { panic!("one signature, {} intents", asked.len()) };
        thread
    }

    /// Does this on a new thread with a session of its own, and waits for it.
    fn on_own_thread(&self, body: impl AsyncFnOnce(Self, ThreadId) + Send + 'static) {
        let (runtime, this) = (Handle::current(), self.clone());
        let (done, wait) = mpsc::channel();
        let body = move || {
            runtime.block_on(body(this, thread::current().id()));
            done.send(()).unwrap();
        };
        self.store.thread_with_session("own".to_owned(), Box::new(body)).unwrap();
        tokio::task::block_in_place(|| wait.recv()).expect("a thread that did not fail");
    }
}

async fn a_thread_with_a_session_signs_itself_and_any_other_leaves_it_to_the_store(world: World) {
    let signed = Signed::new(&world).await;
    signed.on_own_thread(async |signed, own| {
        assert_eq!(signed.sign(Place::Here).await, own);
        assert_ne!(signed.sign(Place::Queue).await, own);
    });
    // This thread has none.
    assert_ne!(signed.sign(Place::Here).await, thread::current().id());
}

async fn a_session_that_such_a_thread_lost_is_there_again(world: World) {
    let signed = Signed::new(&world).await;
    let session = world.session(&world.uri);
    signed.on_own_thread(async move |signed, own| {
        for _ in 0..5 {
            assert_eq!(signed.sign(Place::Here).await, own);
            session.logout().unwrap();
        }
        assert_eq!(signed.sign(Place::Here).await, own);
    });
}

async fn whoever_drops_the_store_waits_for_such_a_thread(world: World) {
    static ENDED: AtomicBool = AtomicBool::new(false);
    let store = world.store();
    let (begun, wait) = mpsc::channel();
    let body = move || {
        begun.send(()).unwrap();
        thread::sleep(std::time::Duration::from_millis(300));
        ENDED.store(true, Ordering::Relaxed);
    };
    store.thread_with_session("own".to_owned(), Box::new(body)).unwrap();
    wait.recv().unwrap();
    drop(store);
    assert!(ENDED.load(Ordering::Relaxed));
}
