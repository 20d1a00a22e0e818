//! The HTTPS clients there are, one for each CA, so that its connections are used again.

use std::sync::Arc;

use quick_cache::sync::Cache;
use url::Url;

use super::{
    Ca,
    transport::{Options, Transport},
};
use crate::error::Result;

/// The most CAs whose connections are kept. Few vaults order from more than three.
const MOST: usize = 64;

/// HTTPS clients by CA. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    options: Options,
    known: Arc<Cache<(Url, Option<String>), Transport>>,
}

impl Clients {
    /// None yet; those that come will have these options.
    pub fn new(options: Options) -> Self {
        Self { options, known: Arc::new(Cache::new(MOST)) }
    }

    /// The client of a CA that is to be trusted by these roots.
    pub(super) fn of(&self, ca: &Ca) -> Result<Transport> {
        let key = (ca.directory.clone(), ca.root_pem.clone());
        self.known.get_or_insert_with(&key, || {
            Transport::new(&ca.directory, ca.root_pem.as_deref(), self.options)
        })
    }
}
