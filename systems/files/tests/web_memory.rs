//! What reading a web server's file slowly costs in memory: this process has one test, so that its peak is that test's.
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{Gives, Web, are_bytes};
use weir_files::{BLOCK, ByteStream};

/// A line of the process's status, in bytes.
fn status(name: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_faster_than_it_is_read_does_not_wait_in_memory() {
    let size = 200 << 20;
    for gives in [Gives::Parts, Gives::Whole] {
        let web = Web::new(gives, size);
        let store = web.open("30s");
        // The peak begins anew at what is in use now.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS");
        let mut stream = ByteStream::open(&store, "a", &Default::default()).await.unwrap();
        let (mut buffer, mut at) = (Vec::new(), 0);
        while stream.fill(&mut buffer, BLOCK).await.unwrap() {
            if at == 0 {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            assert!(are_bytes(&buffer, at), "{gives:?} {at}");
            at += buffer.len() as u64;
            buffer.clear();
        }
        assert_eq!(at, size);
        let peak = status("VmHWM").saturating_sub(before);
        assert!(peak < 64 << 20, "{peak} bytes more than before, {gives:?}");
    }
}
