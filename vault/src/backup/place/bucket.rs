//! A bucket of any server that speaks S3: a multipart upload, which is nothing before it is completed.

use std::{fs, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    multipart::{MultipartStore, PartId},
    path::Path,
};
use secrecy::ExposeSecret as _;
use url::Url;

use super::{Contents, Place, Upload};
use crate::config::{S3, SecretSource};
use crate::error::{Error, Result};
use crate::fault::crash_point;

/// Bytes of a part: the least that every server takes, so that a slow line moves one in its time.
const PART: usize = 5 << 20;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a failed request is tried again. A backup waits for its slowest reader only so long, and
/// one that fails is tried again as a whole.
const TRIES: Duration = Duration::from_secs(20);

/// A bucket, and a prefix in it.
pub(super) struct Bucket {
    store: std::sync::Arc<AmazonS3>,
    bucket: String,
    prefix: Path,
}

impl Bucket {
    pub(super) fn open(url: &Url, s3: &S3) -> Result<Self> {
        let bucket = url.host_str().unwrap_or_default().to_owned();
        let subject = format!("bucket {bucket}");
        let wrong = |why: String| {
            Error::invalid("open", subject.as_str(), why).hint("check [backup.s3] of vault.toml")
        };
        let key = |source: &SecretSource| {
            source.read().map_err(|error| wrong(format!("{}: {}", error.subject, error.why)))
        };
        let mut options = ClientOptions::new()
            .with_allow_http(s3.may_use_http())
            .with_connect_timeout(CONNECT)
            .with_timeout(REQUEST);
        if let Some(file) = &s3.ca_file {
            let unreadable = |why: String| wrong(format!("ca_file {}: {why}", file.display()));
            let pem = fs::read(file).map_err(|e| unreadable(e.to_string()))?;
            let roots = Certificate::from_pem_bundle(&pem);
            for root in roots.map_err(|e| unreadable(said(&e)))? {
                options = options.with_root_certificate(root);
            }
        }
        let backoff =
            BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket)
            .with_region(&s3.region)
            .with_access_key_id(key(&s3.access_key)?.expose_secret())
            .with_secret_access_key(key(&s3.secret_key)?.expose_secret())
            .with_client_options(options)
            .with_retry(RetryConfig { backoff, max_retries: 5, retry_timeout: TRIES });
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
        }
        let store = builder.build().map_err(|e| wrong(said(&e)))?;
        let prefix = Path::parse(url.path().trim_matches('/')).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { store: store.into(), bucket, prefix })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> Error {
        failed(&self.bucket, what, error)
    }
}

fn failed(bucket: &str, what: &str, error: &object_store::Error) -> Error {
    let subject = format!("bucket {bucket}");
    let why = said(error);
    match error {
        object_store::Error::NotFound { .. } => Error::not_found(what, subject, why),
        _ => Error::unavailable(what, subject, why),
    }
    .hint("check [backup.s3] of vault.toml, and whether its server runs and lets this key in")
}

/// What an error says, with all that is behind it: the library's own words name no cause.
fn said(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_says = cause.to_string();
        if !said.contains(&cause_says) {
            said = format!("{said}: {cause_says}");
        }
        next = cause.source();
    }
    said
}

#[async_trait]
impl Place for Bucket {
    fn url(&self, name: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.path(name))
    }

    async fn begin(&self, name: &str) -> Result<Box<dyn Upload>> {
        let path = self.path(name);
        let id = self.store.create_multipart(&path).await;
        Ok(Box::new(Multipart {
            id: id.map_err(|e| self.failed("write to", &e))?,
            store: self.store.clone(),
            bucket: self.bucket.clone(),
            name: name.to_owned(),
            path,
            parts: Vec::new(),
            part: BytesMut::with_capacity(PART),
        }))
    }

    async fn discard(&self, _begin: &str, token: Option<&str>) -> Result<()> {
        let Some((name, id)) = token.and_then(|token| token.split_once(' ')) else { return Ok(()) };
        let path = self.path(name);
        match self.store.head(&path).await {
            // It was completed.
            Ok(_) => return Ok(()),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed("clear", &error)),
        }
        match self.store.abort_multipart(&path, &id.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            // Some servers say so of an upload that is gone already, others to a key that may not:
            // no reason to make no more backups.
            Err(
                error @ (object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }),
            ) => {
                tracing::warn!(%error, upload = token, "an upload that was not ended may be left");
                Ok(())
            }
            Err(error) => Err(self.failed("clear", &error)),
        }
    }

    async fn names(&self, begin: &str) -> Result<Vec<String>> {
        let listed = self.store.list(Some(&self.prefix)).try_filter_map(|object| {
            let name = object.location.filename().unwrap_or_default().to_owned();
            let ours = name.starts_with(begin) && object.location == self.path(&name);
            std::future::ready(Ok(ours.then_some(name)))
        });
        let names: object_store::Result<Vec<String>> = listed.try_collect().await;
        let mut names = names.map_err(|e| self.failed("list", &e))?;
        names.sort();
        Ok(names)
    }

    async fn read(&self, name: &str) -> Result<Contents> {
        let got = self.store.get(&self.path(name)).await;
        let got = got.map_err(|e| self.failed("read from", &e))?;
        let bucket = self.bucket.clone();
        Ok(got.into_stream().map_err(move |e| failed(&bucket, "read from", &e)).boxed())
    }

    async fn remove(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove from", &error)),
        }
    }
}

/// An upload that is not completed.
struct Multipart {
    store: std::sync::Arc<AmazonS3>,
    bucket: String,
    name: String,
    path: Path,
    id: String,
    parts: Vec<PartId>,
    /// What is not a whole part yet.
    part: BytesMut,
}

impl Multipart {
    async fn send(&mut self) -> Result<()> {
        crash_point!("store.part");
        let part = self.part.split_to(PART.min(self.part.len())).freeze();
        let number = self.parts.len();
        let sent = self.store.put_part(&self.path, &self.id, number, part.into()).await;
        self.parts.push(sent.map_err(|e| failed(&self.bucket, "write to", &e))?);
        Ok(())
    }
}

#[async_trait]
impl Upload for Multipart {
    fn token(&self) -> String {
        format!("{} {}", self.name, self.id)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.part.extend_from_slice(&bytes);
        // All but the last are of one size: some servers ask for that.
        while self.part.len() >= PART {
            self.send().await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        if !self.part.is_empty() {
            self.send().await?;
        }
        let Self { store, bucket, path, id, parts, .. } = *self;
        let done = store.complete_multipart(&path, &id, parts).await;
        crash_point!("store.named");
        done.map(drop).map_err(|e| failed(&bucket, "write to", &e))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let aborted = self.store.abort_multipart(&self.path, &self.id).await;
        aborted.map_err(|e| failed(&self.bucket, "clear", &e))
    }
}
