//! The same call, made again until it ends well.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::place::{Places, Side};

/// How often the same call is made before the case is given up.
const CALLS: usize = 6;

/// How long a call may take, faults and waits included.
const PATIENCE: Duration = Duration::from_secs(90);

/// Who calls for one run of a job.
pub struct Caller {
    job: PathBuf,
    folder: PathBuf,
    run_id: String,
    /// What the calls have said so far.
    pub said: String,
    /// How many faults have come while a run was at work; the others came too late.
    pub met: usize,
}

impl Caller {
    /// For a run of this name, with a state folder inside `folder`.
    pub fn new(job: &Path, folder: &Path, run_id: &str) -> Self {
        Self { job: job.to_owned(), folder: folder.to_owned(), run_id: run_id.to_owned(), said: String::new(), met: 0 }
    }

    /// Calls until the run has ended well, each time with the next of the faults in its course. After the first call
    /// that failed somebody changes the tables of `changing`.
    ///
    /// # Errors
    /// A call that panics or hangs; a run that never ends well.
    pub async fn until_well(
        &mut self,
        faults: &[(Fault, Duration)],
        places: &mut Places,
        changing: &[Side],
    ) -> Result<(), String> {
        for number in 0..CALLS {
            let (code, text) = self.call(faults.get(number), places, number).await?;
            self.said.push_str(&format!("call {number}: exit {code:?}\n{text}"));
            places.revive();
            if code == Some(0) {
                return Ok(());
            }
            for table in changing.iter().filter(|_| number == 0) {
                table.change().await;
            }
        }
        Err(format!("the run never ended well\n{}", self.said))
    }

    /// One call, with a fault in its course; its exit code and what it said.
    async fn call(
        &mut self,
        fault: Option<&(Fault, Duration)>,
        places: &mut Places,
        number: usize,
    ) -> Result<(Option<i32>, String), String> {
        let log = self.folder.join(format!("log{number}"));
        let mut run = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--quiet", "--run-id", &self.run_id, "--quarantine", "off"])
            .arg("--state-dir")
            .arg(self.folder.join("state"))
            .arg(&self.job)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        if let Some((fault, at)) = fault {
            tokio::time::sleep(*at).await;
            self.met += usize::from(run.try_wait().unwrap().is_none());
            fault.strike(&mut run, places, &self.folder).await;
        }
        let code = wait(&mut run, begun + PATIENCE).await;
        let text = std::fs::read_to_string(&log).unwrap();
        match code {
            Some(code) if !text.contains("panicked") => Ok((code, text)),
            Some(_) => Err(format!("call {number} panicked\n{text}")),
            None => Err(format!("call {number} did not end within {} s\n{text}", PATIENCE.as_secs())),
        }
    }
}

async fn wait(run: &mut Child, until: Instant) -> Option<Option<i32>> {
    loop {
        if let Some(status) = run.try_wait().unwrap() {
            return Some(status.code());
        }
        if Instant::now() > until {
            let _ = run.kill();
            let _ = run.wait();
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
