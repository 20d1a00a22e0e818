//! The caller's memory: every pointer is checked for null and every length for overflow before it is
//! followed. That a pointer which is not null points to what the standard says, nobody can check.

use std::{ffi::c_void, slice};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_PTR, CK_ATTRIBUTE_TYPE, CK_ULONG, CKR_ARGUMENTS_BAD,
    CKR_BUFFER_TOO_SMALL,
};

use crate::rv::{Result, fail};

/// Whether the caller has room for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It asks how much it needs, and was told.
    Asked,
    /// There is enough.
    Enough,
}

/// That there is a place to write to, before there is something to write.
pub(crate) fn there<T>(pointer: *const T) -> Result {
    if pointer.is_null() { fail(CKR_ARGUMENTS_BAD) } else { Ok(()) }
}

/// Reads what the caller points to.
///
/// # Safety
/// `from` is null or points to a `T`.
pub(crate) unsafe fn read<T: Copy>(from: *const T) -> Result<T> {
    there(from)?;
    // SAFETY: not null, so the caller's promise holds; callers align as they like.
    Ok(unsafe { from.read_unaligned() })
}

/// Writes to where the caller points.
///
/// # Safety
/// `to` is null or points to memory for a `T`.
pub(crate) unsafe fn write<T: Copy>(to: *mut T, value: T) -> Result {
    there(to)?;
    // SAFETY: not null, so the caller's promise holds; callers align as they like.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// The caller's bytes; none of them where the length is 0, wherever the pointer points.
///
/// # Safety
/// `from` is null or points to `length` bytes, which nobody writes for as long as they are used.
pub(crate) unsafe fn bytes<'a>(from: *const u8, length: CK_ULONG) -> Result<&'a [u8]> {
    let length = sized::<u8>(length)?;
    if length == 0 {
        return Ok(&[]);
    }
    there(from)?;
    // SAFETY: not null and not too long, so the caller's promise holds.
    Ok(unsafe { slice::from_raw_parts(from, length) })
}

/// Section 5.2: how a function answers with something whose length the caller need not know. Without
/// `to`, or where `*count` is too small, `*count` becomes what is needed.
///
/// # Safety
/// `count` is null or points to a CK_ULONG.
pub(crate) unsafe fn room<T>(needed: usize, to: *const T, count: *mut CK_ULONG) -> Result<Room> {
    // SAFETY: the caller's promise.
    let given = unsafe { read(count) }?;
    let needed = needed as CK_ULONG;
    if !to.is_null() && given >= needed {
        return Ok(Room::Enough);
    }
    // SAFETY: the caller's promise.
    unsafe { write(count, needed) }?;
    if to.is_null() { Ok(Room::Asked) } else { fail(CKR_BUFFER_TOO_SMALL) }
}

/// Answers by section 5.2.
///
/// # Safety
/// `count` is null or points to a CK_ULONG, and `to` is null or points to memory for so many `T`.
pub(crate) unsafe fn fill<T: Copy>(items: &[T], to: *mut T, count: *mut CK_ULONG) -> Result {
    // SAFETY: the caller's promise.
    if unsafe { room(items.len(), to, count) }? == Room::Enough {
        // SAFETY: `to` is not null and has room for `*count`, which is no less; as bytes, because
        // callers align as they like.
        unsafe { to.cast::<u8>().copy_from(items.as_ptr().cast(), size_of_val(items)) };
        // SAFETY: the caller's promise.
        unsafe { write(count, items.len() as CK_ULONG) }?;
    }
    Ok(())
}

/// A template: what the caller knows of attributes or wants to.
pub(crate) struct Template {
    first: CK_ATTRIBUTE_PTR,
    count: usize,
}

impl Template {
    /// # Safety
    /// `first` is null or points to `count` attributes, each with a value that is null or points to
    /// as many bytes as it says, for as long as this lives.
    pub(crate) unsafe fn new(first: CK_ATTRIBUTE_PTR, count: CK_ULONG) -> Result<Self> {
        let count = sized::<CK_ATTRIBUTE>(count)?;
        if count > 0 {
            there(first)?;
        }
        Ok(Self { first, count })
    }

    /// What it asks for: each type with its value.
    pub(crate) fn wanted(&self) -> Result<Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>> {
        let mut wanted = Vec::with_capacity(self.count.min(64));
        for index in 0..self.count {
            // SAFETY: `new`'s promise, and `index` is below the count.
            let attribute = unsafe { read(self.first.add(index)) }?;
            // SAFETY: `new`'s promise.
            let value = unsafe { bytes(attribute.pValue.cast(), attribute.ulValueLen) }?;
            wanted.push((attribute.type_, value.to_vec()));
        }
        Ok(wanted)
    }

    /// Hands each attribute to `answer`, which says its new length and, with it, its value where the
    /// caller has room. All are answered, whatever becomes of one.
    pub(crate) fn answer(&self, mut answer: impl FnMut(&Place) -> CK_ULONG) -> Result {
        for index in 0..self.count {
            // SAFETY: `new`'s promise, and `index` is below the count.
            let place = unsafe { self.first.add(index) };
            // SAFETY: likewise.
            let mut attribute = unsafe { read(place) }?;
            let CK_ATTRIBUTE { type_, pValue, ulValueLen } = attribute;
            attribute.ulValueLen = answer(&Place { type_, value: pValue, length: ulValueLen });
            // SAFETY: likewise.
            unsafe { write(place, attribute) }?;
        }
        Ok(())
    }
}

/// Where an attribute's value is wanted.
pub(crate) struct Place {
    /// Which attribute.
    pub(crate) type_: CK_ATTRIBUTE_TYPE,
    value: *mut c_void,
    length: CK_ULONG,
}

impl Place {
    /// Puts the value there, unless only its length is asked for; false where it does not fit.
    pub(crate) fn put(&self, value: &[u8]) -> bool {
        if self.value.is_null() {
            return true;
        }
        if self.length < value.len() as CK_ULONG {
            return false;
        }
        // SAFETY: `Template::new`'s promise: there is room for `length` bytes, which is no less.
        unsafe { self.value.cast::<u8>().copy_from(value.as_ptr(), value.len()) };
        true
    }
}

/// A count of `T` that can be in memory at all.
fn sized<T>(count: CK_ULONG) -> Result<usize> {
    let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size_of::<T>()));
    match bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        true => Ok(count as usize),
        false => fail(CKR_ARGUMENTS_BAD),
    }
}
