//! The ACME client (RFC 8555), whose account keys are in the HSM.
