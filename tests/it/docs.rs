//! Every job in the README and the guides runs as it stands.

use std::path::{Path, PathBuf};

use weir::{LoadOptions, Quarantine, RunOptions, Status, job};

fn guides() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|e| e.unwrap().path());
    docs.filter(|p| p.extension().is_some_and(|e| e == "md")).chain([root.join("README.md")]).collect()
}

/// The fenced blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.match_indices(&fence)
        .map(|(at, _)| {
            let body = &text[at + fence.len()..];
            body[..body.find("```").expect("a fence that closes")].to_owned()
        })
        .collect()
}

/// Jobs name files under `examples/` and write to relative paths; both are put where the test may write.
fn in_scratch(job: &str, scratch: &Path) -> String {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    job.replace("\"examples/", &format!("\"{}/", examples.display()))
        .replace("\"out/", &format!("\"{}/out/", scratch.display()))
        .replace("\"lake/", &format!("\"{}/lake/", scratch.display()))
}

#[tokio::test]
async fn every_job_in_the_guides_runs() {
    let mut ran = 0;
    for guide in guides() {
        let text = std::fs::read_to_string(&guide).unwrap();
        for block in blocks(&text, "json") {
            let scratch = tempfile::tempdir().unwrap();
            let loaded = job::load(&in_scratch(&block, scratch.path()), &LoadOptions::default());
            let job = loaded.unwrap_or_else(|faults| panic!("{}: {faults}\n{block}", guide.display()));
            assert!(job.warnings.iter().all(|w| w.contains("encoding")), "{}: {:?}", guide.display(), job.warnings);
            let options = RunOptions { quarantine: Quarantine::Off, ..RunOptions::default() };
            let report = weir::run(&job, options).await;
            assert_eq!(report.status, Status::Succeeded, "{}: {:#?}\n{block}", guide.display(), report.error);
            assert!(report.rows_written > 0, "{}: no rows\n{block}", guide.display());
            ran += 1;
        }
    }
    assert!(ran >= 5, "{ran} jobs found");
}
