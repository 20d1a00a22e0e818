//! A token, a process that has loaded its module, and how they differ by nature.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as CkError, RvError},
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use secrecy::SecretString;
use testkit::{inside, kryoptic::Kryoptic, softhsm::SoftHsm};
use vault::keystore::{
    Algorithm, Escrow, KeySpec, KeyStore, WrapMechanism,
    pkcs11::{KekSpec, Module, Options, Pkcs11KeyStore, TokenUri},
};
use vault_custody::locked::Locked;
use vault_proto::ids::KeyId;

/// The user PIN.
pub const PIN: &str = "1234-user";
/// The security officer's PIN.
pub const SO_PIN: &str = "1234-officer";

/// How a worker pool is run where a test is about nothing else.
pub const OPTIONS: Options = Options { workers: 2, queue: 256, deadline: Duration::from_secs(120) };

/// The tokens that the promises are kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    SoftHsm,
    Kryoptic,
}

/// In what tokens differ, and may.
#[derive(Debug)]
pub struct Nature {
    /// Kryoptic has Ed25519 with OpenSSL 3.2 or newer only, and is built to run with 3.0 too.
    pub refused: &'static [Algorithm],
    /// How a private key is wrapped: Kryoptic's AES key wrap takes secret keys only.
    pub wrap: WrapMechanism,
    /// The algorithms whose private keys it does not wrap by any mechanism of the key store's.
    pub not_wrapped: &'static [Algorithm],
    /// Who may set CKA_TRUSTED, and when.
    pub trust: Trust,
}

/// Who may set CKA_TRUSTED (PKCS#11 v3.1 section 4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The security officer, on an object that is created, as the standard has it.
    Officer,
    /// Nobody on an object that is created, anybody on one that is generated or unwrapped. Escrow
    /// on such a token protects from mistakes, not from a thief who has the PIN.
    UnwrappedOnly,
}

impl Token {
    /// In what it differs from the others.
    pub fn nature(self) -> Nature {
        match self {
            Self::SoftHsm => Nature {
                refused: &[],
                wrap: WrapMechanism::AesKeyWrapPad,
                not_wrapped: &[Algorithm::Ed25519],
                trust: Trust::Officer,
            },
            Self::Kryoptic => Nature {
                refused: &[Algorithm::Ed25519],
                wrap: WrapMechanism::AesCbcPad,
                not_wrapped: &[],
                trust: Trust::UnwrappedOnly,
            },
        }
    }

    /// The algorithms that it has.
    pub fn algorithms(self) -> impl Iterator<Item = Algorithm> {
        ALGORITHMS.into_iter().filter(move |one| !self.nature().refused.contains(one))
    }

    fn module(self) -> PathBuf {
        match self {
            Self::SoftHsm => SoftHsm::module(),
            Self::Kryoptic => Kryoptic::module(),
        }
    }

    /// Keeps a promise in a process of its own, on an empty module of this kind: the test `name` of
    /// this program starts itself once more, and there it is kept.
    pub fn run(self, module_path: &str, name: &str, promise: impl AsyncFnOnce(World)) {
        if inside::is_inside() {
            return World::enter(self, promise);
        }
        let (_, path) = module_path.split_once("::").expect("the test's path below its crate");
        let test = format!("{path}::{name}");
        // The module must be there before the clock starts.
        self.module();
        match self {
            Self::SoftHsm => {
                let hsm = SoftHsm::new();
                inside::run(&test, hsm.environment(), hsm.dir());
            }
            Self::Kryoptic => {
                let hsm = Kryoptic::new();
                inside::run(&test, hsm.environment(), hsm.dir());
            }
        }
    }
}

/// Every algorithm of the key store.
pub const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::EcP256,
    Algorithm::EcP384,
    Algorithm::Rsa2048,
    Algorithm::Rsa3072,
    Algorithm::Rsa4096,
    Algorithm::Ed25519,
];

/// Makes two tests of a promise `async fn(World)`: one per token.
macro_rules! promises {
    ($($name:ident)*) => {$(
        mod $name {
            use crate::keystore::world::Token;

            #[test]
            fn on_softhsm() {
                Token::SoftHsm.run(module_path!(), "on_softhsm", super::$name);
            }

            #[test]
            fn on_kryoptic() {
                Token::Kryoptic.run(module_path!(), "on_kryoptic", super::$name);
            }
        }
    )*};
}

/// The inside of a promise: a process with the module loaded and one token initialised.
pub struct World {
    /// Which token it is.
    pub token: Token,
    /// The loaded module.
    pub module: Module,
    /// The token.
    pub uri: TokenUri,
}

