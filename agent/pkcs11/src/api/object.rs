//! Section 5.7, object management: finding and reading.

use cryptoki_sys::{
    CK_ATTRIBUTE_PTR, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE_PTR, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_ULONG_PTR, CK_UNAVAILABLE_INFORMATION, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_BUFFER_TOO_SMALL, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED,
};

use crate::{
    attributes::Attribute,
    fork,
    memory::{Template, there, write},
    rv::{Result, Rv, ck_rv, fail},
    state::Session,
};

pub(super) unsafe extern "C" fn get_attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    ck_rv(|| {
        let object = {
            let mut inside = fork::current()?.lock();
            inside.session(session)?;
            inside.objects.get(object)?.clone()
        };
        // SAFETY: null or a template of so many attributes (section 5.7).
        let template = unsafe { Template::new(template, count) }?;
        let mut first: Result = Ok(());
        template.answer(|place| {
            let code = match object.attribute(place.type_) {
                Attribute::Value(value) if place.put(&value) => return value.len() as CK_ULONG,
                Attribute::Value(_) => CKR_BUFFER_TOO_SMALL,
                Attribute::Sensitive => CKR_ATTRIBUTE_SENSITIVE,
                Attribute::Unknown => CKR_ATTRIBUTE_TYPE_INVALID,
            };
            first = first.and(Err(Rv(code)));
            CK_UNAVAILABLE_INFORMATION
        })?;
        first
    })
}

pub(super) unsafe extern "C" fn find_objects_init(
    session: CK_SESSION_HANDLE,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    ck_rv(|| {
        let state = fork::current()?;
        is_free(state.lock().session(session)?)?;
        // SAFETY: null or a template of so many attributes (section 5.7).
        let wanted = unsafe { Template::new(template, count) }?.wanted()?;
        let found = state.find(&wanted)?;
        let mut inside = state.lock();
        // Once more: while the agent was asked, others could do as they liked.
        let session = inside.session(session)?;
        is_free(session)?;
        session.search = Some(found.into_iter());
        Ok(())
    })
}

fn is_free(session: &Session) -> Result {
    if session.search.is_some() { fail(CKR_OPERATION_ACTIVE) } else { Ok(()) }
}

pub(super) unsafe extern "C" fn find_objects(
    session: CK_SESSION_HANDLE,
    objects: CK_OBJECT_HANDLE_PTR,
    most: CK_ULONG,
    count: CK_ULONG_PTR,
) -> CK_RV {
    ck_rv(|| {
        let mut inside = fork::current()?.lock();
        let Some(search) = &mut inside.session(session)?.search else {
            return fail(CKR_OPERATION_NOT_INITIALIZED);
        };
        there(count)?;
        if most > 0 {
            there(objects)?;
        }
        let mut given: CK_ULONG = 0;
        while given < most {
            let Some(handle) = search.next() else { break };
            // SAFETY: not null, and there is room for `most` of them (section 5.7).
            unsafe { write(objects.add(given as usize), handle) }?;
            given += 1;
        }
        // SAFETY: a CK_ULONG (section 5.7).
        unsafe { write(count, given) }
    })
}

pub(super) unsafe extern "C" fn find_objects_final(session: CK_SESSION_HANDLE) -> CK_RV {
    ck_rv(|| match fork::current()?.lock().session(session)?.search.take() {
        Some(_) => Ok(()),
        None => fail(CKR_OPERATION_NOT_INITIALIZED),
    })
}
