//! Certificates after they were issued: what their CAs say of them since.

pub mod revocation;
