//! The local file system as a store whose files outlive a loss of power once the call that made them has returned: a
//! record of a finished split, or a version of the log, must not be there before the rows it speaks of.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// The whole local file system; new files and the folders above them, up to `top`, are synced.
#[derive(Debug)]
pub(crate) struct Durable {
    inner: Arc<LocalFileSystem>,
    top: Arc<PathBuf>,
}

impl Durable {
    /// `top` is the highest folder that a table's files may be the first in.
    pub(crate) fn new(top: PathBuf) -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), top: Arc::new(top) }
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

fn failed(path: &FsPath) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| {
        let path = path.display().to_string();
        match source.kind() {
            ErrorKind::NotFound => Error::NotFound { path, source: source.into() },
            ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: source.into() },
            ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: source.into() },
            _ => Error::Generic { store: "local", source: source.into() },
        }
    }
}

/// Syncs the folders above `path`, up to `top`.
fn sync_folders(path: &FsPath, top: &FsPath) -> std::io::Result<()> {
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(top)) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Writes a whole file beside its place, syncs it, and only then gives it its name.
fn put(path: &FsPath, payload: &PutPayload, create: bool, top: &FsPath) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The store's listings leave out names that end so.
    let nonce = format!("#{}{:010}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut staged = path.as_os_str().to_owned();
    staged.push(nonce);
    let staged = PathBuf::from(staged);
    let written = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = File::options().write(true).create_new(true).open(&staged)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        // A link fails where there is a file, a rename replaces it.
        if create {
            std::fs::hard_link(&staged, path)?;
        } else {
            std::fs::rename(&staged, path)?;
        }
        Ok(())
    };
    let done = written();
    if create || done.is_err() {
        // What cannot be removed is litter that no listing shows.
        let _ = std::fs::remove_file(&staged);
    }
    done.and_then(|()| sync_folders(path, top)).map_err(failed(path))
}

async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|source| Error::Generic { store: "local", source: source.into() })?
}

/// An upload whose file is synced when it is complete.
#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    path: PathBuf,
    top: Arc<PathBuf>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        let (path, top) = (self.path.clone(), self.top.clone());
        blocking(move || {
            let synced = || File::open(&path)?.sync_all().and_then(|()| sync_folders(&path, &top));
            synced().map_err(failed(&path))
        })
        .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Durable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) || !opts.attributes.is_empty() {
            return self.inner.put_opts(location, payload, opts).await;
        }
        let (path, top) = (self.inner.path_to_filesystem(location)?, self.top.clone());
        blocking(move || put(&path, &payload, opts.mode == PutMode::Create, &top)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(Upload { inner, path, top: self.top.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;

    use super::*;

    #[tokio::test]
    async fn a_file_is_created_once_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Durable::new(folder.path().to_owned());
        let path = Path::from_absolute_path(folder.path().join("new folder/record.json")).unwrap();
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&path, "one".into(), create()).await.unwrap();
        let again = store.put_opts(&path, "two".into(), create()).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap().as_ref(), b"one");
        store.put(&path, "two".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap().as_ref(), b"two");
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("three".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(std::fs::read(folder.path().join("new folder/record.json")).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(folder.path().join("new folder")).unwrap().count(), 1);
    }
}
