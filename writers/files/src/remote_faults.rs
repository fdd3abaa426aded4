//! An object store that breaks at every single request: each state it can leave is finished or taken back.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as Answer, UploadPart,
};
use serde_json::{Value, json};
use weir_core::{
    Account, ErrorKind, Faults, Form, PlannedColumn, Receipt, Refused, Result, TaskId, TaskWriter, WriteMode, WritePlan,
};
use weir_files::{ColumnarReader, Format, Location, Store};

use crate::commit;
use crate::plan::Rules;
use crate::record::Records;
use crate::task::FilesTask;

/// A store whose requests fail when there are none left.
struct Breaking {
    inner: Arc<InMemory>,
    left: Arc<AtomicI64>,
    /// How the names of objects end that are taken, and said to have been there: the answer to a first request was lost.
    unanswered: Option<&'static str>,
}

impl Breaking {
    fn request(&self) -> Answer<()> {
        request(&self.left)
    }
}

fn request(left: &AtomicI64) -> Answer<()> {
    match left.fetch_sub(1, Ordering::SeqCst) > 0 {
        true => Ok(()),
        false => Err(object_store::Error::Generic { store: "breaking", source: "broken".into() }),
    }
}

impl fmt::Debug for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Breaking")
    }
}

impl fmt::Display for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Breaking")
    }
}

