//! Work on a token's keys by the thousand, in a process of its own: making a fleet's keys, and what
//! wrapping and unwrapping them costs without a vault.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use testkit::{
    softhsm::SoftHsm,
    vault::{PIN, SOFTHSM},
};
use vault_proto::ids::KeyId;

use crate::raw;

/// prime256v1 (RFC 5480 section 2.1.1.1), DER.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// What stands before the point in a P-256 key's SubjectPublicKeyInfo.
const SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// What `bench tokens` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The module.
    #[arg(long)]
    module: PathBuf,
    /// The token's label.
    #[arg(long)]
    token: String,
    /// The user PIN.
    #[arg(long, env = "BENCH_PIN", hide_env_values = true)]
    pin: String,
    /// What to do.
    #[arg(long, value_enum)]
    work: Work,
    /// With how many keys.
    #[arg(long)]
    keys: usize,
}

/// What is done with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Generates P-256 keys as a vault does that escrows them; a [`Made`] a line.
    Make,
    /// Wraps every private key of the token with its trusted KEK; a [`Took`].
    Wrap,
    /// Unwraps a P-256 key as a session object, signs once, destroys it, again and again; a [`Took`].
    Recover,
}

/// A key that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// Its CKA_ID.
    pub id: KeyId,
    /// SubjectPublicKeyInfo, DER, hex.
    pub spki: String,
}

/// What the calls took, and only they.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Took {
    /// Wall time, in seconds.
    pub seconds: f64,
    /// How many keys.
    pub keys: usize,
}

/// The label of the token that [`scratch`] makes.
pub const SCRATCH: &str = "scratch";

/// Makes an empty token; answers SoftHSM's configuration.
///
/// # Errors
/// Where it cannot be made.
pub fn scratch(softhsm: &SoftHsm) -> Result<PathBuf> {
    let (name, config) = softhsm.environment();
    let mut command = Command::new("softhsm2-util");
    command.env(name, &config).args(["--init-token", "--free", "--label", SCRATCH]);
    let made = command.args(["--pin", PIN, "--so-pin", "1234-test"]).output()?;
    ensure!(made.status.success(), "softhsm2-util: {}", String::from_utf8_lossy(&made.stderr));
    Ok(config)
}

/// Does it with a SoftHSM token in a process of its own, whose environment says where the token is.
///
/// # Errors
/// Where it fails; with what it said.
pub fn apart(config: &Path, token: &str, work: Work, keys: usize) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env("SOFTHSM2_CONF", config).env("BENCH_PIN", PIN);
    command.args(["tokens", "--module", SOFTHSM, "--token", token, "--keys", &keys.to_string()]);
    let work = work.to_possible_value().context("a kind of work")?;
    let output = command.args(["--work", work.get_name()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} in token {token}: {said}", work.get_name());
    Ok(String::from_utf8(output.stdout)?)
}

/// Does it and says on stdout what came of it.
///
/// # Errors
/// Where the module refuses anything.
pub fn run(args: &Args) -> Result<()> {
    let pkcs11 = Pkcs11::new(&args.module)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let session = pkcs11.open_rw_session(raw::slot(&pkcs11, &args.token)?)?;
    session.login(UserType::User, Some(&args.pin.as_str().into()))?;
    let took = match args.work {
        Work::Make => return make(&session, args.keys),
        Work::Wrap => wrap(&session, args.keys)?,
        Work::Recover => recover(&session, args.keys)?,
    };
    serde_json::to_writer(io::stdout(), &Took { seconds: took.as_secs_f64(), keys: args.keys })?;
    Ok(())
}

fn private(token: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Token(token),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(true),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]
}

fn public(token: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::Token(token),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::EcParams(P256.to_vec()),
    ]
}

fn make(session: &Session, keys: usize) -> Result<()> {
    let mut out = io::stdout().lock();
    for _ in 0..keys {
        let id = KeyId::random();
        let named =
            [Attribute::Id(id.as_bytes().to_vec()), Attribute::Label(id.to_string().into_bytes())];
        let public = [public(true), named.to_vec()].concat();
        let guarded = [Attribute::WrapWithTrusted(true), Attribute::Modifiable(false)];
        let copies = [Attribute::Copyable(false)];
        let private = [private(true), named.to_vec(), guarded.to_vec(), copies.to_vec()].concat();
        let (public, _) =
            session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
        let read = session.get_attributes(public, &[AttributeType::EcPoint])?;
        let Some(Attribute::EcPoint(point)) = read.first() else { bail!("no CKA_EC_POINT") };
        // An OCTET STRING around it.
        let point = point.get(2..).context("a short point")?;
        let made = Made { id, spki: format!("{SPKI}{}", hex::encode(point)) };
        writeln!(out, "{}", serde_json::to_string(&made)?)?;
    }
    Ok(())
}

fn wrap(session: &Session, keys: usize) -> Result<Duration> {
    let kek = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Trusted(true)];
    let kek = *session.find_objects(&kek)?.first().context("no KEK")?;
    let all = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::WrapWithTrusted(true)];
    let all: Vec<ObjectHandle> = session.find_objects(&all)?;
    let began = Instant::now();
    for number in 0..keys {
        let key = all.get(number % all.len().max(1)).context("no key")?;
        session.wrap_key(&Mechanism::AesKeyWrapPad, kek, *key)?;
    }
    Ok(began.elapsed())
}

fn recover(session: &Session, keys: usize) -> Result<Duration> {
    let kek = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(false),
        Attribute::Sensitive(true),
        Attribute::ValueLen(32.into()),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
    ];
    let kek = session.generate_key(&Mechanism::AesKeyGen, &kek)?;
    let (_, key) =
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public(false), &private(false))?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, kek, key)?;
    let template =
        [private(false), vec![Attribute::KeyType(KeyType::EC), Attribute::Modifiable(false)]]
            .concat();
    let digest = Sha256::digest(b"a challenge");
    let began = Instant::now();
    for _ in 0..keys {
        let key = session.unwrap_key(&Mechanism::AesKeyWrapPad, kek, &wrapped, &template)?;
        session.sign(&Mechanism::Ecdsa, key, &digest)?;
        session.destroy_object(key)?;
    }
    Ok(began.elapsed())
}
