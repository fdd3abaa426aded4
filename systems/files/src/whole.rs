//! A file of a web server that gives no parts of it: all of it is asked for once, and what comes waits in a temporary file
//! for whoever reads it. However slow that is, neither does it wait in memory nor does the server have to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error as Fault, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_core::{Error, ErrorKind, Result};

use crate::spool::{create, spool_error};
use crate::{BLOCK, store_error};

/// Whether a server that has answered so to a request for a part may yet give all of the file.
pub(crate) fn gives_no_parts(error: &Fault) -> bool {
    match error {
        Fault::NotSupported { .. } => true,
        Fault::Generic { .. } => {
            // The driver tells what has become of a request as text only. Any answer but a part is none to what was asked,
            // also that there is no such part: an empty file has none.
            let text = error.to_string();
            if !text.contains("Error performing") {
                return true;
            }
            let status = text.split_once("status code: ").and_then(|(_, status)| status.get(..3));
            // Who is asked too often, or has waited too long, has not looked at what was asked for.
            status.is_some_and(|status| status.starts_with('4') && !["408", "429"].contains(&status))
        }
        _ => false,
    }
}

/// Some bytes of a file, or all of them, while they come.
pub(crate) struct Whole {
    file: Arc<Mutex<File>>,
    /// What has not been read.
    rest: Range<u64>,
    /// How many bytes have come; ends with them.
    come: watch::Receiver<u64>,
    work: Option<JoinHandle<Result<()>>>,
}

impl Whole {
    /// Asks for the file; what comes is received on `io`.
    pub(crate) async fn open(
        store: &Arc<dyn ObjectStore>,
        key: &Path,
        range: Option<Range<u64>>,
        io: &Handle,
        name: &str,
    ) -> Result<Self> {
        let found = store.get(key).await.map_err(|e| store_error(e, name))?;
        let file = Arc::new(Mutex::new(create()?));
        let (sender, come) = watch::channel(0);
        let said = found.meta.size;
        let work = io.spawn(spool(found.into_stream(), said, file.clone(), sender, name.to_owned()));
        Ok(Self { file, rest: range.unwrap_or(0..u64::MAX), come, work: Some(work) })
    }

    /// Adds the next bytes to `buffer`; `false` at the end.
    pub(crate) async fn fill(&mut self, buffer: &mut Vec<u8>, want: usize) -> Result<bool> {
        loop {
            let end = (*self.come.borrow_and_update()).min(self.rest.end);
            if self.rest.start < end {
                let count = (end - self.rest.start).min(want.min(BLOCK) as u64);
                let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(self.rest.start)).map_err(spool_error)?;
                let read = (&mut *file).take(count).read_to_end(buffer).map_err(spool_error)?;
                self.rest.start += read as u64;
                return Ok(read > 0);
            }
            if self.rest.is_empty() {
                return Ok(false);
            }
            if self.come.changed().await.is_err() {
                let Some(work) = self.work.take() else { return Ok(false) };
                let ended =
                    work.await.map_err(|e| Error::internal("receiving a file ended unexpectedly").because(e))?;
                return ended.map(|()| false);
            }
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}

/// Receives the file, whose size the server has said.
async fn spool(
    mut stream: BoxStream<'static, object_store::Result<Bytes>>,
    said: u64,
    file: Arc<Mutex<File>>,
    come: watch::Sender<u64>,
    name: String,
) -> Result<()> {
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|e| store_error(e, &name))?;
        {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&bytes)).map_err(spool_error)?;
        }
        come.send_modify(|come| *come += bytes.len() as u64);
    }
    let all = *come.borrow();
    if all < said {
        let message = format!("the server sent {all} bytes of a file of {said}: run the job again");
        return Err(Error::new(ErrorKind::Unreachable, message).with("file", name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use object_store::RetryConfig;
    use object_store::http::HttpBuilder;

    use super::*;

    fn whole(file: File, pieces: BoxStream<'static, object_store::Result<Bytes>>, range: Range<u64>) -> Whole {
        let file = Arc::new(Mutex::new(file));
        let (sender, come) = watch::channel(0);
        let work = tokio::spawn(spool(pieces, 100_000, file.clone(), sender, "a".into()));
        Whole { file, rest: range, come, work: Some(work) }
    }

    fn pieces() -> impl Iterator<Item = object_store::Result<Bytes>> {
        (0..100u8).map(|n| Ok(Bytes::from(vec![n; 1000])))
    }

    #[tokio::test]
    async fn what_has_come_is_read_before_a_fault_is_told() {
        for (range, expected) in
            [(0..u64::MAX, 100_000), (1500..3500, 2000), (99_999..u64::MAX, 1), (200_000..300_000, 0)]
        {
            let mut all = whole(create().unwrap(), stream::iter(pieces()).boxed(), range.clone());
            let mut read = Vec::new();
            while all.fill(&mut read, 700).await.unwrap() {}
            assert_eq!(read.len(), expected);
            assert!(read.iter().zip(range.start..).all(|(byte, at)| u64::from(*byte) == at / 1000));
            assert!(!all.fill(&mut read, 700).await.unwrap());
        }
        let broken = Fault::Generic { store: "test", source: "broken".into() };
        let mut half = whole(create().unwrap(), stream::iter(pieces().chain([Err(broken)])).boxed(), 0..u64::MAX);
        let mut read = Vec::new();
        let error = loop {
            match half.fill(&mut read, 1 << 20).await {
                Ok(more) => assert!(more, "the end was told"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), read.len()), (ErrorKind::Unreachable, 100_000));
    }

    #[tokio::test]
    async fn less_than_was_said_is_a_fault() {
        let mut short = whole(create().unwrap(), stream::iter(pieces().take(99)).boxed(), 0..u64::MAX);
        let mut read = Vec::new();
        let error = loop {
            match short.fill(&mut read, 1 << 20).await {
                Ok(more) => assert!(more, "the end was told"),
                Err(error) => break error,
            }
        };
        assert!(error.message().contains("99000 bytes of a file of 100000"), "{error}");
        assert_eq!(read.len(), 99_000);
    }

    #[tokio::test]
    async fn a_server_gives_no_parts_unless_it_has_not_looked() {
        for (status, told, expected) in [
            ("400 Bad Request", "", true),
            ("416 Range Not Satisfiable", "content-range: bytes */0\r\n", true),
            ("200 OK", "", true),
            ("206 Partial Content", "content-range: bytes 0-4/*\r\n", true),
            ("403 Forbidden", "", false),
            ("404 Not Found", "", false),
            ("408 Request Timeout", "", false),
            ("429 Too Many Requests", "", false),
            ("500 Internal Server Error", "", false),
            ("503 Service Unavailable", "", false),
        ] {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let answer = format!("HTTP/1.1 {status}\r\n{told}content-length: 5\r\nconnection: close\r\n\r\nhello");
            std::thread::spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                let _ = client.read(&mut [0; 4096]).unwrap();
                client.write_all(answer.as_bytes()).unwrap();
            });
            let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
            let options = object_store::ClientOptions::new().with_allow_http(true);
            let store = HttpBuilder::new().with_url(url).with_retry(once).with_client_options(options).build().unwrap();
            let error = store.get_range(&Path::from("a"), 0..5).await.unwrap_err();
            assert_eq!(gives_no_parts(&error), expected, "{status}: {error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_full_disk_is_said_to_be_full() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut all = whole(full, stream::iter(pieces()).boxed(), 0..u64::MAX);
        let error = all.fill(&mut Vec::new(), 1).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.message().contains("TMPDIR"), "{error}");
    }
}
