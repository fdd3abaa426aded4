//! Where a new file's bytes go.

use std::fs::File;
use std::io::Write;

use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;
use weir_core::{Error, Result, ResultExt};

use crate::{Store, store_error};

/// The part size of uploads: 10,000 of them are the most that S3 takes, which makes 80 GB.
const PART: usize = 8 * 1024 * 1024;
/// How much is gathered for one write to a local file.
const GATHER: usize = 256 * 1024;

/// A file being written. It is there, whole and durable, after [`Sink::finish`]; dropping it cancels an upload and leaves
/// an unfinished file on a disk.
pub struct Sink {
    name: String,
    buffer: Vec<u8>,
    written: u64,
    output: Output,
}

enum Output {
    Local(File),
    Remote { upload: Option<Box<dyn MultipartUpload>>, io: Handle },
}

impl Sink {
    /// Creates the file `path`, replacing one that is there.
    pub async fn create(store: &Store, path: &str) -> Result<Self> {
        let name = store.display(path);
        let output = match store {
            Store::Local => Output::Local(File::create(path).context("file", path)?),
            Store::Remote { store: remote, io, .. } => {
                let upload = remote.put_multipart(&store.key(path)?).await.map_err(|e| store_error(e, &name))?;
                Output::Remote { upload: Some(upload), io: io.clone() }
            }
        };
        Ok(Self { name, buffer: Vec::new(), written: 0, output })
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Where to put bytes before [`Sink::flush`].
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Sends what has gathered in the buffer, if it is enough to be worth it.
    pub async fn flush(&mut self) -> Result<()> {
        match &mut self.output {
            Output::Local(file) => {
                if self.buffer.len() >= GATHER {
                    file.write_all(&self.buffer).context("file", &self.name)?;
                    self.written += self.buffer.len() as u64;
                    self.buffer.clear();
                    // A whole row group came at once, and the next one is a while away.
                    self.buffer.shrink_to(4 * GATHER);
                }
            }
            Output::Remote { upload, .. } => {
                while self.buffer.len() >= PART {
                    let rest = self.buffer.split_off(PART);
                    let part = std::mem::replace(&mut self.buffer, rest);
                    self.written += part.len() as u64;
                    let upload = upload.as_mut().ok_or_else(|| Error::internal("the upload is finished"))?;
                    let sent = upload.put_part(PutPayload::from(part)).await;
                    sent.map_err(|e| store_error(e, &self.name))?;
                }
            }
        }
        Ok(())
    }

    /// Sends the rest and makes it durable; returns the file's size. An object is not to be seen before
    /// [`Sink::complete`], a local file is whole.
    pub async fn seal(&mut self) -> Result<u64> {
        self.flush().await?;
        let rest = std::mem::take(&mut self.buffer);
        self.written += rest.len() as u64;
        match &mut self.output {
            Output::Local(file) => {
                file.write_all(&rest).and_then(|()| file.sync_all()).context("file", &self.name)?;
            }
            Output::Remote { upload, .. } => {
                let upload = upload.as_mut().ok_or_else(|| Error::internal("the upload is finished"))?;
                // An upload needs at least one part, even an empty one.
                if !rest.is_empty() || self.written == 0 {
                    upload.put_part(PutPayload::from(rest)).await.map_err(|e| store_error(e, &self.name))?;
                }
            }
        }
        Ok(self.written)
    }

    /// Lets a sealed file be seen.
    pub async fn complete(mut self) -> Result<u64> {
        if let Output::Remote { upload, .. } = &mut self.output {
            let open = upload.as_mut().ok_or_else(|| Error::internal("the upload is finished"))?;
            open.complete().await.map_err(|e| store_error(e, &self.name))?;
            *upload = None;
        }
        Ok(self.written)
    }

    /// Writes the rest and makes the file durable; returns its size.
    pub async fn finish(mut self) -> Result<u64> {
        self.seal().await?;
        self.complete().await
    }

    /// Gives the file up: an upload is cancelled, an unfinished local file is left for its folder's removal.
    pub async fn discard(mut self) {
        if let Output::Remote { upload, .. } = &mut self.output
            && let Some(mut open) = upload.take()
        {
            // What cannot be cancelled is litter that the store's own rules remove.
            let _ = open.abort().await;
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A task that failed or was stopped: its upload would be kept, and paid for, until somebody looks.
        if let Output::Remote { upload, io } = &mut self.output
            && let Some(mut open) = upload.take()
        {
            io.spawn(async move {
                let _ = open.abort().await;
            });
        }
    }
}
