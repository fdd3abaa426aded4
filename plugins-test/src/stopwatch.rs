//! Promises about time, on a machine that is busy with other tests.

use std::time::{Duration, Instant};

/// Measures what is promised to be over in time.
///
/// A promise holds to the letter where nobody has to wait for a processor or a disk. Moments in which somebody waits, as
/// the system itself counts them, are given back, up to twice the promised time: enough for tests that share two
/// processors with others, and too little for what never ends.
pub struct Stopwatch {
    begun: Instant,
    stalled: Option<Duration>,
}

impl Stopwatch {
    /// Begins to measure.
    pub fn start() -> Self {
        Self { begun: Instant::now(), stalled: stalled() }
    }

    /// The time since.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether what was promised to take at most so long is not late yet.
    pub fn is_within(&self, most: Duration) -> bool {
        self.elapsed() <= self.allowed(most)
    }

    /// How long since somebody on this machine waited for a processor or a disk, at most the whole time.
    pub fn waited(&self) -> Duration {
        let waited = match (self.stalled, stalled()) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            // A kernel that does not count it: whether there is more to do than processors is a guess.
            _ if is_loaded() => Duration::MAX,
            _ => Duration::ZERO,
        };
        waited.min(self.elapsed())
    }

    fn allowed(&self, most: Duration) -> Duration {
        most + self.waited().min(most * 2)
    }
}

/// How long, since the system started, somebody waited for a processor or a disk.
fn stalled() -> Option<Duration> {
    let of = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/pressure/{what}")).ok()?;
        let total = text.lines().find(|line| line.starts_with("some"))?.rsplit_once("total=")?.1;
        total.trim().parse().ok().map(Duration::from_micros)
    };
    Some(of("cpu")? + of("io")?)
}

fn is_loaded() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Option<f64> = text.split_whitespace().next().and_then(|load| load.parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    load.is_some_and(|load| load > processors as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_stretched_but_not_without_end() {
        let watch = Stopwatch::start();
        let most = Duration::from_millis(30);
        assert!(watch.is_within(Duration::from_secs(60)));
        std::thread::sleep(most * 4);
        assert!(!watch.is_within(most), "{:?}", watch.allowed(most));
        assert!((most..=most * 3).contains(&watch.allowed(most)));
    }

    #[test]
    fn who_waits_for_a_processor_is_given_it_back() {
        let Some(before) = stalled() else { return crate::not_run("this kernel does not count who waits") };
        let watch = Stopwatch::start();
        let busy = std::thread::available_parallelism().map_or(1, usize::from) * 3;
        let until = Instant::now() + Duration::from_millis(400);
        std::thread::scope(|scope| {
            for _ in 0..busy {
                scope.spawn(|| while Instant::now() < until {});
            }
        });
        let lost = stalled().unwrap() - before;
        if lost < Duration::from_millis(100) {
            return crate::not_run("this kernel does not count who waits for a processor here");
        }
        assert!(watch.is_within(Duration::from_millis(350)), "{:?}", watch.elapsed());
    }
}
