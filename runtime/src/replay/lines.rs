//! The rows of a quarantine file, one at a time: it may be far larger than memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};
use tokio_util::sync::CancellationToken;
use weir_core::{Error, Result, ResultExt};

use crate::dirty::QuarantineRow;
use crate::quarantine::LONGEST_ROW;

/// The rows of a file with the numbers of their lines. A file without any is an error.
pub struct Lines {
    reader: BufReader<File>,
    file: PathBuf,
    digest: Sha1,
    /// The number of the last line that was read.
    number: usize,
    line: Vec<u8>,
    is_empty: bool,
}

impl Lines {
    /// From the beginning of a file, whose bytes `digest` takes in as they are read.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(file: &Path, digest: Sha1) -> Result<Self> {
        let opened = File::open(file).context("file", file.display())?;
        let (reader, file) = (BufReader::new(opened), file.to_owned());
        Ok(Self { reader, file, digest, number: 0, line: Vec::new(), is_empty: true })
    }

    /// Of all that was read.
    pub fn digest(self) -> String {
        self.digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    fn row(&mut self) -> Result<Option<(usize, QuarantineRow)>> {
        loop {
            self.line.clear();
            let read = self.reader.by_ref().take(LONGEST_ROW).read_until(b'\n', &mut self.line);
            let read = read.context("file", self.file.display())?;
            if read == 0 && self.is_empty {
                return Err(Error::config("the quarantine file holds no row").with("file", self.file.display()));
            }
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.digest.update(&self.line);
            let line = self.line.trim_ascii_end();
            if line.is_empty() {
                continue;
            }
            self.is_empty = false;
            let refused = |why: &dyn std::fmt::Display| {
                let text = format!("line {} is no row of a quarantine file: {why}", self.number);
                Error::config(text).with("file", self.file.display())
            };
            if read as u64 == LONGEST_ROW && !self.line.ends_with(b"\n") {
                return Err(refused(&format!("it does not end within {} MiB", LONGEST_ROW >> 20)));
            }
            let row = serde_json::from_slice(line).map_err(|error| refused(&error))?;
            return Ok(Some((self.number, row)));
        }
    }
}

impl Iterator for Lines {
    type Item = Result<(usize, QuarantineRow)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().transpose()
    }
}

/// A quarantine file that was read once.
pub struct Quarantined<'a> {
    file: &'a Path,
    /// That of the job's name, which comes before the bytes.
    prefix: Sha1,
    /// Of the job's name and the file.
    pub digest: String,
    /// The run that left the first row.
    pub left_by: String,
    /// Every run that left one.
    pub runs: BTreeSet<String>,
}

impl<'a> Quarantined<'a> {
    /// Reads it to the end, for a job.
    ///
    /// # Errors
    /// A file that is no quarantine file; a stop.
    pub fn read(file: &'a Path, job: &str, cancel: &CancellationToken) -> Result<Self> {
        let prefix = Sha1::new().chain_update(job.as_bytes()).chain_update([0]);
        let mut lines = Lines::open(file, prefix.clone())?;
        let (mut left_by, mut runs) = (None, BTreeSet::new());
        for row in &mut lines {
            let (_, row) = row?;
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            left_by.get_or_insert_with(|| row.run_id.clone());
            runs.insert(row.run_id);
        }
        Ok(Self { file, prefix, digest: lines.digest(), left_by: left_by.unwrap_or_default(), runs })
    }

    /// Its rows once more.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn lines(&self) -> Result<Lines> {
        Lines::open(self.file, self.prefix.clone())
    }

    /// Whether `lines`, which have been read to their end, were those of the first time.
    ///
    /// # Errors
    /// What is written from now on would bear the name of other rows.
    pub fn check_same(&self, lines: Lines) -> Result<()> {
        if lines.digest() == self.digest {
            return Ok(());
        }
        let text = "the file was changed while it was read: replay it again when it is whole";
        Err(Error::config(text).with("file", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dirty::Side;

    fn row(run_id: &str) -> String {
        let row = QuarantineRow {
            run_id: run_id.into(),
            source: "s".into(),
            target: "t".into(),
            split: 0,
            side: Side::Writer,
            column: None,
            reason: "why".into(),
            values: serde_json::Map::new(),
            types: std::collections::BTreeMap::new(),
        };
        serde_json::to_string(&row).unwrap()
    }

    #[test]
    fn rows_keep_the_numbers_of_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dirty.jsonl");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write(&format!("\n{}\r\n  \n{}", row("a"), row("b")));
        let read = Quarantined::read(&file, "job", &CancellationToken::new()).unwrap();
        assert_eq!((read.left_by.as_str(), read.runs.len()), ("a", 2));
        let mut lines = read.lines().unwrap();
        let numbers: Vec<_> = lines.by_ref().map(|row| row.unwrap().0).collect();
        assert_eq!(numbers, [2, 4]);
        read.check_same(lines).unwrap();
        let whole = Sha1::new().chain_update(b"job\0").chain_update(std::fs::read(&file).unwrap()).finalize();
        assert!(format!("{whole:x}").starts_with(&read.digest));
        let changed = read.lines().unwrap();
        assert!(read.check_same(changed).is_err(), "not all of it was read");
        write(&format!("{}\n\nelse\n", row("a")));
        assert!(
            Quarantined::read(&file, "job", &CancellationToken::new())
                .err()
                .unwrap()
                .message()
                .contains("line 3 is no row")
        );
        write("\n \n");
        assert!(Quarantined::read(&file, "job", &CancellationToken::new()).err().unwrap().message().contains("no row"));
    }
}
