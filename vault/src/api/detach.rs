//! A call that has begun is carried to its end, whether its caller waits for it or not.
//!
//! A client that hangs up makes the server drop the call's future wherever it stands. In the middle
//! of a key's birth that would leave an HSM object without a row and an intent without a result
//! until the next start. So each call is a task of its own, which the drain waits for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio_util::task::TaskTracker;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

/// Makes each call a task of its own.
#[derive(Debug, Clone)]
pub struct Detach(pub TaskTracker);

/// A service whose calls outlive their callers.
#[derive(Debug, Clone)]
pub struct Detached<S> {
    inner: S,
    calls: TaskTracker,
}

impl<S> Layer<S> for Detach {
    type Service = Detached<S>;
    fn layer(&self, inner: S) -> Detached<S> {
        Detached { inner, calls: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Detached<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let running = self.calls.spawn(self.inner.call(request));
        Box::pin(async move {
            running.await.unwrap_or_else(|fault| {
                tracing::error!(%fault, "a call ended in a fault of the vault");
                Ok(Status::internal("a fault of the vault").into_http())
            })
        })
    }
}
