//! An object store in memory that remembers what was asked of it.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;

use crate::{RangeSource, Store};

#[derive(Debug, Default, Clone)]
pub(crate) struct Watched {
    inner: Arc<InMemory>,
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Watched {
    pub(crate) fn store(&self) -> Store {
        let io = tokio::runtime::Handle::current();
        Store::Remote { store: Arc::new(self.clone()), root: "s3://b".into(), is_web: false, io }
    }

    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> RangeSource {
        self.inner.put(&Path::parse(path).unwrap(), bytes.into()).await.unwrap();
        RangeSource::open(&self.store(), path, &Default::default()).await.unwrap()
    }

    /// The bytes of each request since the last call.
    pub(crate) fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let result = self.inner.get_opts(at, options).await?;
        if !head {
            self.asked.lock().unwrap().push(result.range.end - result.range.start);
        }
        Ok(result)
    }

    fn delete_stream(&self, all: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
