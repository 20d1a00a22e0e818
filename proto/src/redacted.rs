//! What is shown of messages that carry secrets.

use std::fmt;

use crate::v1::RestoreBegin;

impl fmt::Debug for RestoreBegin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreBegin")
            .field("identities", &self.identities.len())
            .field("shares", &self.shares.len())
            .field("size", &self.size)
            .field("sha256", &self.sha256)
            .field("allow_stale", &self.allow_stale)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{RestoreRequest, restore_request::Part};

    #[test]
    fn what_opens_a_backup_is_never_shown() {
        let begin = RestoreBegin {
            identities: vec![b"AGE-SECRET-KEY-1".to_vec()],
            shares: vec![b"a share".to_vec()],
            ..Default::default()
        };
        for shown in [
            format!("{begin:?}"),
            format!("{:?}", RestoreRequest { part: Some(Part::Begin(begin.clone())) }),
            format!("{:?}", Part::Begin(begin)),
        ] {
            let secret = format!("{:?}", b"AGE-SECRET-KEY-1".as_slice());
            assert!(!shown.contains("SECRET") && !shown.contains(&secret), "{shown}");
            assert!(shown.contains("shares: 1"), "{shown}");
        }
    }
}
