//! Section 5.11, signing. The data goes to the agent whole: where the mechanism hashes, the vault sees
//! what is signed.

use std::sync::Arc;

use cryptoki_sys::{
    CK_BYTE_PTR, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_ULONG_PTR, CKR_BUFFER_TOO_SMALL, CKR_DEVICE_ERROR, CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_KEY_HANDLE_INVALID, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED,
};
use vault_proto::local::v1::Sign;

use crate::{
    attributes::Class,
    fork,
    mechanism::Mechanism,
    memory::{Room, bytes, fill, read, room},
    rv::{Result, Rv, ck_rv, fail},
    state::{Session, Signing},
};

pub(super) unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: CK_MECHANISM_PTR,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    ck_rv(|| {
        let mut inside = fork::current()?.lock();
        if inside.session(session)?.signing.is_some() {
            return fail(CKR_OPERATION_ACTIVE);
        }
        // SAFETY: null or a CK_MECHANISM (section 5.11).
        let given = unsafe { read(mechanism) }?;
        let mechanism = Mechanism::find(given.mechanism)?;
        let object = inside.objects.get(key).or_else(|_| fail(CKR_KEY_HANDLE_INVALID))?;
        match object.class {
            Class::Private => {}
            Class::Public => return fail(CKR_KEY_FUNCTION_NOT_PERMITTED),
            Class::Certificate => return fail(CKR_KEY_HANDLE_INVALID),
        }
        let key = Arc::clone(&object.key);
        mechanism.fits(&key)?;
        // SAFETY: the mechanism's parameter is null or as long as it says (section 5.11).
        let pss = unsafe { mechanism.parameters(&given, &key) }?;
        inside.session(session)?.signing = Some(Signing { key, mechanism, pss, parts: None });
        Ok(())
    })
}

pub(super) unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    signature: CK_BYTE_PTR,
    room: CK_ULONG_PTR,
) -> CK_RV {
    ck_rv(|| {
        // SAFETY: the caller's place for the signature (section 5.11).
        let signing = unsafe { take(session, signature, room, End::OfOne) }?;
        let Some(signing) = signing else { return Ok(()) };
        // SAFETY: null or so many bytes (section 5.11).
        let data = unsafe { bytes(data, length) }?;
        // SAFETY: the caller's place for the signature.
        unsafe { finish(signing, data, signature, room) }
    })
}

pub(super) unsafe extern "C" fn sign_update(
    session: CK_SESSION_HANDLE,
    part: CK_BYTE_PTR,
    length: CK_ULONG,
) -> CK_RV {
    ck_rv(|| {
        let mut inside = fork::current()?.lock();
        let session = inside.session(session)?;
        // Taken, because a failure ends it.
        let mut signing = begun(session)?;
        if !signing.mechanism.takes_parts() {
            return fail(CKR_OPERATION_NOT_INITIALIZED);
        }
        // SAFETY: null or so many bytes (section 5.11).
        let part = unsafe { bytes(part, length) }?;
        let parts = signing.parts.get_or_insert_default();
        let whole = parts.len().saturating_add(part.len());
        signing.mechanism.takes(whole, &signing.key, signing.pss.as_ref())?;
        parts.extend(part);
        session.signing = Some(signing);
        Ok(())
    })
}

pub(super) unsafe extern "C" fn sign_final(
    session: CK_SESSION_HANDLE,
    signature: CK_BYTE_PTR,
    room: CK_ULONG_PTR,
) -> CK_RV {
    ck_rv(|| {
        // SAFETY: the caller's place for the signature (section 5.11).
        let signing = unsafe { take(session, signature, room, End::OfParts) }?;
        let Some(mut signing) = signing else { return Ok(()) };
        let data = signing.parts.take().unwrap_or_default();
        // SAFETY: the caller's place for the signature.
        unsafe { finish(signing, &data, signature, room) }
    })
}

/// What is about to end: C_Sign ends what has no parts, C_SignFinal what may have some.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    OfOne,
    OfParts,
}

fn begun(session: &mut Session) -> Result<Signing> {
    session.signing.take().map_or_else(|| fail(CKR_OPERATION_NOT_INITIALIZED), Ok)
}

/// Takes the signature that was begun out of its session: it ends, whatever comes now, unless the
/// caller asks for the length (none is answered) or has too little room. Both cost no question.
///
/// # Safety
/// `length` is null or points to a CK_ULONG.
unsafe fn take(
    session: CK_SESSION_HANDLE,
    signature: CK_BYTE_PTR,
    length: CK_ULONG_PTR,
    end: End,
) -> Result<Option<Signing>> {
    let mut inside = fork::current()?.lock();
    let session = inside.session(session)?;
    let signing = begun(session)?;
    let fits = match end {
        End::OfOne => signing.parts.is_none(),
        End::OfParts => signing.mechanism.takes_parts(),
    };
    if !fits {
        return fail(CKR_OPERATION_NOT_INITIALIZED);
    }
    // SAFETY: the caller's promise.
    let room = unsafe { room(signing.key.signature_length, signature, length) };
    match room {
        Ok(Room::Enough) => return Ok(Some(signing)),
        Ok(Room::Asked) | Err(Rv(CKR_BUFFER_TOO_SMALL)) => session.signing = Some(signing),
        Err(_) => {}
    }
    room.map(|_| None)
}

/// Has it signed. No lock is held.
///
/// # Safety
/// `signature` points to `*length` bytes, which are enough.
unsafe fn finish(
    signing: Signing,
    data: &[u8],
    signature: CK_BYTE_PTR,
    length: CK_ULONG_PTR,
) -> Result {
    let Signing { key, mechanism, pss, .. } = signing;
    mechanism.takes(data.len(), &key, pss.as_ref())?;
    let question =
        Sign { key_id: key.said.id.clone(), mechanism: mechanism.code, pss, data: data.to_vec() };
    let answer = fork::current()?.agent.sign(question)?;
    if answer.len() != key.signature_length {
        return fail(CKR_DEVICE_ERROR);
    }
    // SAFETY: the caller's promise.
    unsafe { fill(&answer, signature, length) }
}
