//! The program runs the example's job file.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

#[test]
fn the_job_copies_the_sample() {
    let (here, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")), TempDir::new().unwrap());
    for file in ["job.json", "sample.kv"] {
        std::fs::copy(here.join(file), folder.path().join(file)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_connector-kv"));
    command.arg("job.json").current_dir(folder.path()).env("WEIR_STATE_DIR", folder.path().join("state"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["status"], &report["rows_written"]), (&"succeeded".into(), &5.into()));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("copy.kv"), read("sample.kv"));
}
