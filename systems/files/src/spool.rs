//! Bytes that are too many for memory, in a temporary file without a name.
//!
//! Such a file lies in the system's folder for temporary files (`TMPDIR`) and is gone with its last handle, however the
//! process ends. What is fetched from a remote file stands at the same offset as there and the rest is a hole, so that
//! whatever knows its way through the one finds it in the other.

use std::fs::File;
use std::io::{self, ErrorKind as Io, Seek, SeekFrom, Write};
use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use weir_core::{Error, ErrorKind, Result};

use crate::RangeSource;

/// The bytes of one request.
pub(crate) const PIECE: u64 = 4 << 20;

/// Requests that are under way at once: one alone would spend most of its time waiting for the first byte.
const AT_ONCE: usize = 3;

/// Ranges that lie closer than this are fetched with what is between them.
const GAP: u64 = 64 << 10;

/// A new file.
pub(crate) fn create() -> Result<File> {
    tempfile::tempfile().map_err(spool_error)
}

/// How each message of [`spool_error`] begins.
pub const SPOOL: &str = "the folder for temporary files";

/// Why a temporary file could not be written.
pub fn spool_error(error: io::Error) -> Error {
    let what = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => "is full: free some space there, or set TMPDIR to one with more",
        _ => "cannot be used: see that it is there and may be written to, or set TMPDIR to another one",
    };
    let folder = std::env::temp_dir();
    Error::new(ErrorKind::Io, format!("{SPOOL} {what}")).because(error).with("folder", folder.display())
}

/// Fetches `ranges` of a remote file.
///
/// # Errors
/// As [`spooled`].
pub(crate) async fn fetch(source: &RangeSource, ranges: Vec<Range<u64>>) -> Result<File> {
    let read = |piece| {
        let mut source = source.remote();
        async move { source.read(piece).await }
    };
    spooled(read, ranges).await
}

/// A temporary file with `ranges` of another file, at the same offsets; `read` gets one of a few megabytes.
///
/// # Errors
/// [`Io`](ErrorKind::Io) when there is no room for them; those of `read`.
pub async fn spooled<F>(read: impl Fn(Range<u64>) -> F, ranges: Vec<Range<u64>>) -> Result<File>
where
    F: Future<Output = Result<Bytes>>,
{
    fetch_into(create()?, read, ranges).await
}

async fn fetch_into<F>(mut file: File, read: impl Fn(Range<u64>) -> F, ranges: Vec<Range<u64>>) -> Result<File>
where
    F: Future<Output = Result<Bytes>>,
{
    let requests = pieces(ranges).map(|piece| {
        let (start, bytes) = (piece.start, read(piece));
        async move { Ok::<_, Error>((start, bytes.await?)) }
    });
    let mut answers = futures::stream::iter(requests).buffered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        let (start, bytes) = answer?;
        file.seek(SeekFrom::Start(start)).and_then(|_| file.write_all(&bytes)).map_err(spool_error)?;
    }
    Ok(file)
}

/// Joins ranges that are neighbours and cuts them into requests.
fn pieces(mut ranges: Vec<Range<u64>>) -> impl Iterator<Item = Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    let cut = |range: Range<u64>| {
        let starts = range.clone().step_by(PIECE as usize);
        starts.map(move |start| start..range.end.min(start.saturating_add(PIECE)))
    };
    joined.into_iter().flat_map(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_long_ranges_cut() {
        let mib = 1 << 20;
        let ranges = vec![20 * mib..30 * mib, 0..10, 10..20, 5..8, 7..7, 30 * mib + 100..30 * mib + 200];
        let expected =
            [0..20, 20 * mib..24 * mib, 24 * mib..28 * mib, 28 * mib..30 * mib + 200].map(|range: Range<u64>| range);
        assert_eq!(pieces(ranges).collect::<Vec<_>>(), expected);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_full_disk_is_said_to_be_full() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = fetch_into(
            full,
            |piece| async move { Ok(vec![1; (piece.end - piece.start) as usize].into()) },
            vec![0..40, 50..100],
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("TMPDIR"), "{error}");
    }
}
