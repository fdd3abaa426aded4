//! A store that remembers which files were begun through it, so that a failed task can take back all of them, and that
//! gives data files names by which their run is known.
//!
//! A file writer tells its files only when it is closed, and one that failed cannot be closed any more.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use deltalake::logstore::ObjectStoreRef;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// The paths of files that were begun.
pub(crate) type Begun = Arc<Mutex<Vec<String>>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Created {
    inner: ObjectStoreRef,
    begun: Begun,
    prefix: Option<String>,
}

impl Created {
    /// Wraps a store; what is begun through it is in the list.
    #[cfg_attr(not(feature = "datafusion"), allow(dead_code, reason = "only a merge has files of other names"))]
    pub(crate) fn watch(inner: ObjectStoreRef) -> (ObjectStoreRef, Begun) {
        let begun = Begun::default();
        (Arc::new(Self { inner, begun: begun.clone(), prefix: None }), begun)
    }

    /// Wraps a store as [`watch`](Self::watch) does, and gives every new file its name by [`renamed`].
    pub(crate) fn named(inner: ObjectStoreRef, prefix: String) -> (ObjectStoreRef, Begun) {
        let begun = Begun::default();
        (Arc::new(Self { inner, begun: begun.clone(), prefix: Some(prefix) }), begun)
    }

    fn begin(&self, location: &Path) -> Result<Path> {
        let location = match &self.prefix {
            Some(prefix) => Path::parse(renamed(location.as_ref(), prefix))?,
            None => location.clone(),
        };
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(location.to_string());
        Ok(location)
    }
}

/// The begun files, and none from now on.
pub(crate) fn begun_files(begun: &Begun) -> Vec<String> {
    std::mem::take(&mut *begun.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The name of a data file with `prefix` in place of the file writer's `part-`; the writer's own random part stays, so
/// that two attempts of one number, in two processes, never write the same file.
pub(crate) fn renamed(path: &str, prefix: &str) -> String {
    let (folder, file) = path.rsplit_once('/').map_or(("", path), |(folder, file)| (folder, file));
    let file = file.strip_prefix("part-").unwrap_or(file);
    match folder {
        "" => format!("{prefix}{file}"),
        folder => format!("{folder}/{prefix}{file}"),
    }
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Created {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(&self.begin(location)?, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(&self.begin(location)?, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
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
