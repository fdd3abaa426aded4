//! `setting.verify`: a run that succeeded is compared with its source before it is reported.

use weir_core::{Error, ErrorKind};

use super::Run;
use super::outcome::Ended;
use crate::verify::{VerifyOptions, verify};

impl Run {
    /// Compares targets and sources; a difference is the run's error.
    pub(super) async fn verify(&self, ended: &mut Ended) {
        if !self.job.setting.verify || !ended.succeeded() {
            return;
        }
        if self.options.limit.is_some() {
            return self.warn("not verified: a try of a few rows leaves the others out");
        }
        let options = VerifyOptions { sample: None, cancel: self.cancel.clone() };
        let dirty = self.progress.snapshot().0.rows_dirty;
        ended.error = match verify(&self.job, &options).await {
            // What the target refused is in the quarantine, and is missing there for that.
            Ok(found) if found.equal || found.lacks_only(dirty) => None,
            Ok(found) => Some(Error::new(ErrorKind::Data, format!("verification failed: {}", found.summary()))),
            Err(error) => Some(error.with("while", "verifying what the run wrote")),
        };
    }
}
