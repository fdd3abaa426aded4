//! Files of web servers, which give parts of them or do not.

mod common;

use std::time::{Duration, Instant};

use common::{Gives, Web, are_bytes};
use weir_core::{ErrorKind, Result};
use weir_files::{BLOCK, ByteStream, Store};

async fn read(store: &Store) -> Result<Vec<u8>> {
    let mut stream = ByteStream::open(store, "a", &Default::default()).await?;
    let mut read = Vec::new();
    while stream.fill(&mut read, BLOCK).await? {}
    Ok(read)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_asked_for_where_the_server_gives_them() {
    let window: u64 = 16 << 20;
    let (large, short) = (window + 5, "GET 0..5");
    for (gives, size, asked) in [
        (Gives::Parts, large, vec!["GET 0..16777216", "GET 16777216..16777221"]),
        (Gives::Parts, 5, vec![short]),
        (Gives::Parts, 0, vec!["GET 0..0", "GET"]),
        (Gives::Whole, large, vec!["GET 0..16777216", "GET"]),
        (Gives::Whole, 5, vec![short, "GET"]),
        (Gives::Whole, 0, vec!["GET 0..0", "GET"]),
        (Gives::PartsOfUnknown, 5, vec![short, "GET"]),
        (Gives::Refusal, 5, vec![short, "GET"]),
        (Gives::Refusal, 0, vec!["GET 0..0", "GET"]),
    ] {
        let web = Web::new(gives, size);
        let bytes = read(&web.open("5s")).await.unwrap();
        assert!(bytes.len() as u64 == size, "{gives:?} {size}: {}", bytes.len());
        assert!(are_bytes(&bytes, 0), "{gives:?} {size}");
        assert_eq!(web.asked(), asked, "{gives:?} {size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_given_is_not_an_empty_one() {
    let web = Web::new(Gives::Nothing, 5);
    let error = read(&web.open("5s")).await.unwrap_err();
    assert_eq!((error.kind(), web.asked()), (ErrorKind::Denied, vec!["GET 0..5".to_owned()]), "{}", error.full());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_the_same_from_several_servers_and_not_after_a_change() {
    fn at(second: usize) -> String {
        format!("last-modified: Sat, 01 Jan 2000 00:00:0{second} GMT\r\n")
    }
    type Tells = fn(usize) -> String;
    let cases: [(Tells, bool); 5] = [
        (|n| format!("etag: \"{n}\"\r\n{}", at(0)), true),
        (|n| format!("etag: \"a\"\r\n{}", at(n)), true),
        (|n| format!("etag: \"{n}\"\r\n{}", at(n)), false),
        (|n| format!("etag: \"{n}\"\r\n"), false),
        (at, false),
    ];
    for (number, (tells, is_same)) in cases.into_iter().enumerate() {
        let mut web = Web::new(Gives::Parts, (16 << 20) + 5);
        web.tells = tells;
        match read(&web.open("5s")).await {
            Ok(bytes) => assert!(is_same && are_bytes(&bytes, 0), "{number}"),
            Err(error) => assert!(!is_same && error.full().contains("replaced"), "{number}: {}", error.full()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_take_long_and_must_not_stop() {
    for gives in [Gives::Parts, Gives::Whole] {
        let mut web = Web::new(gives, 15_000);
        web.rests = Some((1000, Duration::from_millis(200)));
        let begun = Instant::now();
        assert_eq!(read(&web.open("1500ms")).await.unwrap().len(), 15_000);
        assert!(begun.elapsed() > Duration::from_millis(2500));
        web.rests = Some((1000, Duration::from_secs(20)));
        let begun = Instant::now();
        let error = read(&web.open("500ms")).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unreachable && error.full().contains("nothing came"), "{}", error.full());
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_file_can_be_stopped() {
    for gives in [Gives::Parts, Gives::Whole] {
        let mut web = Web::new(gives, 15_000);
        web.rests = Some((1000, Duration::from_secs(20)));
        let cancel = tokio_util::sync::CancellationToken::new();
        let mut stream = ByteStream::open(&web.open("30s"), "a", &cancel).await.unwrap();
        let mut read = Vec::new();
        assert!(stream.fill(&mut read, 1000).await.unwrap());
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.cancel();
        };
        let (stopped, ()) = tokio::join!(stream.fill(&mut read, 1000), stop);
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
