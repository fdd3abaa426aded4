//! Keys that come twice, found in the staged files before anything is published.
//!
//! Of each key a hash of 128 bits is kept; when all are sorted, equal neighbours are keys that come twice. Where there are
//! more than may be in memory at once, several passes over the key columns take a share of the hashes each. They are
//! begun with random numbers, so that nobody can choose keys that collide.

use std::hash::{BuildHasher, RandomState};

use arrow::array::{Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::row::{RowConverter, SortField};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use weir_core::{Error, ErrorKind, MappedColumn, Result, WritePlan, row_values};
use weir_files::{ColumnarReader, Format, Store};

use crate::plan::Rules;
use crate::record::{Records, gone};
use crate::task::Part;

/// The hashes of one pass: 60 MB, which leaves room for shares that are not quite equal.
const AT_ONCE: u64 = 60_000_000 / size_of::<u128>() as u64;

/// Rows whose keys are brought into bytes at once. A batch may hold a long text once and have it in every row.
const ROWS: usize = 256;

/// The columns by which rows are compared: those that the job names, else the key that the rows had at their source.
///
/// # Errors
/// A name that no column has, no key.
pub(crate) fn keys(named: &[String], columns: &[MappedColumn]) -> Result<Vec<String>> {
    if let Some(unknown) = named.iter().find(|name| columns.iter().all(|c| &c.name != *name)) {
        let message = format!("`key` names `{unknown}`, which is not among the columns to write");
        return Err(Error::new(ErrorKind::Schema, message));
    }
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let mut key: Vec<&MappedColumn> = columns.iter().filter(|c| c.key.is_some()).collect();
    key.sort_by_key(|c| c.key);
    // A part of the source's key is no key.
    let whole = key.iter().enumerate().all(|(i, c)| c.key == Some(i as u32 + 1));
    if key.is_empty() || !whole {
        let message = "rows are to be compared by their key, and the source has none: name the columns in `key`";
        return Err(Error::new(ErrorKind::Schema, message));
    }
    Ok(key.into_iter().map(|c| c.name.clone()).collect())
}

/// Refuses a run that brings a key more than once. What has a NULL in it equals nothing.
///
/// # Errors
/// [`Data`](ErrorKind::Data), with the key; a part that cannot be read.
pub(crate) async fn ensure(
    rules: &Rules,
    plan: &WritePlan,
    records: &Records<'_>,
    parts: &[(u32, Part)],
    rows: u64,
    cancel: &CancellationToken,
) -> Result<()> {
    if plan.keys.is_empty() {
        return Ok(());
    }
    let place = |key: &String| plan.columns.iter().position(|column| &column.name == key);
    let columns: Option<Vec<usize>> = plan.keys.iter().map(place).collect();
    let mut columns = columns.ok_or_else(|| Error::internal("a key column is not among the columns"))?;
    columns.sort_unstable();
    columns.dedup();
    let keys = Keys {
        store: records.store(),
        format: rules.format,
        files: parts.iter().map(|(_, part)| records.path(&part.name)).collect(),
        columns,
        halves: [RandomState::new(), RandomState::new()],
        cancel,
    };
    match keys.twice(rows, AT_ONCE).await? {
        Some(key) => {
            let message = "the input holds a key more than once, and `duplicateKeys` is error: nothing was published";
            Err(Error::new(ErrorKind::Data, message).with("key", Value::from(key)))
        }
        None => Ok(()),
    }
}

/// The key columns of some files.
struct Keys<'a> {
    store: &'a Store,
    format: Format,
    files: Vec<String>,
    /// Their positions in the files, ascending.
    columns: Vec<usize>,
    /// What makes the halves of a hash.
    halves: [RandomState; 2],
    cancel: &'a CancellationToken,
}

impl Keys<'_> {
    /// A key that comes twice in these `rows` rows, by the names of its columns.
    async fn twice(&self, rows: u64, at_once: u64) -> Result<Option<Map<String, Value>>> {
        let passes = rows.div_ceil(at_once).max(1);
        let share = usize::try_from(rows.div_ceil(passes)).unwrap_or(usize::MAX);
        let room = share.saturating_add(share / 16 + 64);
        let mut hashes: Vec<u128> = Vec::with_capacity(room);
        for pass in 0..passes {
            hashes.clear();
            let mut room = room;
            let found = self.find(|_, _, key| {
                let half = self.halves[0].hash_one(key);
                if (u128::from(half) * u128::from(passes)) >> 64 != u128::from(pass) {
                    return None;
                }
                hashes.push(self.whole(half, key));
                if hashes.len() < room {
                    return None;
                }
                // Shares differ this much only by keys that come often.
                room *= 2;
                equal(&mut hashes)
            });
            if let Some(hash) = found.await?.or_else(|| equal(&mut hashes)) {
                let same = |key: &[u8]| self.whole(self.halves[0].hash_one(key), key) == hash;
                let key = self.find(|batch, row, key| same(key).then(|| row_values(batch, row))).await?;
                return Ok(Some(key.unwrap_or_default()));
            }
        }
        Ok(None)
    }

    fn whole(&self, half: u64, key: &[u8]) -> u128 {
        u128::from(half) << 64 | u128::from(self.halves[1].hash_one(key))
    }

    /// Shows `look` the rows without a NULL in their key, each with its key's bytes, until it finds something.
    async fn find<T: Send>(
        &self,
        mut look: impl FnMut(&RecordBatch, usize, &[u8]) -> Option<T> + Send,
    ) -> Result<Option<T>> {
        for file in &self.files {
            let reader = ColumnarReader::open(self.store, file, self.format, self.cancel).await;
            let reader = reader.map_err(|e| if e.kind() == ErrorKind::NotFound { gone().because(e) } else { e })?;
            let mut reader = reader.start(None, &self.columns, true).await?;
            while let Some(batch) = reader.next().await? {
                if self.cancel.is_cancelled() {
                    return Err(Error::cancelled());
                }
                if let Some(found) = search(&batch, &mut look)? {
                    return Ok(Some(found));
                }
                // Files of this machine are read without a wait: others want to run too.
                tokio::task::yield_now().await;
            }
        }
        Ok(None)
    }
}

