//! The module that does the work, and what is done to it when it is lost.

use std::{env, ptr, sync::OnceLock};

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_SESSION_HANDLE, CK_SLOT_ID, CKF_SERIAL_SESSION, CKR_OK, Pkcs11,
};

/// Its functions.
pub(crate) fn module() -> &'static CK_FUNCTION_LIST {
    static LOADED: OnceLock<(Pkcs11, CK_FUNCTION_LIST)> = OnceLock::new();
    let (_, functions) = LOADED.get_or_init(|| {
        let path = env::var_os("FAULTY_MODULE").expect("FAULTY_MODULE");
        // SAFETY: it is a PKCS#11 module, whose loading has no conditions.
        let library = unsafe { Pkcs11::new(path) }.expect("the module in FAULTY_MODULE");
        let mut list = ptr::null_mut();
        // SAFETY: the place for the pointer is ours and lives through the call.
        let rv = unsafe { library.C_GetFunctionList(&raw mut list) };
        assert!(rv == CKR_OK && !list.is_null(), "C_GetFunctionList: {rv:#x}");
        // SAFETY: the module said CKR_OK, and its list lives as long as it is loaded.
        let functions = unsafe { *list };
        (library, functions)
    });
    functions
}

/// Ends what the module knows of its application.
pub(crate) fn finalize() {
    let call = module().C_Finalize.expect("C_Finalize");
    // SAFETY: the standard wants a null pointer; no other thread is in a call (`fault::during`).
    let rv = unsafe { call(ptr::null_mut()) };
    assert_eq!(rv, CKR_OK, "C_Finalize");
}

/// Ends every session, and with it every login.
pub(crate) fn close_all_sessions() {
    let call = module().C_CloseAllSessions.expect("C_CloseAllSessions");
    for slot in slots() {
        // SAFETY: there are no pointers.
        let rv = unsafe { call(slot) };
        assert_eq!(rv, CKR_OK, "C_CloseAllSessions of slot {slot}");
    }
}

/// Ends every login and leaves the sessions. A login is the application's, so any session ends it.
pub(crate) fn log_out() {
    let functions = module();
    let open = functions.C_OpenSession.expect("C_OpenSession");
    let log_out = functions.C_Logout.expect("C_Logout");
    let close = functions.C_CloseSession.expect("C_CloseSession");
    for slot in slots() {
        let mut session: CK_SESSION_HANDLE = 0;
        // SAFETY: the place for the handle is ours; there is no callback and nothing for it.
        let rv = unsafe { open(slot, CKF_SERIAL_SESSION, ptr::null_mut(), None, &raw mut session) };
        if rv == CKR_OK {
            // SAFETY: there are no pointers. Where nobody was logged in there is nothing to end.
            unsafe { (log_out(session), close(session)) };
        }
    }
}

fn slots() -> Vec<CK_SLOT_ID> {
    let call = module().C_GetSlotList.expect("C_GetSlotList");
    // No machine of ours has more.
    let mut slots = [0; 64];
    let mut count = slots.len() as u64;
    // SAFETY: `count` says how many places there are, and both live through the call.
    let rv = unsafe { call(1, slots.as_mut_ptr(), &raw mut count) };
    assert_eq!(rv, CKR_OK, "C_GetSlotList");
    slots.into_iter().take(usize::try_from(count).unwrap_or_default()).collect()
}
