//! What is in force: nothing, or one way in which a token or an answer of it is lost.

use std::{
    env, fs,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use cryptoki_sys::{
    CK_RV, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_FUNCTION_FAILED,
    CKR_GENERAL_ERROR, CKR_SESSION_CLOSED, CKR_SESSION_HANDLE_INVALID, CKR_TOKEN_NOT_PRESENT,
    CKR_USER_NOT_LOGGED_IN,
};

use crate::module;

/// The faults by the names that the control file has, and what a lost token answers.
const FAULTS: &[(&str, CK_RV)] = &[
    ("CKR_SESSION_HANDLE_INVALID", CKR_SESSION_HANDLE_INVALID),
    ("CKR_SESSION_CLOSED", CKR_SESSION_CLOSED),
    ("CKR_DEVICE_REMOVED", CKR_DEVICE_REMOVED),
    ("CKR_DEVICE_ERROR", CKR_DEVICE_ERROR),
    ("CKR_TOKEN_NOT_PRESENT", CKR_TOKEN_NOT_PRESENT),
    ("CKR_USER_NOT_LOGGED_IN", CKR_USER_NOT_LOGGED_IN),
    ("CKR_CRYPTOKI_NOT_INITIALIZED", CKR_CRYPTOKI_NOT_INITIALIZED),
    ("CKR_GENERAL_ERROR", CKR_GENERAL_ERROR),
];

/// What a function needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It makes the module ready.
    Nothing,
    /// A module that is ready.
    Module,
    /// A token in the slot.
    Token,
    /// A session.
    Session,
    /// A session, which is closed whatever is answered: a lost one is not kept.
    LastOfSession,
}

/// The fault in force. Calls hold it for reading, so that no token is lost in the middle of one: what
/// a real module does then is its own affair, and SoftHSM's is to crash.
static IN_FORCE: RwLock<Option<CK_RV>> = RwLock::new(None);

/// Whether the next key pair is made and said not to be.
static DISOWNS: AtomicBool = AtomicBool::new(false);

/// Makes a call, which is told of the fault in force, or answers what that fault answers.
pub(crate) fn during(needs: Needs, call: impl FnOnce(Option<CK_RV>) -> CK_RV) -> CK_RV {
    settle();
    let in_force = IN_FORCE.read().unwrap_or_else(PoisonError::into_inner);
    match in_force.and_then(|fault| answer(fault, needs)) {
        Some(rv) => {
            if needs == Needs::LastOfSession {
                call(*in_force);
            }
            rv
        }
        None => call(*in_force),
    }
}

/// Whether a fault takes the tokens from their slots.
pub(crate) fn takes_token(fault: Option<CK_RV>) -> bool {
    matches!(fault, Some(CKR_TOKEN_NOT_PRESENT | CKR_DEVICE_REMOVED))
}

/// What a fault has a generation answer that has made its pair: once.
pub(crate) fn disowns(fault: Option<CK_RV>) -> Option<CK_RV> {
    fault.filter(|fault| *fault == CKR_GENERAL_ERROR && DISOWNS.swap(false, Ordering::Relaxed))
}

fn answer(fault: CK_RV, needs: Needs) -> Option<CK_RV> {
    match (fault, needs) {
        // Not ready yet; the standard has no better word.
        (CKR_CRYPTOKI_NOT_INITIALIZED, Needs::Nothing) => Some(CKR_FUNCTION_FAILED),
        (CKR_CRYPTOKI_NOT_INITIALIZED, _) => Some(fault),
        (CKR_GENERAL_ERROR, _) => None,
        (_, Needs::Session | Needs::LastOfSession) => Some(fault),
        (CKR_DEVICE_REMOVED | CKR_DEVICE_ERROR | CKR_TOKEN_NOT_PRESENT, Needs::Token) => {
            Some(fault)
        }
        _ => None,
    }
}

/// Brings into force what the control file says; what begins takes from the application what it had.
fn settle() {
    let wanted = wanted();
    if *IN_FORCE.read().unwrap_or_else(PoisonError::into_inner) == wanted {
        return;
    }
    let mut in_force = IN_FORCE.write().unwrap_or_else(PoisonError::into_inner);
    if *in_force == wanted {
        return;
    }
    match wanted {
        None => {}
        Some(CKR_CRYPTOKI_NOT_INITIALIZED) => module::finalize(),
        Some(CKR_USER_NOT_LOGGED_IN) => module::log_out(),
        Some(CKR_GENERAL_ERROR) => DISOWNS.store(true, Ordering::Relaxed),
        Some(_) => module::close_all_sessions(),
    }
    *in_force = wanted;
}

fn wanted() -> Option<CK_RV> {
    let path = env::var_os("FAULTY_CONTROL").expect("FAULTY_CONTROL");
    let text = fs::read_to_string(path).expect("the file in FAULTY_CONTROL");
    let name = text.trim();
    if name.is_empty() {
        return None;
    }
    let fault = FAULTS.iter().find(|(known, _)| *known == name);
    Some(fault.unwrap_or_else(|| panic!("FAULTY_CONTROL names {name}, which is no fault")).1)
}
