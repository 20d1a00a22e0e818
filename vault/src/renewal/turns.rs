//! Which of a certificate's accounts orders it: its own, and where that cannot, those of other CAs in turn.

use vault_proto::ids::AccountName;

use super::Issuer;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{AccountStatus, AlertKind, CertificateRecord, Turn};

/// How often an account is tried that might yet do it, before the next one's turn.
const TRIES: u32 = 3;

/// Whose turn it is after a failure of the account whose turn it was, of so many.
///
/// A CA that is away, and a proof that did not come about, may do better the next time; what a CA
/// refuses it refuses again. After the last account it is the first one's turn again.
pub(super) fn after_failure(turn: Turn, accounts: usize, kind: ErrorKind) -> Turn {
    let failures = turn.failures.saturating_add(1);
    let hopeful =
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::Verification);
    let accounts = u32::try_from(accounts).unwrap_or(u32::MAX).max(1);
    match hopeful && failures < TRIES {
        true => Turn { place: turn.place, failures },
        false => Turn { place: (turn.place.saturating_add(1)) % accounts, failures: 0 },
    }
}

impl Issuer {
    /// Notes a failure; whether it is another account's turn now.
    pub(super) async fn pass_turn(
        &self,
        certificate: &CertificateRecord,
        error: &Error,
    ) -> Result<bool> {
        let accounts = certificate.accounts();
        if accounts.len() < 2 {
            return Ok(false);
        }
        let next = after_failure(certificate.turn, accounts.len(), error.kind);
        self.store.set_turn(&certificate.name, next).await?;
        self.hub.bump(&certificate.name);
        if next.place == certificate.turn.place {
            return Ok(false);
        }
        let after = CertificateRecord { turn: next, ..certificate.clone() };
        let (from, to) = (certificate.account_in_turn(), after.account_in_turn());
        let detail = format!("account {from} could not order it, account {to} does: {error}");
        let subject = format!("certificate {}", certificate.name);
        // The turn counts, whether or not anybody can be told of it.
        if let Err(error) = self.alerts.raise(AlertKind::FallbackCa, &subject, &detail).await {
            tracing::error!(%error, detail, "an alert cannot be raised");
        }
        Ok(true)
    }

    /// Ends what was alerted of a certificate that is issued now; that another CA does it, where its own
    /// account has ordered it again.
    pub(super) async fn end_alerts(&self, certificate: &CertificateRecord, by: &AccountName) {
        let mut over = vec![AlertKind::AriEarly, AlertKind::CannotRenewInTime];
        if *by == certificate.account {
            over.push(AlertKind::FallbackCa);
        }
        let subject = format!("certificate {}", certificate.name);
        if let Err(error) = self.alerts.clear_all(&over, &subject).await {
            tracing::error!(%error, subject, "alerts cannot be cleared");
        }
    }

    /// Refuses accounts that could not order.
    pub(super) async fn check_accounts(&self, what: &str, accounts: &[AccountName]) -> Result<()> {
        for (at, name) in accounts.iter().enumerate() {
            let subject = || format!("account {name}");
            let account = self.accounts.find(name).await?;
            if account.status != AccountStatus::Valid {
                let why = format!("it is {}", account.status);
                return Err(Error::conflict(what, subject(), why));
            }
            if accounts.iter().take(at).any(|earlier| earlier == name) {
                let why = "it is named twice among the certificate's accounts";
                return Err(Error::invalid(what, subject(), why).hint("name each account once"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ca_that_refuses_is_not_asked_again_before_the_others() {
        let turn = after_failure(Turn::default(), 3, ErrorKind::Denied);
        assert_eq!(turn, Turn { place: 1, failures: 0 });
    }

    #[test]
    fn a_ca_that_is_away_is_tried_again_before_the_next_one() {
        let mut turn = Turn::default();
        for failures in 1..TRIES {
            turn = after_failure(turn, 2, ErrorKind::Unavailable);
            assert_eq!(turn, Turn { place: 0, failures });
        }
        turn = after_failure(turn, 2, ErrorKind::Unavailable);
        assert_eq!(turn, Turn { place: 1, failures: 0 });
    }

    proptest! {
        #[test]
        fn every_account_gets_its_turn(accounts in 1usize..6, away in prop::collection::vec(any::<bool>(), 20)) {
            let mut turn = Turn::default();
            let mut seen = std::collections::BTreeSet::from([turn.place]);
            for away in away {
                let kind = if away { ErrorKind::Unavailable } else { ErrorKind::Denied };
                turn = after_failure(turn, accounts, kind);
                prop_assert!((turn.place as usize) < accounts);
                seen.insert(turn.place);
            }
            prop_assert_eq!(seen.len(), accounts);
        }
    }
}
