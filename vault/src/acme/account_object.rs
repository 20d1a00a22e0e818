//! An account's own object: its contacts (RFC 8555 section 7.3.2) and its agreement to the CA's terms
//! (section 7.3.3).

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Account, account::parse_url};
use crate::error::{Error, Result};

#[derive(Deserialize)]
struct AccountObject {
    status: String,
}

impl Account {
    /// Replaces the account's contacts.
    ///
    /// # Errors
    /// `Invalid` where the CA takes one of them not, else what it says.
    pub async fn update_contacts(&self, contacts: &[String]) -> Result<()> {
        self.change(&json!({ "contact": contacts })).await
    }

    /// Agrees to the terms of service as they are now. The contacts stay: some CAs take no update that
    /// has none.
    ///
    /// # Errors
    /// What the CA says.
    pub async fn agree(&self, contacts: &[String]) -> Result<()> {
        self.change(&json!({ "termsOfServiceAgreed": true, "contact": contacts })).await
    }

    async fn change(&self, change: &Value) -> Result<()> {
        let url = parse_url(&self.ca, self.inner.id())?;
        let answer = self.post(&url, change.to_string().as_bytes()).await?;
        let account: AccountObject = self.read(&answer)?;
        match account.status.as_str() {
            "valid" => Ok(()),
            status => {
                Err(Error::conflict("change the account", &self.ca, format!("it is {status:?}")))
            }
        }
    }
}
