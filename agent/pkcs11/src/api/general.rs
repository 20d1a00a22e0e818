//! Section 5.4, general-purpose functions, and the list of all.

use cryptoki_sys::{
    CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_PTR_PTR, CK_INFO, CK_INFO_PTR, CK_RV,
    CK_VERSION, CK_VOID_PTR, CKF_OS_LOCKING_OK, CKR_ARGUMENTS_BAD, CKR_CANT_LOCK,
};

use super::{object, padded, session, sign, slot, unsupported};
use crate::{
    fork,
    memory::{read, write},
    rv::{Result, ck_rv, fail},
};

/// CK_INFO.cryptokiVersion.
const CRYPTOKI: CK_VERSION = CK_VERSION { major: 2, minor: 40 };

/// Whose module and token it is.
pub(super) const MANUFACTURER: &str = "keyvault";

/// This module's version.
pub(super) const VERSION: CK_VERSION = CK_VERSION { major: 0, minor: 1 };

pub(super) unsafe extern "C" fn initialize(arguments: CK_VOID_PTR) -> CK_RV {
    ck_rv(|| {
        if !arguments.is_null() {
            // SAFETY: not null, so it points to CK_C_INITIALIZE_ARGS (section 5.4).
            let given = unsafe { read(arguments.cast::<CK_C_INITIALIZE_ARGS>()) }?;
            takes(&given)?;
        }
        fork::begin()
    })
}

/// The locks here are the operating system's, whether the host has threads or not; a host that
/// allows only its own cannot be served.
fn takes(given: &CK_C_INITIALIZE_ARGS) -> Result {
    let callbacks = [
        given.CreateMutex.is_some(),
        given.DestroyMutex.is_some(),
        given.LockMutex.is_some(),
        given.UnlockMutex.is_some(),
    ];
    let all_or_none = callbacks.windows(2).all(|pair| pair[0] == pair[1]);
    if !given.pReserved.is_null() || !all_or_none {
        return fail(CKR_ARGUMENTS_BAD);
    }
    if callbacks[0] && given.flags & CKF_OS_LOCKING_OK == 0 {
        return fail(CKR_CANT_LOCK);
    }
    Ok(())
}

pub(super) unsafe extern "C" fn finalize(reserved: CK_VOID_PTR) -> CK_RV {
    ck_rv(|| if reserved.is_null() { fork::end() } else { fail(CKR_ARGUMENTS_BAD) })
}

pub(super) unsafe extern "C" fn get_info(info: CK_INFO_PTR) -> CK_RV {
    ck_rv(|| {
        fork::current()?;
        let answer = CK_INFO {
            cryptokiVersion: CRYPTOKI,
            manufacturerID: padded(MANUFACTURER),
            flags: 0,
            libraryDescription: padded("keys in the vault's HSM"),
            libraryVersion: VERSION,
        };
        // SAFETY: null or a CK_INFO (section 5.4).
        unsafe { write(info, answer) }
    })
}

/// The one symbol of this library: section 5.4, C_GetFunctionList.
///
/// # Safety
/// `list` is null or points to memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    // SAFETY: the caller's promise.
    ck_rv(|| unsafe { write(list, (&raw const FUNCTIONS).cast_mut()) })
}

/// Callers get a pointer that could be written through; none does, and the memory is read-only.
static FUNCTIONS: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
    version: CRYPTOKI,
    C_Initialize: Some(initialize),
    C_Finalize: Some(finalize),
    C_GetInfo: Some(get_info),
    C_GetFunctionList: Some(C_GetFunctionList),
    C_GetSlotList: Some(slot::get_slot_list),
    C_GetSlotInfo: Some(slot::get_slot_info),
    C_GetTokenInfo: Some(slot::get_token_info),
    C_GetMechanismList: Some(slot::get_mechanism_list),
    C_GetMechanismInfo: Some(slot::get_mechanism_info),
    C_InitToken: Some(unsupported::init_token),
    C_InitPIN: Some(unsupported::init_pin),
    C_SetPIN: Some(unsupported::set_pin),
    C_OpenSession: Some(session::open_session),
    C_CloseSession: Some(session::close_session),
    C_CloseAllSessions: Some(session::close_all_sessions),
    C_GetSessionInfo: Some(session::get_session_info),
    C_GetOperationState: Some(unsupported::get_operation_state),
    C_SetOperationState: Some(unsupported::set_operation_state),
    C_Login: Some(session::login),
    C_Logout: Some(session::logout),
    C_CreateObject: Some(unsupported::create_object),
    C_CopyObject: Some(unsupported::copy_object),
    C_DestroyObject: Some(unsupported::destroy_object),
    C_GetObjectSize: Some(unsupported::get_object_size),
    C_GetAttributeValue: Some(object::get_attribute_value),
    C_SetAttributeValue: Some(unsupported::set_attribute_value),
    C_FindObjectsInit: Some(object::find_objects_init),
    C_FindObjects: Some(object::find_objects),
    C_FindObjectsFinal: Some(object::find_objects_final),
    C_EncryptInit: Some(unsupported::encrypt_init),
    C_Encrypt: Some(unsupported::encrypt),
    C_EncryptUpdate: Some(unsupported::encrypt_update),
    C_EncryptFinal: Some(unsupported::encrypt_final),
    C_DecryptInit: Some(unsupported::decrypt_init),
    C_Decrypt: Some(unsupported::decrypt),
    C_DecryptUpdate: Some(unsupported::decrypt_update),
    C_DecryptFinal: Some(unsupported::decrypt_final),
    C_DigestInit: Some(unsupported::digest_init),
    C_Digest: Some(unsupported::digest),
    C_DigestUpdate: Some(unsupported::digest_update),
    C_DigestKey: Some(unsupported::digest_key),
    C_DigestFinal: Some(unsupported::digest_final),
    C_SignInit: Some(sign::sign_init),
    C_Sign: Some(sign::sign),
    C_SignUpdate: Some(sign::sign_update),
    C_SignFinal: Some(sign::sign_final),
    C_SignRecoverInit: Some(unsupported::sign_recover_init),
    C_SignRecover: Some(unsupported::sign_recover),
    C_VerifyInit: Some(unsupported::verify_init),
    C_Verify: Some(unsupported::verify),
    C_VerifyUpdate: Some(unsupported::verify_update),
    C_VerifyFinal: Some(unsupported::verify_final),
    C_VerifyRecoverInit: Some(unsupported::verify_recover_init),
    C_VerifyRecover: Some(unsupported::verify_recover),
    C_DigestEncryptUpdate: Some(unsupported::digest_encrypt_update),
    C_DecryptDigestUpdate: Some(unsupported::decrypt_digest_update),
    C_SignEncryptUpdate: Some(unsupported::sign_encrypt_update),
    C_DecryptVerifyUpdate: Some(unsupported::decrypt_verify_update),
    C_GenerateKey: Some(unsupported::generate_key),
    C_GenerateKeyPair: Some(unsupported::generate_key_pair),
    C_WrapKey: Some(unsupported::wrap_key),
    C_UnwrapKey: Some(unsupported::unwrap_key),
    C_DeriveKey: Some(unsupported::derive_key),
    C_SeedRandom: Some(unsupported::seed_random),
    C_GenerateRandom: Some(unsupported::generate_random),
    C_GetFunctionStatus: Some(unsupported::get_function_status),
    C_CancelFunction: Some(unsupported::cancel_function),
    C_WaitForSlotEvent: Some(unsupported::wait_for_slot_event),
};