#[async_trait]
impl ObjectStore for Breaking {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Answer<PutResult> {
        self.request()?;
        let put = self.inner.put_opts(at, payload, options).await;
        match self.unanswered {
            Some(end) if at.as_ref().ends_with(end) => {
                Err(object_store::Error::AlreadyExists { path: at.to_string(), source: "sent again".into() })
            }
            _ => put,
        }
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Answer<Box<dyn MultipartUpload>> {
        self.request()?;
        let inner = self.inner.put_multipart_opts(at, options).await?;
        Ok(Box::new(Upload { inner, left: self.left.clone() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Answer<GetResult> {
        self.request()?;
        self.inner.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Answer<Vec<Bytes>> {
        self.request()?;
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Answer<Path>>) -> BoxStream<'static, Answer<Path>> {
        match self.request() {
            Ok(()) => self.inner.delete_stream(at),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        match self.request() {
            Ok(()) => self.inner.list(prefix),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.request()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Answer<()> {
        self.request()?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    left: Arc<AtomicI64>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match request(&self.left) {
            Ok(()) => self.inner.put_part(data),
            Err(e) => Box::pin(async { Err(e) }),
        }
    }

    async fn complete(&mut self) -> Answer<PutResult> {
        request(&self.left)?;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Answer<()> {
        self.inner.abort().await
    }
}

fn rules(store: Arc<dyn ObjectStore>, path: &str, parameters: &Value) -> Rules {
    let store = Store::Remote { store, root: "s3://b".into(), is_web: false, io: tokio::runtime::Handle::current() };
    let config = serde_json::from_value(parameters.clone()).unwrap();
    let mut faults = Faults::default();
    let rules = Rules::new(&config, Location { store, path: path.into() }, Form::Native, &mut faults);
    assert_eq!(faults.0, []);
    rules
}

fn plan(rules: &Rules, run_id: &str) -> WritePlan {
    let input = Field::new("v", DataType::Utf8, true);
    let column = PlannedColumn { name: "v".into(), native_type: "text".into(), input, warning: None };
    WritePlan {
        run_id: run_id.into(),
        table: "t".into(),
        mode: WriteMode::Append,
        columns: vec![column],
        creates: false,
        statements: Vec::new(),
        method: String::new(),
        commits_per_split: false,
        records_splits: true,
        keys: rules.compared.clone().unwrap_or_default(),
        warnings: Vec::new(),
        state: Value::Null,
    }
}

async fn stage(rules: &Rules, run_id: &str, text: &str) -> Result<Vec<Receipt>> {
    let mut receipts = Vec::new();
    for split in 0..2 {
        let id = TaskId { run_id: run_id.into(), split, table: "t".into(), attempt: 1 };
        let mut task = Box::new(FilesTask::new(rules.clone(), plan(rules, run_id), id));
        let rows: ArrayRef = Arc::new(StringArray::from_iter_values((0..5).map(|row| format!("{text} {split} {row}"))));
        task.write(&RecordBatch::try_from_iter_with_nullable([("v", rows, true)]).unwrap(), &mut Refused::default())
            .await?;
        receipts.push(task.finish(Account::default()).await?);
    }
    Ok(receipts)
}

/// How often each text stands in what a reader sees, without its split and row.
async fn values(rules: &Rules) -> BTreeMap<String, usize> {
    let store = &rules.location.store;
    let mut counts = BTreeMap::new();
    let mut count = |text: &str| *counts.entry(text.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
    let extension = format!(".{}", rules.format.extension());
    for entry in store.list("in").await.unwrap().iter().filter(|e| e.path.ends_with(&extension)) {
        if rules.format == Format::Csv {
            let text = String::from_utf8(store.get(&entry.path).await.unwrap().unwrap()).unwrap();
            text.lines().skip(1).for_each(&mut count);
            continue;
        }
        let file = ColumnarReader::open(store, &entry.path, rules.format, &Default::default()).await.unwrap();
        let mut file = file.start(None, &[0], false).await.unwrap();
        while let Some(batch) = file.next().await.unwrap() {
            batch.column(0).as_string::<i32>().iter().flatten().for_each(&mut count);
        }
    }
    counts
}

async fn copied(store: &InMemory) -> Arc<InMemory> {
    Arc::new(store.fork())
}

async fn breaks_everywhere(path: &str, mode: &str, format: &str) {
    let cancel = Default::default();
    let mut parameters = json!({ "path": path, "format": format, "writeMode": mode });
    if format != "csv" {
        parameters["key"] = "v".into();
        parameters["duplicateKeys"] = "error".into();
    }
    let first = Arc::new(InMemory::new());
    let whole = rules(first.clone(), path, &parameters);
    let receipts = stage(&whole, "r0", "old").await.unwrap();
    commit::commit(&whole, &plan(&whole, "r0"), &receipts, &cancel).await.unwrap();
    commit::clear(&whole, "r0").await.unwrap();
    let before = values(&whole).await;
    assert_eq!(before, BTreeMap::from([("old".to_owned(), 10)]));
    let receipts = stage(&whole, "r1", "new").await.unwrap();
    let mut after = BTreeMap::from([("new".to_owned(), 10)]);
    if mode == "append" {
        after.extend(before.clone());
    }
    for requests in 0.. {
        let state = copied(&first).await;
        let left = Arc::new(AtomicI64::new(requests));
        let broken =
            rules(Arc::new(Breaking { inner: state.clone(), left: left.clone(), unanswered: None }), path, &parameters);
        let done = commit::commit(&broken, &plan(&whole, "r1"), &receipts, &cancel).await;
        if left.load(Ordering::SeqCst) > 0 {
            assert!(done.unwrap().warnings.is_empty());
            assert!(requests > 5);
            return;
        }
        let healed = rules(state.clone(), path, &parameters);
        let now = values(&healed).await;
        if mode == "truncate" {
            assert!(now == before || now == after, "{path} {requests}: {now:?}");
        }
        let published = Records { rules: &healed, run_id: "r1" }.is_published().await.unwrap();
        if done.is_ok() {
            assert!(published, "{path} {mode} {requests}");
        }
        let fork = rules(copied(&state).await, path, &parameters);
        for _ in 0..2 {
            commit::commit(&healed, &plan(&whole, "r1"), &receipts, &cancel).await.unwrap();
            assert_eq!(values(&healed).await, after, "{path} {mode} {requests}");
        }
        commit::clear(&healed, "r1").await.unwrap();
        assert_eq!(values(&healed).await, after, "{path} {mode} {requests}");
        commit::clear(&fork, "r1").await.unwrap();
        let wanted = if published { &after } else { &before };
        assert_eq!(&values(&fork).await, wanted, "{path} {mode} {requests} taken back");
        for store in [&healed, &fork] {
            let all = store.location.store.list_all("in").await.unwrap();
            assert!(!all.iter().any(|e| e.path.contains(".weir-")), "{path} {mode} {requests}: {all:?}");
        }
    }
}

#[tokio::test]
async fn a_folder_is_overwritten_by_its_manifest() {
    breaks_everywhere("in/t", "truncate", "csv").await;
}

#[tokio::test]
async fn a_folder_is_added_to() {
    breaks_everywhere("in/t", "append", "csv").await;
}

#[tokio::test]
async fn one_object_is_seen_when_its_upload_is_complete() {
    breaks_everywhere("in/t.csv", "truncate", "csv").await;
    breaks_everywhere("in/t.csv", "append", "csv").await;
}

#[tokio::test]
async fn keys_are_compared_before_the_first_change_and_not_again() {
    for mode in ["truncate", "append"] {
        breaks_everywhere("in/t", mode, "parquet").await;
        breaks_everywhere("in/t.parquet", mode, "parquet").await;
        breaks_everywhere("in/t", mode, "arrow").await;
    }
    let store = Arc::new(InMemory::new());
    let parameters =
        json!({ "path": "in/t", "format": "arrow", "writeMode": "append", "key": "v", "duplicateKeys": "error" });
    let rules = rules(store.clone(), "in/t", &parameters);
    let receipts = stage(&rules, "r", "a").await.unwrap();
    // The same parts once more are the same keys once more.
    let mut doubled = receipts.clone();
    doubled.push(Receipt { split: 2, ..receipts[0].clone() });
    let error = commit::commit(&rules, &plan(&rules, "r"), &doubled, &Default::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(values(&rules).await, BTreeMap::new());
}

#[tokio::test]
async fn a_split_is_recorded_once() {
    let store = Arc::new(InMemory::new());
    let rules = rules(store, "in/t", &json!({ "format": "csv", "writeMode": "append" }));
    let receipts = stage(&rules, "r", "a").await.unwrap();
    let error = stage(&rules, "r", "b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(Records { rules: &rules, run_id: "r" }.receipts().await.unwrap(), receipts);
}

#[tokio::test]
async fn a_record_whose_answer_is_lost_is_the_splits_own() {
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let store = Breaking { inner: Arc::new(InMemory::new()), left, unanswered: Some(".receipt") };
    let rules = rules(Arc::new(store), "in/t", &json!({ "format": "csv", "writeMode": "append" }));
    let receipts = stage(&rules, "r", "a").await.unwrap();
    assert_eq!(stage(&rules, "r", "b").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(Records { rules: &rules, run_id: "r" }.receipts().await.unwrap(), receipts);
    commit::commit(&rules, &plan(&rules, "r"), &receipts, &Default::default()).await.unwrap();
    assert_eq!(values(&rules).await, BTreeMap::from([("a".to_owned(), 10)]));
}