fn search<T>(batch: &RecordBatch, look: &mut impl FnMut(&RecordBatch, usize, &[u8]) -> Option<T>) -> Result<Option<T>> {
    let columns = batch.columns().iter();
    let converter = RowConverter::new(columns.clone().map(|c| SortField::new(c.data_type().clone())).collect())?;
    let nulls = columns.fold(None, |all, c| NullBuffer::union(all.as_ref(), c.logical_nulls().as_ref()));
    for first in (0..batch.num_rows()).step_by(ROWS) {
        let few = batch.slice(first, ROWS.min(batch.num_rows() - first));
        let keys = converter.convert_columns(few.columns())?;
        for (row, key) in keys.iter().enumerate() {
            let compared = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(first + row));
            if compared && let Some(found) = look(&few, row, key.as_ref()) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// A hash that is there twice; `hashes` are sorted for it.
fn equal(hashes: &mut [u128]) -> Option<u128> {
    hashes.sort_unstable();
    hashes.windows(2).find(|two| two[0] == two[1]).map(|two| two[0])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::ipc::writer::FileWriter;
    use parquet::arrow::ArrowWriter;

    use super::*;

    type Row<'a> = (Option<i64>, Option<&'a str>);

    /// Looks at the first two columns of files with these rows.
    async fn twice(format: Format, files: &[Vec<Row<'_>>], at_once: u64) -> Option<Map<String, Value>> {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (number, rows) in files.iter().enumerate() {
            let columns: [(&str, ArrayRef); 3] = [
                ("a", Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>())),
                ("rest", Arc::new(Int64Array::from(vec![1; rows.len()]))),
                ("b", Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>())),
            ];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let path = folder.path().join(format!("{number}.part"));
            let file = std::fs::File::create(&path).unwrap();
            if format == Format::Parquet {
                let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
                writer.write(&batch).unwrap();
                writer.close().unwrap();
            } else {
                let mut writer = FileWriter::try_new(file, &batch.schema()).unwrap();
                writer.write(&batch).unwrap();
                writer.finish().unwrap();
            }
            paths.push(path.to_str().unwrap().to_owned());
        }
        let halves = [RandomState::new(), RandomState::new()];
        let cancel = CancellationToken::new();
        let keys = Keys { store: &Store::Local, format, files: paths, columns: vec![0, 2], halves, cancel: &cancel };
        keys.twice(files.iter().map(Vec::len).sum::<usize>() as u64, at_once).await.unwrap()
    }

    #[tokio::test]
    async fn a_key_is_found_whatever_the_pass_and_the_file_that_it_is_in() {
        for format in [Format::Parquet, Format::Arrow] {
            for at_once in [1_000_000, 300, 7] {
                let row = |n: i64| (Some(n / 2), Some(if n % 2 == 0 { "even" } else { "odd" }));
                let mut files: Vec<Vec<Row<'_>>> = vec![(0..700).map(row).collect(), (700..1500).map(row).collect()];
                assert_eq!(twice(format, &files, at_once).await, None);
                for n in [0, 699, 700, 1499] {
                    files.push(vec![row(n)]);
                    let found = twice(format, &files, at_once).await.unwrap();
                    assert_eq!((&found["a"], &found["b"]), (&(n / 2).to_string().into(), &row(n).1.into()));
                    files.pop();
                }
            }
        }
    }

    #[tokio::test]
    async fn what_has_a_null_in_it_equals_nothing() {
        for format in [Format::Parquet, Format::Arrow] {
            let mut rows = [(None, None), (None, Some("a")), (Some(1), None), (Some(1), Some(""))].repeat(3);
            rows.truncate(11);
            assert_eq!(twice(format, &[rows.clone()], 2).await.unwrap()["b"], "");
            rows.retain(|row| *row != (Some(1), Some("")));
            assert_eq!(twice(format, &[rows], 2).await, None);
        }
    }

    #[tokio::test]
    async fn one_key_in_all_rows_is_found_before_they_fill_a_pass() {
        let rows = vec![(Some(7), Some("x")); 5000];
        assert_eq!(twice(Format::Parquet, &[rows], 10).await.unwrap()["a"], "7");
    }

    #[test]
    fn the_key_is_the_jobs_else_the_whole_one_of_the_source() {
        let column = |name: &str, key| MappedColumn {
            name: name.into(),
            offers: Vec::new(),
            source_type: "t".into(),
            nullable: true,
            key,
            comment: None,
        };
        let columns = [column("b", Some(2)), column("v", None), column("a", Some(1))];
        assert_eq!(keys(&[], &columns).unwrap(), ["a", "b"]);
        assert_eq!(keys(&["v".to_owned()], &columns).unwrap(), ["v"]);
        for (named, columns) in
            [(vec!["w".to_owned()], &columns[..]), (vec![], &columns[..2]), (vec![], &columns[1..2])]
        {
            assert_eq!(keys(&named, columns).unwrap_err().kind(), ErrorKind::Schema);
        }
    }
}
