//! The calls of an object store, against one in memory.

use std::sync::Arc;

use object_store::memory::InMemory;
use weir_core::ErrorKind;
use weir_files::{ByteStream, Compression, Found, RangeSource, Sink, Store, TextSource};

async fn put(store: &Store, path: &str, data: &[u8]) {
    let mut sink = Sink::create(store, path).await.unwrap();
    for part in data.chunks(1 << 20) {
        sink.buffer().extend_from_slice(part);
        sink.flush().await.unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), data.len() as u64);
}

#[tokio::test]
async fn objects_are_found_read_and_published() {
    let store = Store::Remote {
        store: Arc::new(InMemory::new()),
        root: "s3://b".into(),
        is_web: false,
        io: tokio::runtime::Handle::current(),
    };
    let cancel = Default::default();
    let large: Vec<u8> = (0..20_000_000u32).map(|i| i.wrapping_mul(31) as u8).collect();
    put(&store, "in/a.csv", b"a\n1\n").await;
    put(&store, "in/sub/b.csv", b"").await;
    put(&store, "in/.weir-r/c.csv", b"x").await;
    put(&store, "in/large.bin", &large).await;

    let find = async |path: &str| match store.find(path).await {
        Ok(found) => found.into_iter().map(|e| e.path).collect::<Vec<_>>(),
        Err(e) => vec![e.kind().name().to_owned()],
    };
    assert_eq!(find("in").await, ["in/a.csv", "in/large.bin", "in/sub/b.csv"]);
    assert_eq!(find("in/*.csv").await, ["in/a.csv"]);
    assert_eq!(find("in/**/*.csv").await, ["in/a.csv", "in/sub/b.csv"]);
    assert_eq!(find("*/a.csv").await, ["in/a.csv"]);
    assert_eq!(find("none").await, ["not_found"]);
    assert_eq!(store.look("in/a.csv").await.unwrap(), Found::File(4));
    assert_eq!(store.look("in").await.unwrap(), Found::Folder);

    let mut ranges = RangeSource::open(&store, "in/large.bin", &cancel).await.unwrap();
    assert_eq!(ranges.read(9_999_990..10_000_010).await.unwrap(), large[9_999_990..10_000_010]);
    assert_eq!(ranges.read(0..20_000_001).await.unwrap_err().kind(), ErrorKind::Data);
    let mut bytes = ByteStream::open(&store, "in/large.bin", &cancel).await.unwrap();
    let mut read = Vec::new();
    while bytes.fill(&mut read, 1000).await.unwrap() {}
    assert!(read == large);
    let mut text = TextSource::open(&store, "in/a.csv", Compression::None, encoding_rs::UTF_8, &cancel).await.unwrap();
    let mut read = Vec::new();
    while text.fill(&mut read, 1).await.unwrap() {}
    assert_eq!(read, b"a\n1\n");

    store.place("in/.weir-r/c.csv", "in/c.csv", 1, &cancel).await.unwrap();
    assert_eq!(find("in/c.csv").await, ["in/c.csv"]);
    store.remove_folder("in/.weir-r").await.unwrap();
    store.remove("in/c.csv").await.unwrap();
    store.remove("in/c.csv").await.unwrap();
    assert_eq!(store.list_all("in").await.unwrap().len(), 3);
    let dropped = Sink::create(&store, "in/half").await.unwrap();
    dropped.discard().await;
    assert_eq!(find("in/half").await, ["not_found"]);
}
