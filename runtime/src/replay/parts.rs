//! What a replay reads: the rows of each entry, and of each kind, as a file of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weir_core::{Error, Result, ResultExt};

use super::rows::{Kind, Rows};
use crate::dirty::QuarantineRow;
use crate::quarantine::{create_private, named};

/// How many bytes are held, of all files together, before they are written. No file stays open: entries may be thousands.
const HELD: usize = 8 << 20;

/// One entry of a replay.
#[derive(Serialize, Deserialize)]
pub struct Part {
    pub file: PathBuf,
    /// The source's label in the quarantine.
    pub source: String,
    /// Whether its columns are the target's.
    pub kind: Kind,
}

/// The files while they are written.
pub struct Parts {
    /// What their names begin with.
    stem: PathBuf,
    /// By the number of the entry.
    begun: BTreeMap<(usize, Kind), Begun>,
    held: usize,
}

/// One that was begun.
pub struct Begun {
    pub part: Part,
    pub rows: Rows,
    lines: String,
}

impl Parts {
    pub fn new(folder: &Path, run_id: &str) -> Self {
        Self { stem: folder.join(run_id), begun: BTreeMap::new(), held: 0 }
    }

    /// Whether rows of this entry and kind have come before.
    pub fn has(&self, of: (usize, Kind)) -> bool {
        self.begun.contains_key(&of)
    }

    /// Begins a file for rows of an entry, the first of which comes from `source`.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn begin(&mut self, of: (usize, Kind), source: &str, rows: Rows) -> Result<()> {
        let file = named(&self.stem, &format!("-{}.jsonl", self.begun.len()));
        create_private(&file)?;
        let part = Part { file, source: source.to_owned(), kind: of.1 };
        self.begun.insert(of, Begun { part, rows, lines: String::new() });
        Ok(())
    }

    /// Adds a row to a file that was begun.
    ///
    /// # Errors
    /// Those of [`Rows::write`], or of the disk.
    pub fn add(&mut self, of: (usize, Kind), row: &QuarantineRow) -> Result<()> {
        let begun = self.begun.get_mut(&of).ok_or_else(|| Error::internal("a part was not begun"))?;
        let before = begun.lines.len();
        begun.rows.write(row, &mut begun.lines)?;
        self.held += begun.lines.len() - before;
        if self.held > HELD {
            self.held = 0;
            let held = self.begun.values_mut().filter(|begun| !begun.lines.is_empty());
            held.map(Begun::flush).try_for_each(|file| file.map(drop))?;
        }
        Ok(())
    }

    /// All of them, on the disk, in the order of the entries.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(mut self) -> Result<Vec<((usize, Kind), Begun)>> {
        for begun in self.begun.values_mut() {
            begun.flush()?.sync_data().context("file", begun.part.file.display())?;
        }
        Ok(std::mem::take(&mut self.begun).into_iter().collect())
    }
}

impl Drop for Parts {
    /// Of a replay that does not begin nothing is left.
    fn drop(&mut self) {
        self.begun.values().for_each(|begun| drop(fs::remove_file(&begun.part.file)));
    }
}

impl Begun {
    fn flush(&mut self) -> Result<File> {
        let lines = std::mem::take(&mut self.lines);
        let opened = File::options().append(true).open(&self.part.file);
        let written = opened.and_then(|mut file| file.write_all(lines.as_bytes()).map(|()| file));
        written.context("file", self.part.file.display())
    }
}
