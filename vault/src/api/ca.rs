//! What an account's CA says of itself, asked while somebody waits for the answer.

use std::time::Duration;

use vault_proto::v1;

use crate::accounts::Accounts;
use crate::acme::Directory;
use crate::store::AccountRecord;

/// How long a CA may take to say it: what the vault itself knows is shown in any case.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the CA says, or that it does not.
pub(super) async fn directory(accounts: &Accounts, account: &AccountRecord) -> v1::CaDirectory {
    match tokio::time::timeout(DEADLINE, accounts.directory(account)).await {
        Ok(Ok(directory)) => said(directory),
        Ok(Err(error)) => silent(error.to_string()),
        Err(_) => silent(format!("no answer within {DEADLINE:?}")),
    }
}

fn silent(problem: String) -> v1::CaDirectory {
    let problem = problem.chars().filter(|c| !c.is_control()).collect();
    v1::CaDirectory { problem, ..Default::default() }
}

fn said(directory: Directory) -> v1::CaDirectory {
    let profile = |(name, description)| v1::AcmeProfile { name, description };
    v1::CaDirectory {
        available: true,
        problem: String::new(),
        terms_of_service: directory.terms_of_service.unwrap_or_default(),
        website: directory.website.unwrap_or_default(),
        external_account_required: directory.external_account_required,
        renewal_info: directory.renewal_info.is_some(),
        profiles: directory.profiles.into_iter().map(profile).collect(),
    }
}
