//! How much there is of each thing, on the wire and off it.

use vault_proto::v1::BackupCounts;

use crate::Counts;

/// Both ways, so that no field is in one and not in the other.
macro_rules! same_fields {
    ($($field:ident),*) => {
        impl From<&Counts> for BackupCounts {
            fn from(counts: &Counts) -> Self {
                Self { $($field: counts.$field,)* }
            }
        }

        impl From<&BackupCounts> for Counts {
            fn from(counts: &BackupCounts) -> Self {
                Self { $($field: counts.$field,)* }
            }
        }
    };
}

same_fields!(
    keys_wrapped,
    keys_not_escrowed,
    keys_gone,
    settings,
    accounts,
    agents,
    identities,
    certificates,
    versions,
    orders,
    deployments,
    audit_records
);
