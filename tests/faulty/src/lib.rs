//! A PKCS#11 module that is another one until it is told to fail.
//!
//! `FAULTY_MODULE` names the module that does the work; the file that `FAULTY_CONTROL` names has the
//! fault that is in force now. Every function of v2.40 goes to the other module, or is
//! answered as a token that is lost would. The loss is real: sessions are closed, the user logged out
//! or the module finalised, so that who goes on with what he had before is found out.
#![allow(unsafe_code)] // C calls us and is called by us: `module` and `functions` alone do that
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::expect_used, clippy::panic)] // a testkit fails loudly

mod fault;
mod functions;
mod module;
