//! A directory: a temporary file with mode 0600, synced, renamed, and the directory synced.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use super::{Contents, Place, Upload};
use crate::error::{Error, Result};
use crate::fault::crash_point;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;
/// How the names of files end that are not whole.
const PARTIAL: &str = ".partial";

/// A directory, which must be there: a disk that is not mounted shall be noticed.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.0.join(format!(".{name}{PARTIAL}"))
    }

    async fn files(&self, begin: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let failed = |e: io::Error| self.failed("list", &e);
        let mut entries = tokio::fs::read_dir(&self.0).await.map_err(failed)?;
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(begin) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        Error::unavailable(what, format!("directory {}", self.0.display()), error)
            .hint("see that it is there, that vaultd may write to it, and that it has space")
    }
}

#[async_trait]
impl Place for Directory {
    fn url(&self, name: &str) -> String {
        format!("file://{}", self.0.join(name).display())
    }

    async fn begin(&self, name: &str) -> Result<Box<dyn Upload>> {
        let path = self.partial(name);
        let file = tokio::task::spawn_blocking(move || {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        });
        let file = file.await.map_err(|e| Error::internal("open", "a file", e))?;
        Ok(Box::new(Partial {
            file: File::from_std(file.map_err(|e| self.failed("write to", &e))?),
            directory: Self(self.0.clone()),
            name: name.to_owned(),
        }))
    }

    async fn discard(&self, begin: &str, _token: Option<&str>) -> Result<()> {
        for name in self.files(&format!(".{begin}")).await? {
            if name.ends_with(PARTIAL) {
                remove(&self.0.join(name)).await.map_err(|e| self.failed("clear", &e))?;
            }
        }
        Ok(())
    }

    async fn names(&self, begin: &str) -> Result<Vec<String>> {
        self.files(begin).await
    }

    async fn read(&self, name: &str) -> Result<Contents> {
        let path = self.0.join(name);
        let file = File::open(&path).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                Error::not_found("read", path.display().to_string(), "it is not there")
            }
            _ => self.failed("read from", &e),
        })?;
        let subject = path.display().to_string();
        Ok(stream::try_unfold(file, move |mut file| {
            let subject = subject.clone();
            async move {
                let mut chunk = vec![0; CHUNK];
                let read = file.read(&mut chunk).await;
                let read = read.map_err(|e| Error::unavailable("read", subject, e))?;
                chunk.truncate(read);
                Ok((read > 0).then(|| (Bytes::from(chunk), file)))
            }
        })
        .boxed())
    }

    async fn remove(&self, name: &str) -> Result<()> {
        remove(&self.0.join(name)).await.map_err(|e| self.failed("remove from", &e))
    }
}

async fn remove(path: &Path) -> io::Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file that does not have its name yet.
struct Partial {
    file: File,
    directory: Directory,
    name: String,
}

#[async_trait]
impl Upload for Partial {
    fn token(&self) -> String {
        self.name.clone()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        // Waits until the system has it, so that a full disk is noticed here.
        let written = match self.file.write_all(&bytes).await {
            Ok(()) => self.file.flush().await,
            failed => failed,
        };
        written.map_err(|e| self.directory.failed("write to", &e))
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self { file, directory, name } = *self;
        let done = async {
            file.sync_all().await?;
            crash_point!("store.synced");
            let (from, to) = (directory.partial(&name), directory.0.join(&name));
            tokio::fs::rename(from, to).await?;
            crash_point!("store.named");
            File::open(&directory.0).await?.sync_all().await
        };
        let done: io::Result<()> = done.await;
        done.map_err(|e| directory.failed("write to", &e))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { file, directory, name } = *self;
        drop(file);
        let removed = remove(&directory.partial(&name)).await;
        removed.map_err(|e| directory.failed("clear", &e))
    }
}
