//! What goes wrong between a vault and a CA that are both well, at random and yet by a seed: requests
//! and answers that come late or not at all, and answers that are none of the CA's.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response};
use vault::renewal::planner;

use crate::fault_ca::{Answer, Fault};

/// A random disorder.
#[derive(Debug, Default)]
pub struct Chaos {
    /// The same seed lets the same numbers of requests fail in the same ways.
    pub seed: u64,
    /// How many requests of a hundred meet a fault.
    pub percent: u64,
    /// How many requests have come.
    pub requests: u64,
    /// What has gone wrong: the path, and how.
    pub faults: Vec<(String, &'static str)>,
}

impl Chaos {
    /// One that lets so many requests of a hundred fail.
    pub fn new(seed: u64, percent: u64) -> Self {
        Self { seed, percent, ..Self::default() }
    }

    /// What goes wrong with the next request.
    pub(crate) fn fault(&mut self, path: &str) -> Option<Fault> {
        self.requests += 1;
        // Two numbers of one seed: whether, and how.
        let number = |what: &str| planner::seed(&format!("{what} {}", self.seed), self.requests);
        if number("whether") % 100 >= self.percent {
            return None;
        }
        let html = |status| Fault::Answer(Answer::html(status));
        let body = |text: &str| Fault::Answer(Answer::html(200).body(text.to_owned()));
        let slowly = || {
            let limited = Answer::problem(429, "rateLimited", "slowly");
            Fault::Answer(limited.header("retry-after", "1"))
        };
        let (name, fault) = match number("how") % 11 {
            0 => ("delayed", Fault::Delayed(Duration::from_millis(300))),
            1 => ("cut", Fault::Cut),
            2 => ("lost", Fault::Lost),
            3 => ("500", html(500)),
            4 => ("502", html(502)),
            5 => ("503", html(503)),
            6 => ("429", slowly()),
            7 => ("page", html(200)),
            8 => ("garbage", body("{\"status\": \"val")),
            9 => ("empty", body("")),
            _ => ("stale", Fault::Stale),
        };
        self.faults.push((path.to_owned(), name));
        Some(fault)
    }
}

/// An answer with a nonce that was used before, where one was.
pub(crate) fn stale(mut answer: Response<Bytes>) -> Response<Bytes> {
    static USED: Mutex<Option<HeaderValue>> = Mutex::new(None);
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(nonce) = answer.headers_mut().get_mut("replay-nonce") {
        match used.as_ref() {
            Some(old) => *nonce = old.clone(),
            // It goes out twice from now on: whoever comes second gets a used one.
            None => *used = Some(nonce.clone()),
        }
    }
    answer
}
