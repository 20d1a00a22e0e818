//! Connections for signatures of web servers (`agents.proto` says what is said on them): each message
//! is behind its length.

use std::{io, marker::PhantomData, os::fd::AsFd, time::Duration};

use bytes::{Bytes, BytesMut};
use prost::Message;
use rustix::net::sockopt;
use tokio_util::codec::{Decoder, Encoder, Framed, LengthDelimitedCodec};

use crate::v1::{TlsSignAnswers, TlsSignRequests};

/// The longest message, in bytes: far more than 64 signatures or what they are of.
const LONGEST: usize = 1 << 20;
/// How long nothing comes before the kernel asks whether the other end is there, and how often it
/// asks again: what HTTP/2's pings are for other connections.
const ASKED: (Duration, Duration, u32) = (Duration::from_secs(20), Duration::from_secs(5), 2);
/// How long what was sent may stay unconfirmed.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// Sends `Out`, receives `In`.
#[derive(Debug)]
pub struct Frames<Out, In> {
    lengths: LengthDelimitedCodec,
    messages: PhantomData<fn(Out) -> In>,
}

/// A vault's end.
pub type VaultEnd<S> = Framed<S, Frames<TlsSignAnswers, TlsSignRequests>>;
/// An agent's end.
pub type AgentEnd<S> = Framed<S, Frames<TlsSignRequests, TlsSignAnswers>>;

impl<Out, In> Default for Frames<Out, In> {
    fn default() -> Self {
        let lengths = LengthDelimitedCodec::builder().max_frame_length(LONGEST).new_codec();
        Self { lengths, messages: PhantomData }
    }
}

impl<Out: Message, In> Encoder<Out> for Frames<Out, In> {
    type Error = io::Error;

    fn encode(&mut self, message: Out, into: &mut BytesMut) -> io::Result<()> {
        self.lengths.encode(Bytes::from(message.encode_to_vec()), into)
    }
}

impl<Out, In: Message + Default> Decoder for Frames<Out, In> {
    type Item = In;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<In>> {
        let Some(message) = self.lengths.decode(from)? else { return Ok(None) };
        let malformed = |e| io::Error::new(io::ErrorKind::InvalidData, e);
        In::decode(message).map(Some).map_err(malformed)
    }
}

/// Lets the kernel end a TCP connection whose other end is gone without a word.
///
/// # Errors
/// Where the socket is none of TCP.
pub fn notice_loss(socket: impl AsFd) -> io::Result<()> {
    let (after, every, times) = ASKED;
    sockopt::set_tcp_keepidle(&socket, after)?;
    sockopt::set_tcp_keepintvl(&socket, every)?;
    sockopt::set_tcp_keepcnt(&socket, times)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    let unconfirmed = u32::try_from(UNCONFIRMED.as_millis()).map_err(io::Error::other)?;
    Ok(sockopt::set_tcp_user_timeout(&socket, unconfirmed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::TlsSignRequest;

    fn asked() -> TlsSignRequests {
        let request = TlsSignRequest { id: 7, data: vec![1; 98], ..TlsSignRequest::default() };
        TlsSignRequests { requests: vec![request] }
    }

    #[test]
    fn a_message_that_comes_in_pieces_is_read_once_it_is_whole() {
        let mut bytes = BytesMut::new();
        let mut up = Frames::<TlsSignRequests, TlsSignAnswers>::default();
        up.encode(asked(), &mut bytes).unwrap();
        up.encode(asked(), &mut bytes).unwrap();
        let mut down = Frames::<TlsSignAnswers, TlsSignRequests>::default();
        let (mut come, mut read) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            come.extend([byte]);
            read.extend(down.decode(&mut come).unwrap());
        }
        assert_eq!(read, [asked(), asked()]);
    }

    #[test]
    fn a_length_beyond_reason_is_refused_before_anything_is_kept_for_it() {
        let mut down = Frames::<TlsSignAnswers, TlsSignRequests>::default();
        let mut come = BytesMut::from(&[0xff; 8][..]);
        assert!(down.decode(&mut come).is_err());
    }
}
