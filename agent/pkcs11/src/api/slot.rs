//! Section 5.5, slot and token management: one slot, and its token is always there.

use cryptoki_sys::{
    CK_BBOOL, CK_EFFECTIVELY_INFINITE, CK_MECHANISM_INFO_PTR, CK_MECHANISM_TYPE,
    CK_MECHANISM_TYPE_PTR, CK_RV, CK_SLOT_ID, CK_SLOT_ID_PTR, CK_SLOT_INFO, CK_SLOT_INFO_PTR,
    CK_TOKEN_INFO, CK_TOKEN_INFO_PTR, CK_ULONG, CK_ULONG_PTR, CK_UNAVAILABLE_INFORMATION,
    CKF_TOKEN_INITIALIZED, CKF_TOKEN_PRESENT, CKF_WRITE_PROTECTED, CKR_MECHANISM_INVALID,
    CKR_SLOT_ID_INVALID,
};

use super::{
    general::{MANUFACTURER, VERSION},
    padded,
};
use crate::{
    fork,
    key::Kind,
    mechanism::Mechanism,
    memory::{fill, there, write},
    rv::{Result, ck_rv, fail},
    state::State,
};

/// The slot. Not 0: some callers take that for none.
pub(super) const SLOT: CK_SLOT_ID = 1;

/// The state, where the slot is this one.
pub(super) fn in_slot(slot: CK_SLOT_ID) -> Result<&'static State> {
    let state = fork::current()?;
    if slot == SLOT { Ok(state) } else { fail(CKR_SLOT_ID_INVALID) }
}

pub(super) unsafe extern "C" fn get_slot_list(
    _with_token: CK_BBOOL,
    list: CK_SLOT_ID_PTR,
    count: CK_ULONG_PTR,
) -> CK_RV {
    ck_rv(|| {
        fork::current()?;
        // SAFETY: null, or a list and its length (section 5.5).
        unsafe { fill(&[SLOT], list, count) }
    })
}

pub(super) unsafe extern "C" fn get_slot_info(slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR) -> CK_RV {
    ck_rv(|| {
        in_slot(slot)?;
        let answer = CK_SLOT_INFO {
            slotDescription: padded("vault-agent on this machine"),
            manufacturerID: padded(MANUFACTURER),
            flags: CKF_TOKEN_PRESENT,
            hardwareVersion: VERSION,
            firmwareVersion: VERSION,
        };
        // SAFETY: null or a CK_SLOT_INFO (section 5.5).
        unsafe { write(info, answer) }
    })
}

pub(super) unsafe extern "C" fn get_token_info(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) -> CK_RV {
    ck_rv(|| {
        let state = in_slot(slot)?;
        there(info)?;
        let label = padded(&state.label());
        let answer = CK_TOKEN_INFO {
            label,
            manufacturerID: padded(MANUFACTURER),
            model: padded("remote signer"),
            serialNumber: padded("1"),
            // No CKF_LOGIN_REQUIRED: the socket knows its callers, and a PIN in a configuration
            // file protects nothing.
            flags: CKF_TOKEN_INITIALIZED | CKF_WRITE_PROTECTED,
            ulMaxSessionCount: CK_EFFECTIVELY_INFINITE,
            ulSessionCount: state.lock().sessions() as CK_ULONG,
            ulMaxRwSessionCount: 0,
            ulRwSessionCount: 0,
            ulMaxPinLen: 255,
            ulMinPinLen: 0,
            ulTotalPublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePublicMemory: CK_UNAVAILABLE_INFORMATION,
            ulTotalPrivateMemory: CK_UNAVAILABLE_INFORMATION,
            ulFreePrivateMemory: CK_UNAVAILABLE_INFORMATION,
            hardwareVersion: VERSION,
            firmwareVersion: VERSION,
            utcTime: [b'0'; 16],
        };
        // SAFETY: null or a CK_TOKEN_INFO (section 5.5).
        unsafe { write(info, answer) }
    })
}

/// The kinds of keys that are shown.
fn shown(state: &State) -> impl Fn(Kind) -> bool {
    let eddsa = state.agent.settings().eddsa;
    move |kind| eddsa || kind != Kind::Edwards
}

pub(super) unsafe extern "C" fn get_mechanism_list(
    slot: CK_SLOT_ID,
    list: CK_MECHANISM_TYPE_PTR,
    count: CK_ULONG_PTR,
) -> CK_RV {
    ck_rv(|| {
        let mechanisms = Mechanism::of(shown(in_slot(slot)?));
        // SAFETY: null, or a list and its length (section 5.5).
        unsafe { fill(&mechanisms, list, count) }
    })
}

pub(super) unsafe extern "C" fn get_mechanism_info(
    slot: CK_SLOT_ID,
    mechanism: CK_MECHANISM_TYPE,
    info: CK_MECHANISM_INFO_PTR,
) -> CK_RV {
    ck_rv(|| {
        let shown = shown(in_slot(slot)?);
        let mechanism = Mechanism::find(mechanism)?;
        if !shown(mechanism.kind) {
            return fail(CKR_MECHANISM_INVALID);
        }
        // SAFETY: null or a CK_MECHANISM_INFO (section 5.5).
        unsafe { write(info, mechanism.info()) }
    })
}
