//! Every job in the README and the guides runs as it stands, and whatever else they show is true.

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
            let state_dir = Some(scratch.path().join("state"));
            let options = RunOptions { state_dir, quarantine: Quarantine::Off, ..RunOptions::default() };
            let report = weir::run(&job, options).await;
            assert_eq!(report.status, Status::Succeeded, "{}: {:#?}\n{block}", guide.display(), report.error);
            assert!(report.rows_written > 0, "{}: no rows\n{block}", guide.display());
            ran += 1;
        }
    }
    assert!(ran >= 5, "{ran} jobs found");
}

/// The languages of all fences, each with its block.
fn fenced(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").map(|l| format!("{l}\n")).collect();
            found.push((language.to_owned(), body.concat()));
        }
    }
    found
}

#[test]
fn every_other_snippet_is_one_that_something_checks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let manifest = read("Cargo.toml");
    for guide in guides() {
        let name = guide.file_name().unwrap().to_str().unwrap().to_owned();
        for (language, block) in fenced(&std::fs::read_to_string(&guide).unwrap()) {
            match language.as_str() {
                // Jobs, by the test above.
                "json" | "text" => {}
                // By rustdoc: `src/lib.rs` includes the guide.
                "rust,no_run" => {
                    assert!(read("src/lib.rs").contains(&format!("include_str!(\"../docs/{name}\")")), "{name}")
                }
                "rust" => assert!(read("examples/connector-kv/tests/guide.rs").ends_with(&block), "{name}:\n{block}"),
                // Data sources, for no job is written with comments there.
                "jsonc" => {
                    let file = tempfile::NamedTempFile::new().unwrap();
                    std::fs::write(file.path(), &block).unwrap();
                    let sources = job::DataSources::new(Some(file.path()), None, None);
                    assert!(!sources.list().unwrap_or_else(|f| panic!("{name}: {f}")).is_empty());
                }
                "toml" => {
                    let features = block.split("features = [").nth(1).and_then(|f| f.split(']').next()).unwrap();
                    for feature in features.split(',').map(|f| f.trim().trim_matches('"')) {
                        assert!(manifest.contains(&format!("\n{feature} = [")), "{name}: no feature `{feature}`");
                    }
                }
                // What the README and the guides tell a user to run, CI runs too.
                "sh" => {
                    for command in block.lines() {
                        let run = read(".ci/run") + &read("scripts/run-examples");
                        assert!(run.lines().any(|line| line.contains(command)), "{name}: {command}");
                    }
                }
                other => panic!("{name}: nothing checks a snippet in `{other}`"),
            }
        }
    }
}