impl World {
    /// Keeps a promise on a token whose module this process has not loaded yet.
    fn enter(token: Token, promise: impl AsyncFnOnce(World)) {
        let module = Module::load(&token.module()).expect("module");
        let world = Self { token, module, uri: uri(token, "vault") };
        world.initialize(&world.uri);
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(promise(world));
        // Nobody waits for what a promise left running.
        runtime.shutdown_background();
    }

    fn initialize(&self, uri: &TokenUri) {
        self.module
            .initialize_token(uri, &SO_PIN.into(), &PIN.into(), false)
            .expect("initialise the token");
    }

    /// A second, fresh token of the same module, before any login to it.
    pub fn second_token(&self) -> TokenUri {
        let second = uri(self.token, "second");
        self.initialize(&second);
        second
    }

    /// The second token, once it is there.
    pub fn second(&self) -> TokenUri {
        uri(self.token, "second")
    }

    /// Puts a trusted, wrap-only KEK into the token: by the ceremony's own call where the token's
    /// security officer may, else past it. Must come before any login.
    pub fn install_kek(&self, value: [u8; 32]) -> KeyId {
        let id = KeyId::random();
        match self.token.nature().trust {
            Trust::Officer => self.try_install_kek(id, value).expect("install the KEK"),
            Trust::UnwrappedOnly => unwrap_kek(&self.session(&self.uri), id, value),
        }
        id
    }

    /// The ceremony's own call, which not every token lets be.
    pub fn try_install_kek(&self, id: KeyId, value: [u8; 32]) -> vault::error::Result<()> {
        let kek = KekSpec { id, value: Locked::copy_of(&value).expect("locked memory") };
        self.module.install_kek(&self.uri, &SO_PIN.into(), &kek)
    }

    /// The key store of the world's token.
    pub fn store(&self) -> Arc<dyn KeyStore> {
        self.store_with(OPTIONS)
    }

    /// The same with other options.
    pub fn store_with(&self, options: Options) -> Arc<dyn KeyStore> {
        Arc::new(self.open(&self.uri, PIN, options).expect("key store"))
    }

    /// Opens a key store that may not open.
    pub fn open(
        &self,
        uri: &TokenUri,
        pin: &str,
        options: Options,
    ) -> vault::error::Result<Pkcs11KeyStore> {
        Pkcs11KeyStore::open(&self.module, uri, &SecretString::from(pin), options)
    }

    /// A logged-in session beside the key store's, for looking at the token itself.
    pub fn session(&self, uri: &TokenUri) -> Session {
        let context = Pkcs11::new(uri.module_path()).expect("module");
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(CkError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => panic!("initialise: {error}"),
        }
        let slots = context.get_slots_with_initialized_token().expect("slots");
        let labelled = |slot: &_| {
            context.get_token_info(*slot).is_ok_and(|info| info.label().trim() == uri.label())
        };
        let slot = slots.into_iter().find(labelled).expect("token");
        let session = context.open_rw_session(slot).expect("session");
        match session.login(UserType::User, Some(&AuthPin::new(PIN.into()))) {
            Ok(()) | Err(CkError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(error) => panic!("log in: {error}"),
        }
    }
}

/// Makes the KEK out of a plain key of the same value, wrapped and unwrapped inside the token.
fn unwrap_kek(session: &Session, id: KeyId, value: [u8; 32]) {
    let plain = session
        .create_object(&[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Extractable(true),
            Attribute::Value(value.to_vec()),
        ])
        .expect("plain key");
    let carrier = [
        Attribute::Token(false),
        Attribute::ValueLen(32.into()),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
    ];
    let carrier = session.generate_key(&Mechanism::AesKeyGen, &carrier).expect("carrier");
    let blob = session.wrap_key(&Mechanism::AesKeyWrap, carrier, plain).expect("wrap");
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Id(id.as_bytes().to_vec()),
        Attribute::Trusted(true),
        Attribute::Wrap(true),
        Attribute::Unwrap(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Derive(false),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Modifiable(false),
        Attribute::Copyable(false),
    ];
    session.unwrap_key(&Mechanism::AesKeyWrap, carrier, &blob, &template).expect("unwrap");
    session.destroy_object(plain).expect("destroy");
}

fn uri(token: Token, label: &str) -> TokenUri {
    let path = token.module();
    format!("pkcs11:token={label}?module-path={}", path.display()).parse().expect("URI")
}

/// A key to generate.
pub fn spec(algorithm: Algorithm, escrow: Escrow) -> KeySpec {
    KeySpec { id: KeyId::random(), label: format!("{algorithm}-key"), algorithm, escrow }
}

/// The only object of a class with an id.
pub fn object(session: &Session, class: ObjectClass, id: KeyId) -> ObjectHandle {
    let template = [Attribute::Class(class), Attribute::Id(id.as_bytes().to_vec())];
    let found = session.find_objects(&template).expect("find");
    assert_eq!(found.len(), 1, "{class:?} {id}");
    found[0]
}
