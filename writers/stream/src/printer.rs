//! Standard output, written by a thread: nobody can break off a write into a pipe that nobody reads.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;
use weir_core::{ConnectorContext, Error, ErrorKind, Result};

/// Lines to print, and whom to tell.
type Job = (String, oneshot::Sender<io::Result<()>>);

/// A task's thread for printing. It ends with the task, or, should it hang in a full pipe, with the process.
pub(crate) struct Printer {
    jobs: Sender<Job>,
}

impl Printer {
    /// Begins a thread that writes into what `open` gives.
    pub(crate) fn start<W: Write>(open: impl FnOnce() -> W + Send + 'static) -> Result<Self> {
        let (jobs, received): (_, Receiver<Job>) = channel();
        let work = move || {
            let mut out = open();
            for (text, done) in received {
                // One call a batch: standard output is locked meanwhile, so tasks take turns by whole lines.
                let result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                let _ = done.send(result);
            }
        };
        std::thread::Builder::new().name("weir-print".into()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Prints `text` and waits until it is taken, or the run is stopped.
    pub(crate) async fn print(&self, text: String, context: &ConnectorContext) -> Result<()> {
        let (done, told) = oneshot::channel();
        let dead = || Error::internal("the thread that prints died");
        self.jobs.send((text, done)).map_err(|_| dead())?;
        context
            .until_cancelled(async {
                told.await.map_err(|_| dead())?.map_err(|error| match error.kind() {
                    io::ErrorKind::BrokenPipe => {
                        let message = "standard output cannot be written: is the reading end of the pipe gone?";
                        Error::new(ErrorKind::Io, message).because(error)
                    }
                    _ => Error::from(error).with("file", "standard output"),
                })
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn context() -> ConnectorContext {
        ConnectorContext {
            cancel: Default::default(),
            io: tokio::runtime::Handle::current(),
            form: weir_core::Form::Native,
            time_zone: "UTC".parse().unwrap(),
            shared: Default::default(),
        }
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_does_not_keep_a_stopped_run() {
        let (mut reader, writer) = io::pipe().unwrap();
        let printer = Printer::start(move || writer).unwrap();
        let context = context();
        let start = Instant::now();
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            context.cancel.cancel();
        };
        // More than a pipe holds.
        let (printed, ()) = tokio::join!(printer.print("x".repeat(1 << 22), &context), stop);
        assert_eq!(printed.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(1));
        drop(printer);
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), 1 << 22);
    }

    #[tokio::test]
    async fn lines_come_in_order_and_a_closed_pipe_is_an_error() {
        let (mut reader, writer) = io::pipe().unwrap();
        let printer = Printer::start(move || writer).unwrap();
        printer.print("a\n".into(), &context()).await.unwrap();
        printer.print("b\n".into(), &context()).await.unwrap();
        let mut read = [0; 4];
        io::Read::read_exact(&mut reader, &mut read).unwrap();
        assert_eq!(&read, b"a\nb\n");
        drop(reader);
        let error = printer.print("c".into(), &context()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.message().contains("the pipe"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_full_disk_is_not_taken_for_a_closed_pipe() {
        let printer = Printer::start(|| std::fs::File::create("/dev/full").unwrap()).unwrap();
        let error = printer.print("a\n".into(), &context()).await.unwrap_err();
        assert!(error.to_string().contains("disk is full") && !error.message().contains("pipe"), "{error}");
        assert!(error.to_string().contains("standard output"), "{error}");
    }
}
