//! The functions of PKCS#11 v2.40, each a way through to the other module.
#![allow(non_snake_case)] // the standard's names

use std::os::raw::c_void;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BBOOL, CK_BYTE, CK_FLAGS, CK_FUNCTION_LIST, CK_INFO, CK_MECHANISM,
    CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_NOTIFY, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE,
    CK_SESSION_INFO, CK_SLOT_ID, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG, CK_USER_TYPE, CK_UTF8CHAR,
    CK_VERSION, CKR_ARGUMENTS_BAD, CKR_FUNCTION_NOT_SUPPORTED, CKR_OK,
};

use crate::{
    fault::{self, Needs},
    module::module,
};

/// `what it needs, its name, its arguments`: the function that passes the call on, and all of them as
/// the list that a module is known by.
macro_rules! functions {
    ($($needs:ident $name:ident($($arg:ident: $type:ty),*);)*) => {
        $(
            unsafe extern "C" fn $name($($arg: $type),*) -> CK_RV {
                fault::during(Needs::$needs, |_| match module().$name {
                    // SAFETY: what the caller vouches for to us, he vouches for to the module.
                    Some(function) => unsafe { function($($arg),*) },
                    None => CKR_FUNCTION_NOT_SUPPORTED,
                })
            }
        )*

        static FUNCTIONS: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            C_GetFunctionList: Some(C_GetFunctionList),
            C_GetSlotList: Some(C_GetSlotList),
            C_GenerateKeyPair: Some(C_GenerateKeyPair),
            $($name: Some($name),)*
        };
    };
}

/// The functions of version 2.40: the one name that a module is found by.
///
/// # Safety
/// `list` is null or a place for a pointer.
// SAFETY: the name is the standard's, and nothing else in this module has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: the caller says that it is a place for a pointer. Nobody writes through it: the
    // standard's type has no `const`.
    unsafe { *list = (&raw const FUNCTIONS).cast_mut() };
    CKR_OK
}

