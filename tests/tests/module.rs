//! The PKCS#11 module, as programs that know nothing of it use it: a web server's C, pkcs11-tool,
//! OpenSSL's engine and provider. What stands for the agent signs with real keys.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod module {
    mod host;
    mod openssl;
    mod outages;
    mod standard;
    mod tool;
}
