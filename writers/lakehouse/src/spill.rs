//! The files that a merge goes on in when `mergeMemory` is used up. They are DataFusion's own; what goes wrong with them is
//! said in our words, which name their folder: the library passes on text only, and "no space left" may as well be the
//! table's.

use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;
use weir_core::{Error, ErrorKind};
use weir_files::{SPOOL, spool_error};
use weir_lakehouse::io_error;

/// Files of the system's folder for temporary files.
///
/// # Errors
/// None that is known: the folder is looked at with the first file.
pub(crate) fn on_disk() -> Result<DiskManagerBuilder> {
    let spills = Spills(Arc::new(DiskManagerBuilder::default().build()?));
    Ok(DiskManagerBuilder::default().with_mode(DiskManagerMode::Custom(Arc::new(spills))))
}

/// What the text of a failed merge says of its temporary files.
pub(crate) fn fault(text: &str) -> Option<Error> {
    text.find(SPOOL).map(|at| Error::new(ErrorKind::Io, &text[at..]))
}

struct Spills(Arc<DiskManager>);

impl TempFileFactory for Spills {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        Ok(Arc::new(Spill(self.0.create_tmp_file(description).map_err(named)?)))
    }
}

struct Spill(Arc<dyn SpillFile>);

impl SpillFile for Spill {
    fn path(&self) -> Option<&Path> {
        self.0.path()
    }

    fn size(&self) -> Option<u64> {
        self.0.size()
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        self.0.read_stream()
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(Writer(self.0.open_writer().map_err(named)?)))
    }
}

struct Writer(Box<dyn SpillWriter>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(of_folder)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(of_folder)
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        self.0.finish().map_err(named)
    }
}

fn named(error: DataFusionError) -> DataFusionError {
    DataFusionError::IoError(of_folder(io::Error::other(error)))
}

fn of_folder(error: io::Error) -> io::Error {
    // The system's own fault, which says what kind it is, may be wrapped.
    let inner = io_error(&error).map(|inner| io::Error::new(inner.kind(), inner.to_string()));
    let inner = inner.unwrap_or(error);
    io::Error::new(inner.kind(), spool_error(inner).full())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_folder_is_told_from_a_full_target() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let wrapped = of_folder(io::Error::other(DataFusionError::IoError(full())));
        assert_eq!(wrapped.kind(), io::ErrorKind::StorageFull);
        let text = DataFusionError::IoError(wrapped).context("sorting").to_string();
        let said = fault(&text).unwrap();
        let folder = std::env::temp_dir().display().to_string();
        for word in ["is full", "TMPDIR", &folder] {
            assert!(said.message().contains(word), "{said}");
        }
        assert!(fault(&DataFusionError::IoError(full()).to_string()).is_none());
    }
}