/// A slot whose token is gone stays a slot.
unsafe extern "C" fn C_GetSlotList(
    token_present: CK_BBOOL,
    slots: *mut CK_SLOT_ID,
    count: *mut CK_ULONG,
) -> CK_RV {
    fault::during(Needs::Module, |in_force| {
        if token_present != 0 && fault::takes_token(in_force) && !count.is_null() {
            // SAFETY: the caller says that it is a place for a number.
            unsafe { *count = 0 };
            return CKR_OK;
        }
        match module().C_GetSlotList {
            // SAFETY: what the caller vouches for to us, he vouches for to the module.
            Some(function) => unsafe { function(token_present, slots, count) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    })
}

/// A pair may be made and the caller told that it was not.
#[allow(clippy::too_many_arguments)] // the standard's
unsafe extern "C" fn C_GenerateKeyPair(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_key: *mut CK_OBJECT_HANDLE,
    private_key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    fault::during(Needs::Session, |in_force| {
        let Some(function) = module().C_GenerateKeyPair else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: what the caller vouches for to us, he vouches for to the module.
        let made = unsafe {
            function(
                session,
                mechanism,
                public,
                public_count,
                private,
                private_count,
                public_key,
                private_key,
            )
        };
        fault::disowns(in_force).unwrap_or(made)
    })
}

functions! {
    Nothing C_Initialize(a: *mut c_void);
    Module C_Finalize(a: *mut c_void);
    Module C_GetInfo(a: *mut CK_INFO);
    Module C_GetSlotInfo(a: CK_SLOT_ID, b: *mut CK_SLOT_INFO);
    Token C_GetTokenInfo(a: CK_SLOT_ID, b: *mut CK_TOKEN_INFO);
    Token C_GetMechanismList(a: CK_SLOT_ID, b: *mut CK_MECHANISM_TYPE, c: *mut CK_ULONG);
    Token C_GetMechanismInfo(a: CK_SLOT_ID, b: CK_MECHANISM_TYPE, c: *mut CK_MECHANISM_INFO);
    Token C_InitToken(a: CK_SLOT_ID, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR);
    Session C_InitPIN(a: CK_SESSION_HANDLE, b: *mut CK_UTF8CHAR, c: CK_ULONG);
    Session C_SetPIN(
        a: CK_SESSION_HANDLE,
        b: *mut CK_UTF8CHAR,
        c: CK_ULONG,
        d: *mut CK_UTF8CHAR,
        e: CK_ULONG
    );
    Token C_OpenSession(
        a: CK_SLOT_ID,
        b: CK_FLAGS,
        c: *mut c_void,
        d: CK_NOTIFY,
        e: *mut CK_SESSION_HANDLE
    );
    LastOfSession C_CloseSession(a: CK_SESSION_HANDLE);
    Token C_CloseAllSessions(a: CK_SLOT_ID);
    Session C_GetSessionInfo(a: CK_SESSION_HANDLE, b: *mut CK_SESSION_INFO);
    Session C_GetOperationState(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    Session C_SetOperationState(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: CK_OBJECT_HANDLE,
        e: CK_OBJECT_HANDLE
    );
    Session C_Login(a: CK_SESSION_HANDLE, b: CK_USER_TYPE, c: *mut CK_UTF8CHAR, d: CK_ULONG);
    Session C_Logout(a: CK_SESSION_HANDLE);
    Session C_CreateObject(
        a: CK_SESSION_HANDLE,
        b: *mut CK_ATTRIBUTE,
        c: CK_ULONG,
        d: *mut CK_OBJECT_HANDLE
    );
    Session C_CopyObject(
        a: CK_SESSION_HANDLE,
        b: CK_OBJECT_HANDLE,
        c: *mut CK_ATTRIBUTE,
        d: CK_ULONG,
        e: *mut CK_OBJECT_HANDLE
    );
    Session C_DestroyObject(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    Session C_GetObjectSize(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE, c: *mut CK_ULONG);
    Session C_GetAttributeValue(
        a: CK_SESSION_HANDLE,
        b: CK_OBJECT_HANDLE,
        c: *mut CK_ATTRIBUTE,
        d: CK_ULONG
    );
    Session C_SetAttributeValue(
        a: CK_SESSION_HANDLE,
        b: CK_OBJECT_HANDLE,
        c: *mut CK_ATTRIBUTE,
        d: CK_ULONG
    );
    Session C_FindObjectsInit(a: CK_SESSION_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG);
    Session C_FindObjects(
        a: CK_SESSION_HANDLE,
        b: *mut CK_OBJECT_HANDLE,
        c: CK_ULONG,
        d: *mut CK_ULONG
    );
    Session C_FindObjectsFinal(a: CK_SESSION_HANDLE);
    Session C_EncryptInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    Session C_Encrypt(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_EncryptUpdate(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_EncryptFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    Session C_DecryptInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    Session C_Decrypt(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_DecryptUpdate(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_DecryptFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    Session C_DigestInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM);
    Session C_Digest(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_DigestUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    Session C_DigestKey(a: CK_SESSION_HANDLE, b: CK_OBJECT_HANDLE);
    Session C_DigestFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    Session C_SignInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    Session C_Sign(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_SignUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    Session C_SignFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: *mut CK_ULONG);
    Session C_SignRecoverInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    Session C_SignRecover(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_VerifyInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    Session C_Verify(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: CK_ULONG
    );
    Session C_VerifyUpdate(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    Session C_VerifyFinal(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    Session C_VerifyRecoverInit(a: CK_SESSION_HANDLE, b: *mut CK_MECHANISM, c: CK_OBJECT_HANDLE);
    Session C_VerifyRecover(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_DigestEncryptUpdate(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_DecryptDigestUpdate(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_SignEncryptUpdate(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_DecryptVerifyUpdate(
        a: CK_SESSION_HANDLE,
        b: *mut CK_BYTE,
        c: CK_ULONG,
        d: *mut CK_BYTE,
        e: *mut CK_ULONG
    );
    Session C_GenerateKey(
        a: CK_SESSION_HANDLE,
        b: *mut CK_MECHANISM,
        c: *mut CK_ATTRIBUTE,
        d: CK_ULONG,
        e: *mut CK_OBJECT_HANDLE
    );
    Session C_WrapKey(
        a: CK_SESSION_HANDLE,
        b: *mut CK_MECHANISM,
        c: CK_OBJECT_HANDLE,
        d: CK_OBJECT_HANDLE,
        e: *mut CK_BYTE,
        f: *mut CK_ULONG
    );
    Session C_UnwrapKey(
        a: CK_SESSION_HANDLE,
        b: *mut CK_MECHANISM,
        c: CK_OBJECT_HANDLE,
        d: *mut CK_BYTE,
        e: CK_ULONG,
        f: *mut CK_ATTRIBUTE,
        g: CK_ULONG,
        h: *mut CK_OBJECT_HANDLE
    );
    Session C_DeriveKey(
        a: CK_SESSION_HANDLE,
        b: *mut CK_MECHANISM,
        c: CK_OBJECT_HANDLE,
        d: *mut CK_ATTRIBUTE,
        e: CK_ULONG,
        f: *mut CK_OBJECT_HANDLE
    );
    Session C_SeedRandom(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    Session C_GenerateRandom(a: CK_SESSION_HANDLE, b: *mut CK_BYTE, c: CK_ULONG);
    Session C_GetFunctionStatus(a: CK_SESSION_HANDLE);
    Session C_CancelFunction(a: CK_SESSION_HANDLE);
    Module C_WaitForSlotEvent(a: CK_FLAGS, b: *mut CK_SLOT_ID, c: *mut c_void);
}
