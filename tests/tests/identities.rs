//! Who is who, and what each may do: operators, auditors, agents, nobody known; and certificates
//! that do not count.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

mod identities {
    mod calls;
    mod refused;
    mod roles;
}
