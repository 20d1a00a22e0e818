//! Messages on the agent's socket: four bytes of length, big-endian, then the message.

use std::io;

use prost::Message;
use vault_proto::local::LONGEST_LOCAL_MESSAGE;

/// What is read at once: any signature, or a few keys, in one system call.
const AT_ONCE: usize = 4096;

const HEAD: usize = 4;

/// A message behind its length; none where it is too long to be taken.
pub(crate) fn pack(message: &impl Message) -> Option<Vec<u8>> {
    let length = message.encoded_len();
    let head = u32::try_from(length).ok().filter(|_| length <= LONGEST_LOCAL_MESSAGE)?;
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend(head.to_be_bytes());
    message.encode_raw(&mut frame);
    Some(frame)
}

/// Reads one message by `read`, which is told whether it is called anew.
///
/// # Errors
/// `read`'s own; UnexpectedEof where it ends too early; InvalidData where the length is too long or
/// more comes than was announced.
pub(crate) fn unpack(
    mut read: impl FnMut(&mut [u8], bool) -> io::Result<usize>,
) -> io::Result<Vec<u8>> {
    let mut more = |buffer: &mut [u8], again| match read(buffer, again)? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        count => Ok(count),
    };
    let mut first = [0; AT_ONCE];
    let mut have = more(&mut first, false)?;
    while have < HEAD {
        have += more(&mut first[have..], true)?;
    }
    let [a, b, c, d, rest @ ..] = &first[..have] else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if length > LONGEST_LOCAL_MESSAGE || rest.len() > length {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = rest.to_vec();
    let mut have = message.len();
    message.resize(length, 0);
    while have < length {
        have += more(&mut message[have..], true)?;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vault_proto::local::v1;

    use super::*;

    /// Reads from `bytes` in pieces of these sizes, over and over.
    fn in_pieces(
        mut bytes: &[u8],
        sizes: Vec<usize>,
    ) -> impl FnMut(&mut [u8], bool) -> io::Result<usize> {
        let mut sizes = sizes.into_iter().cycle();
        move |buffer, _| {
            let size = sizes.next().unwrap().min(buffer.len()).min(bytes.len());
            buffer[..size].copy_from_slice(&bytes[..size]);
            bytes = &bytes[size..];
            Ok(size)
        }
    }

    fn signature(bytes: Vec<u8>) -> v1::Signature {
        v1::Signature { signature: bytes }
    }

    proptest! {
        #[test]
        fn a_message_comes_out_as_it_went_in_however_it_is_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..20_000),
            sizes in prop::collection::vec(1_usize..5_000, 1..20),
        ) {
            let message = signature(bytes);
            let frame = pack(&message).unwrap();
            let back = unpack(in_pieces(&frame, sizes)).unwrap();
            prop_assert_eq!(v1::Signature::decode(&*back).unwrap(), message);
        }

        #[test]
        fn a_message_that_is_cut_short_is_an_end_and_no_message(
            bytes in prop::collection::vec(any::<u8>(), 1..9_000),
            sizes in prop::collection::vec(1_usize..5_000, 1..20),
            part in 0.0..1.0,
        ) {
            let frame = pack(&signature(bytes)).unwrap();
            let cut = (frame.len() as f64 * part) as usize;
            let error = unpack(in_pieces(&frame[..cut], sizes)).unwrap_err();
            prop_assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }

        #[test]
        fn no_bytes_make_it_panic_or_believe_a_length(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            sizes in prop::collection::vec(1_usize..50, 1..5),
        ) {
            if let Ok(message) = unpack(in_pieces(&bytes, sizes)) {
                prop_assert!(message.len() + HEAD <= bytes.len());
            }
        }
    }

    #[test]
    fn a_length_that_is_too_long_is_refused_before_anything_is_kept_for_it() {
        let length = u32::try_from(LONGEST_LOCAL_MESSAGE + 1).unwrap().to_be_bytes();
        let error = unpack(in_pieces(&length, vec![4])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(pack(&signature(vec![0; LONGEST_LOCAL_MESSAGE])).is_none());
    }

    #[test]
    fn what_comes_behind_the_answer_spoils_it() {
        let mut frame = pack(&signature(vec![1, 2, 3])).unwrap();
        frame.push(0);
        let error = unpack(in_pieces(&frame, vec![64])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
