//! Keeping what must survive the HSM: so far the ceremony that makes the KEK.

pub mod ceremony;
