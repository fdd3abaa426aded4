//! A target that lets us wait: said aloud, for nothing else shows that a lock is what keeps a run.

use std::time::Duration;

use crate::observer::{Event, Observer};

/// What is usually done at once.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// What may rightly take its time.
pub(super) const LATER: Duration = Duration::from_secs(60);

/// Waits for `work`. When that takes longer than `patience`, and each minute from then on, the observer hears of it.
pub(super) async fn aloud<T>(
    observer: &dyn Observer,
    what: &str,
    patience: Duration,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    let (mut waited, mut next) = (Duration::ZERO, patience);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(next) => {
                waited += next;
                next = LATER;
                let text = format!(
                    "{what} has taken {} s so far: if no long statement of the job is at work there, another session holds a \
                     lock, perhaps one that the server keeps for a run whose connection was lost",
                    waited.as_secs()
                );
                observer.event(&Event::Warning(&text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn event(&self, event: &Event<'_>) {
            if let Event::Warning(text) = event {
                self.0.lock().unwrap().push((*text).to_owned());
            }
        }
    }

    #[tokio::test]
    async fn only_a_long_wait_is_told() {
        let heard = Heard::default();
        assert_eq!(aloud(&heard, "preparing t", SOON, async { 1 }).await, 1);
        assert!(heard.0.lock().unwrap().is_empty());
        let (little, long) = (Duration::from_millis(20), Duration::from_millis(200));
        aloud(&heard, "preparing t", little, tokio::time::sleep(long)).await;
        let told = heard.0.into_inner().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("preparing t has taken 0 s") && told[0].contains("lock"), "{told:?}");
    }
}
