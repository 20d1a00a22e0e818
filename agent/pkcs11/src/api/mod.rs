//! The C functions, a file for each chapter of PKCS#11 v2.40 section 5.

mod general;
mod object;
mod session;
mod sign;
mod slot;
mod unsupported;

/// The texts of CK_INFO and its kin: so long, filled up with blanks, whole characters only.
fn padded<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut padded = [b' '; LENGTH];
    let end = text.floor_char_boundary(LENGTH);
    padded[..end].copy_from_slice(&text.as_bytes()[..end]);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_filled_up_or_cut_between_characters() {
        assert_eq!(&padded::<6>("web1"), b"web1  ");
        assert_eq!(&padded::<3>("web1"), b"web");
        assert_eq!(padded::<4>("wö€"), *"wö ".as_bytes());
    }
}
