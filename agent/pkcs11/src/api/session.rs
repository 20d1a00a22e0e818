//! Section 5.6, session management: read-only sessions, and a login that any PIN opens.

use cryptoki_sys::{
    CK_FLAGS, CK_NOTIFY, CK_RV, CK_SESSION_HANDLE, CK_SESSION_HANDLE_PTR, CK_SESSION_INFO,
    CK_SESSION_INFO_PTR, CK_SLOT_ID, CK_ULONG, CK_USER_TYPE, CK_UTF8CHAR_PTR, CK_VOID_PTR,
    CKF_RW_SESSION, CKF_SERIAL_SESSION, CKR_OPERATION_NOT_INITIALIZED,
    CKR_SESSION_PARALLEL_NOT_SUPPORTED, CKR_SESSION_READ_ONLY_EXISTS, CKR_TOKEN_WRITE_PROTECTED,
    CKR_USER_TYPE_INVALID, CKS_RO_PUBLIC_SESSION, CKS_RO_USER_FUNCTIONS, CKU_CONTEXT_SPECIFIC,
    CKU_SO, CKU_USER,
};

use super::slot::{SLOT, in_slot};
use crate::{
    fork,
    memory::{bytes, there, write},
    rv::{ck_rv, fail},
};

pub(super) unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    _application: CK_VOID_PTR,
    _notify: CK_NOTIFY,
    session: CK_SESSION_HANDLE_PTR,
) -> CK_RV {
    ck_rv(|| {
        let state = in_slot(slot)?;
        there(session)?;
        if flags & CKF_SERIAL_SESSION == 0 {
            return fail(CKR_SESSION_PARALLEL_NOT_SUPPORTED);
        }
        if flags & CKF_RW_SESSION != 0 {
            return fail(CKR_TOKEN_WRITE_PROTECTED);
        }
        let handle = state.lock().open();
        // SAFETY: a CK_SESSION_HANDLE (section 5.6).
        unsafe { write(session, handle) }
    })
}

pub(super) unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    ck_rv(|| fork::current()?.lock().close(session))
}

pub(super) unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    ck_rv(|| {
        in_slot(slot)?.lock().close_all();
        Ok(())
    })
}

pub(super) unsafe extern "C" fn get_session_info(
    session: CK_SESSION_HANDLE,
    info: CK_SESSION_INFO_PTR,
) -> CK_RV {
    ck_rv(|| {
        let mut inside = fork::current()?.lock();
        inside.session(session)?;
        let user = inside.is_logged_in();
        let answer = CK_SESSION_INFO {
            slotID: SLOT,
            state: if user { CKS_RO_USER_FUNCTIONS } else { CKS_RO_PUBLIC_SESSION },
            flags: CKF_SERIAL_SESSION,
            ulDeviceError: 0,
        };
        // SAFETY: null or a CK_SESSION_INFO (section 5.6).
        unsafe { write(info, answer) }
    })
}

pub(super) unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: CK_UTF8CHAR_PTR,
    length: CK_ULONG,
) -> CK_RV {
    ck_rv(|| {
        let mut inside = fork::current()?.lock();
        let signing = inside.session(session)?.signing.is_some();
        // SAFETY: null or so many bytes (section 5.6); none of them is looked at.
        unsafe { bytes(pin, length) }?;
        match user {
            CKU_USER => inside.log(true),
            // No key wants it; a caller that asks all the same is in the middle of something.
            CKU_CONTEXT_SPECIFIC if signing => Ok(()),
            CKU_CONTEXT_SPECIFIC => fail(CKR_OPERATION_NOT_INITIALIZED),
            CKU_SO => fail(CKR_SESSION_READ_ONLY_EXISTS),
            _ => fail(CKR_USER_TYPE_INVALID),
        }
    })
}

pub(super) unsafe extern "C" fn logout(session: CK_SESSION_HANDLE) -> CK_RV {
    ck_rv(|| {
        let mut inside = fork::current()?.lock();
        inside.session(session)?;
        inside.log(false)
    })
}
