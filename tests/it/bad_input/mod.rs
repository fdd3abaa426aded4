//! Bad input of every kind, through the command line: what it says, how it exits, and that nothing is half-written.

mod files;
mod job_file;
mod servers;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::job_of;

/// One bad input.
struct Case {
    name: &'static str,
    /// The job file's text.
    text: String,
    /// Arguments after `weir run JOB`.
    arguments: Vec<String>,
    exit: i32,
    /// What the error must name: the place and the remedy.
    says: &'static [&'static str],
}

fn case(name: &'static str, job: impl ToString, exit: i32, says: &'static [&'static str]) -> Case {
    Case { name, text: job.to_string(), arguments: vec![], exit, says }
}

fn called(mut case: Case, arguments: &[&str]) -> Case {
    case.arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
    case
}

/// Runs every case and shows all that differ from what they should be.
fn run_all(folder: &Path, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in &cases {
        let job = folder.join("job.json");
        std::fs::write(&job, &case.text).unwrap();
        let out = folder.join("out");
        std::fs::create_dir_all(&out).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("run")
            .arg(&job)
            .args(&case.arguments)
            .current_dir(folder)
            .env("WEIR_STATE_DIR", folder.join("state"))
            .env_remove("WEIR_ENV")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut faults = Vec::new();
        if output.status.code() != Some(case.exit) {
            faults.push(format!("exit {:?} instead of {}", output.status.code(), case.exit));
        }
        for word in case.says {
            if !stderr.to_lowercase().contains(&word.to_lowercase()) {
                faults.push(format!("does not say `{word}`"));
            }
        }
        for never in ["panicked", "we/ir p@ss", "we%2Fir"] {
            if stderr.contains(never) {
                faults.push(format!("says `{never}`"));
            }
        }
        let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        if !left.is_empty() {
            faults.push(format!("left behind: {left:?}"));
            std::fs::remove_dir_all(&out).unwrap();
        }
        if !faults.is_empty() {
            wrong.push(format!("{}: {}\n  {}", case.name, faults.join("; "), stderr.trim().replace('\n', "\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn stream() -> Value {
    json!({"column": [{"value": "a", "type": "string"}], "sliceRecordCount": 3})
}

fn reading(reader: &str, parameter: Value) -> Value {
    job_of(reader, parameter, "stream", json!({}))
}

fn writing(writer: &str, parameter: Value) -> Value {
    job_of("stream", stream(), writer, parameter)
}

fn with(mut job: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut job;
    for part in parent.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[part],
        };
    }
    at[key] = value;
    job
}
