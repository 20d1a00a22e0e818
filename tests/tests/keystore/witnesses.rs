//! Who sees each signature: what is said before and after it stands before anything goes on, also where
//! one worker does many at once.

use std::sync::{Arc, Mutex, mpsc};

use futures_util::{future::join_all, poll};
use vault::{
    error::{Error, ErrorKind},
    keystore::{
        Algorithm, Escrow, KeySpec, KeyStore, Mechanism, Place, PublicKey, Signature, ToSign,
        Witness, pkcs11::Options,
    },
};

use super::{
    verify::verifies,
    world::{OPTIONS, World, spec},
};

promises! {
    many_that_wait_are_begun_together_and_each_stands_before_it_goes_on
    what_does_not_stand_is_not_done_and_hinders_nobody_else
    what_is_not_recorded_after_it_is_done_is_not_handed_out
}

/// What a witness of one signature has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Before,
    Stands,
    After,
}

/// What is seen of all, in its order: whose, and what.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<(usize, Seen)>>>);

impl Record {
    fn all(&self) -> Vec<(usize, Seen)> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, number: usize) -> Vec<Seen> {
        self.all().into_iter().filter(|(whose, _)| *whose == number).map(|(_, seen)| seen).collect()
    }
}

/// Sees one signature.
struct Eye {
    record: Record,
    number: usize,
    /// What it waits for before it says anything.
    gate: Option<mpsc::Receiver<()>>,
    /// After what it fails to make sure of anything.
    fails_after: Option<Seen>,
    last: Option<Seen>,
}

impl Eye {
    fn sees(&mut self, seen: Seen) {
        self.record.0.lock().unwrap().push((self.number, seen));
        self.last = Some(seen);
    }
}

impl Witness for Eye {
    fn before(&mut self) -> Result<(), Error> {
        if let Some(gate) = self.gate.take() {
            gate.recv().unwrap();
        }
        self.sees(Seen::Before);
        Ok(())
    }

    fn after(&mut self, outcome: Result<(), &Error>) -> Result<(), Error> {
        outcome.unwrap();
        self.sees(Seen::After);
        Ok(())
    }

    fn stands(&mut self) -> Result<(), Error> {
        if self.last == self.fails_after {
            return Err(Error::unavailable("write", "the record", "a test says so"));
        }
        self.sees(Seen::Stands);
        Ok(())
    }
}

/// Signatures that wait for the only worker at once.
const MANY: usize = 24;

/// A store with one worker, and a key in it.
struct Signed {
    store: Arc<dyn KeyStore>,
    spec: KeySpec,
    key: PublicKey,
    record: Record,
}

impl Signed {
    async fn new(world: &World) -> Self {
        let store = world.store_with(Options { workers: 1, queue: 2 * MANY, ..OPTIONS });
        let spec = spec(Algorithm::EcP256, Escrow::None);
        let key = store.generate(&spec).await.unwrap();
        Self { store, spec, key, record: Record::default() }
    }

    /// Has many signed that all wait before the first is begun, of which the one of this number fails
    /// after that.
    async fn many(&self, fails: Option<(usize, Seen)>) -> Vec<Result<Signature, Error>> {
        let (open, gate) = mpsc::channel();
        let mut gate = Some(gate);
        let mut signed = join_all((0..MANY).map(|number| {
            let eye = Eye {
                record: self.record.clone(),
                number,
                gate: gate.take(),
                fails_after: fails.filter(|(whose, _)| *whose == number).map(|(_, seen)| seen),
                last: None,
            };
            let (mechanism, message) = (Mechanism::EcdsaSha256, vec![number as u8].into());
            let what = ToSign { mechanism, message, place: Place::Queue };
            self.store.sign_witnessed(self.spec.id, what, Box::new(eye))
        }));
        assert!(poll!(&mut signed).is_pending());
        open.send(()).unwrap();
        signed.await
    }

    fn right(&self, number: usize, signed: &Result<Signature, Error>) -> bool {
        signed.as_ref().is_ok_and(|signature| verifies(&self.key, &[number as u8], signature))
    }
}

const WHOLE: [Seen; 4] = [Seen::Before, Seen::Stands, Seen::After, Seen::Stands];

async fn many_that_wait_are_begun_together_and_each_stands_before_it_goes_on(world: World) {
    let signed = Signed::new(&world).await;
    for (number, one) in signed.many(None).await.iter().enumerate() {
        assert!(signed.right(number, one), "{number}: {one:?}");
        assert_eq!(signed.record.of(number), WHOLE, "{number}");
    }
    let begun: Vec<_> = signed.record.all().into_iter().map(|(_, seen)| seen).collect();
    let together = begun.split(|seen| *seen != Seen::Before).map(<[_]>::len).max().unwrap();
    assert!((2..MANY).contains(&together), "{together} were begun together");
}

async fn what_does_not_stand_is_not_done_and_hinders_nobody_else(world: World) {
    let signed = Signed::new(&world).await;
    let all = signed.many(Some((7, Seen::Before))).await;
    assert_eq!(all[7].as_ref().unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(signed.record.of(7), [Seen::Before], "the token was asked");
    for (number, one) in all.iter().enumerate().filter(|(number, _)| *number != 7) {
        assert!(signed.right(number, one), "{number}: {one:?}");
        assert_eq!(signed.record.of(number), WHOLE, "{number}");
    }
}

async fn what_is_not_recorded_after_it_is_done_is_not_handed_out(world: World) {
    let signed = Signed::new(&world).await;
    let all = signed.many(Some((7, Seen::After))).await;
    assert_eq!(all[7].as_ref().unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(signed.record.of(7), WHOLE[..3]);
    assert_eq!(all.iter().filter(|one| one.is_err()).count(), 1);
}
