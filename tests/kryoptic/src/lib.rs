//! Kryoptic as a loadable PKCS#11 module: it exports `C_GetFunctionList`, `C_GetInterface` and
//! `C_GetInterfaceList`, so that the key store's conformance suite runs against a second,
//! independent token. Configured by `KRYOPTIC_CONF`.

pub use kryoptic_lib::*;
