//! Whose state it is. A child has its parent's memory and none of its parent's threads: a lock that
//! one of them held stays held for ever. So a state belongs to one process; a child neither locks nor
//! frees that of its parent, sees CKR_CRYPTOKI_NOT_INITIALIZED, and begins its own by C_Initialize,
//! as section 5.4 asks of it and libp11 and pkcs11-provider do.

use std::{
    process,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};

use cryptoki_sys::{CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED};

use crate::{
    rv::{Result, fail},
    settings::Settings,
    state::State,
};

/// The last life that was begun. None is ever freed: another thread may still be in a call.
static LAST: AtomicPtr<Life> = AtomicPtr::new(null_mut());

/// The module's life in one process, from its C_Initialize to its C_Finalize, and again.
struct Life {
    process: u32,
    begun: AtomicBool,
    state: State,
    /// Kept, so that a tool that looks for lost memory finds it.
    _before: Option<&'static Life>,
}

/// What this process knows.
pub(crate) fn current() -> Result<&'static State> {
    let life = last().filter(|life| life.is_mine() && life.begun.load(Ordering::Acquire));
    life.map_or_else(|| fail(CKR_CRYPTOKI_NOT_INITIALIZED), |life| Ok(&life.state))
}

/// C_Initialize.
pub(crate) fn begin() -> Result {
    let found = LAST.load(Ordering::Acquire);
    let before = last();
    // A parent's settings are never changed, so that a child may read them.
    let settings = Settings::read(before.map(|life| life.state.agent.settings()));
    match before {
        Some(life) if life.is_mine() => {
            if life.begun.load(Ordering::Acquire) {
                return fail(CKR_CRYPTOKI_ALREADY_INITIALIZED);
            }
            if *life.state.agent.settings() == settings {
                return match life.begun.swap(true, Ordering::AcqRel) {
                    true => fail(CKR_CRYPTOKI_ALREADY_INITIALIZED),
                    false => Ok(()),
                };
            }
        }
        Some(parent) => parent.state.agent.idle().close_inherited(),
        None => {}
    }
    let life = Box::into_raw(Box::new(Life {
        process: process::id(),
        begun: AtomicBool::new(true),
        state: State::new(settings),
        _before: before,
    }));
    if LAST.compare_exchange(found, life, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: another thread was faster, and nobody has seen this one.
        drop(unsafe { Box::from_raw(life) });
        return fail(CKR_CRYPTOKI_ALREADY_INITIALIZED);
    }
    Ok(())
}

/// C_Finalize.
pub(crate) fn end() -> Result {
    let ended = last().filter(|life| life.is_mine() && life.begun.swap(false, Ordering::AcqRel));
    let Some(life) = ended else { return fail(CKR_CRYPTOKI_NOT_INITIALIZED) };
    life.state.clear();
    Ok(())
}

fn last() -> Option<&'static Life> {
    // SAFETY: null or of `begin`, which frees none that was seen here.
    unsafe { LAST.load(Ordering::Acquire).as_ref() }
}

impl Life {
    fn is_mine(&self) -> bool {
        self.process == process::id()
    }
}
