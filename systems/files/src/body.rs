//! A remote file's bytes from front to back, a window at a time.
//!
//! What a store sends is received on a runtime of its own and waits there, however much it is, for whoever takes it: with a slow
//! target all of a file would be in memory. So no more is asked for than may lie there. It also keeps requests short, for
//! the client's `timeout` is one for a whole request.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, Result};

/// How many bytes are asked for at once: few enough for memory, and so many that the wait for an answer hardly counts.
const WINDOW: u64 = 16 << 20;

struct Body {
    store: Arc<dyn ObjectStore>,
    key: Path,
    is_web: bool,
    /// What has not been asked for.
    rest: Range<u64>,
    /// What was asked for last.
    window: BoxStream<'static, Result<Bytes>>,
    /// The file as it was first seen.
    first: Option<ObjectMeta>,
}

/// Some bytes of a file, or all of them. A web server that gives no part of it, as of an empty file, may yet give it
/// [whole](crate::whole).
///
/// # Errors
/// Those of the store; [`Precondition`](Error::Precondition) where the file has been replaced in between.
pub(crate) async fn body(
    store: Arc<dyn ObjectStore>,
    key: Path,
    range: Option<Range<u64>>,
    is_web: bool,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let whole = range.is_none();
    let rest = range.unwrap_or(0..u64::MAX);
    let mut body = Body { store, key, is_web, rest, window: stream::empty().boxed(), first: None };
    // What is not there is told of at once. Of an empty file there are no bytes to be asked for.
    if let Err(error) = body.ask().await {
        // What a web server says about a file without sending it may be said of every file.
        if is_web {
            return Err(error);
        }
        match body.store.head(&body.key).await {
            Ok(found) if whole && found.size == 0 => body.rest = 0..0,
            _ => return Err(error),
        }
    }
    let next = |mut body: Body| async move { Ok(body.next().await?.map(|bytes| (bytes, body))) };
    Ok(stream::try_unfold(body, next).boxed())
}

impl Body {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.window.next().await {
                return bytes.map(Some);
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            self.ask().await?;
        }
    }

    /// Asks for the next window, if there is more.
    async fn ask(&mut self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let end = self.rest.end.min(self.rest.start + WINDOW);
        let options = GetOptions { range: Some(GetRange::Bounded(self.rest.start..end)), ..GetOptions::default() };
        let found = self.store.get_opts(&self.key, options).await?;
        match &self.first {
            Some(first) if !is_same(first, &found.meta, self.is_web) => {
                return Err(Error::Precondition {
                    path: self.key.to_string(),
                    source: "the file was replaced while it was read".into(),
                });
            }
            Some(_) => {}
            None => self.first = Some(found.meta.clone()),
        }
        // What was asked for may reach beyond the file's end.
        self.rest = end..self.rest.end.min(found.meta.size).max(end);
        self.window = found.into_stream();
        Ok(())
    }
}

/// Whether two answers are about the same bytes.
fn is_same(a: &ObjectMeta, b: &ObjectMeta, is_web: bool) -> bool {
    let of_one_time = (a.size, a.last_modified) == (b.size, b.last_modified);
    match (&a.e_tag, &b.e_tag) {
        (Some(x), Some(y)) if x == y => true,
        // Behind one address there may be several servers, each with a tag of its own. Who says no time has the driver's.
        (Some(_), Some(_)) => is_web && of_one_time && a.last_modified != DateTime::<Utc>::UNIX_EPOCH,
        _ => of_one_time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn a_file_comes_in_windows_all_of_one_version() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let bytes: Vec<u8> = (0..2 * WINDOW + 3).map(|i| (i % 251) as u8).collect();
        let key = Path::from("a");
        store.put(&key, bytes.clone().into()).await.unwrap();
        let read = async |range: Option<Range<u64>>| {
            let mut read = Vec::new();
            let mut pieces = 0;
            let mut body = body(store.clone(), key.clone(), range, false).await.unwrap();
            while let Some(piece) = body.next().await {
                read.extend_from_slice(&piece.unwrap());
                pieces += 1;
            }
            (read, pieces)
        };
        // The store in memory gives each answer in one piece.
        assert!(read(None).await == (bytes.clone(), 3));
        assert!(read(Some(5..WINDOW + 7)).await == (bytes[5..WINDOW as usize + 7].to_vec(), 2));
        assert!(read(Some(2 * WINDOW..9 * WINDOW)).await == (bytes[2 * WINDOW as usize..].to_vec(), 1));

        let mut half = body(store.clone(), key.clone(), None, false).await.unwrap();
        half.next().await.unwrap().unwrap();
        store.put(&key, bytes.into()).await.unwrap();
        assert!(matches!(half.next().await, Some(Err(Error::Precondition { .. }))));

        store.put(&key, Bytes::new().into()).await.unwrap();
        assert_eq!(read(None).await, (vec![], 0));
        assert!(matches!(body(store, Path::from("b"), None, false).await, Err(Error::NotFound { .. })));
    }
}
