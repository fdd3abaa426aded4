//! The job's budget of rows and bytes per second, shared by all its channels.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The longest burst: what one send may spend at once.
const BURST: Duration = Duration::from_millis(100);

/// Rows and bytes per second for a whole job.
#[derive(Debug, Default)]
pub struct Limiter {
    rows: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// A token bucket that starts empty and holds no more than [`BURST`]'s worth, kept as the moment up to which its tokens
/// are promised: each claim moves that moment on, so waiting late is made up for and the rate stays exact.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    promised: Mutex<Option<Instant>>,
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1) as f64, promised: Mutex::new(None) }
    }

    /// The moment at which `amount` may go.
    fn claim(&self, amount: u64, now: Instant) -> Instant {
        let mut promised = self.promised.lock().unwrap_or_else(|poison| poison.into_inner());
        // An idle bucket may make up for a late wake-up, not for an idle minute.
        let oldest = now.checked_sub(BURST).unwrap_or(now);
        let from = promised.map_or(now, |at| at.max(oldest));
        let until = from + Duration::from_secs_f64(amount as f64 / self.per_second);
        *promised = Some(until);
        until
    }

    fn burst(&self) -> u64 {
        ((self.per_second * BURST.as_secs_f64()) as u64).max(1)
    }
}

impl Limiter {
    /// A budget; `None` for no limit.
    pub fn new(rows_per_second: Option<u64>, bytes_per_second: Option<u64>) -> Self {
        Self { rows: rows_per_second.map(Bucket::new), bytes: bytes_per_second.map(Bucket::new) }
    }

    /// How many rows of a batch may go at once; `None` for all of them.
    pub fn slice(&self, rows: usize, bytes: usize) -> Option<usize> {
        let by_rows = self.rows.as_ref().map(|b| b.burst());
        // Rows of about equal width; a single row wider than the burst goes alone and is waited for.
        let by_bytes = self.bytes.as_ref().map(|b| b.burst().saturating_mul(rows as u64) / (bytes as u64).max(1));
        let most = by_rows.into_iter().chain(by_bytes).min()?.max(1);
        (most < rows as u64).then_some(most as usize)
    }

    /// Waits until `rows` rows of `bytes` bytes fit the budget.
    pub async fn acquire(&self, rows: usize, bytes: usize) {
        let now = Instant::now();
        if let Some(moment) = self.claim(rows, bytes, now).filter(|moment| *moment > now) {
            sleep_until(moment).await;
        }
    }

    /// The moment from which they may go.
    fn claim(&self, rows: usize, bytes: usize, now: Instant) -> Option<Instant> {
        let by_rows = self.rows.as_ref().map(|b| b.claim(rows as u64, now));
        let by_bytes = self.bytes.as_ref().map(|b| b.claim(bytes as u64, now));
        by_rows.max(by_bytes)
    }
}

/// Takes up to `rows` rows of those that may `left` be read (`--limit`), never more than there are: how many, and whether
/// they are the last. What is taken and not used can be added again.
pub fn claim(left: &AtomicI64, rows: usize) -> (usize, bool) {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let taken = |left: i64| left.clamp(0, rows);
    let before = left.fetch_update(Relaxed, Relaxed, |left| Some(left - taken(left))).unwrap_or_default();
    (taken(before) as usize, before <= rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_a_failed_attempt_claimed_can_be_given_back_whole() {
        let left = AtomicI64::new(10);
        assert_eq!(claim(&left, 4), (4, false));
        assert_eq!(claim(&left, 100), (6, true));
        assert_eq!(claim(&left, 100), (0, true));
        left.fetch_add(6, Relaxed);
        assert_eq!(claim(&left, 6), (6, true));
    }

    #[tokio::test]
    async fn four_channels_share_one_budget_from_the_first_second_on() {
        let limiter = Arc::new(Limiter::new(Some(10_000), None));
        let start = Instant::now();
        let channels: Vec<_> = (0..4)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move {
                    let mut left = 5_000usize;
                    while left > 0 {
                        let rows = limiter.slice(left, left * 8).unwrap_or(left);
                        limiter.acquire(rows, rows * 8).await;
                        left -= rows;
                    }
                })
            })
            .collect();
        for channel in channels {
            channel.await.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        // Waiting ends late on a busy machine; that a limit is used up is seen on a clock of its own, below.
        assert!((1.95..=4.0).contains(&seconds), "{seconds}");
    }

    /// What three channels that send batches of unlike sizes, each a little `late` now and then, have moved by when, in ten
    /// seconds of a clock of their own.
    fn ten_seconds(limiter: &Limiter, late: Duration) -> Vec<(f64, u64, u64)> {
        let start = Instant::now();
        let (mut told, mut rows_moved, mut bytes_moved) = (Vec::new(), 0, 0);
        // Of each channel: when it sends what next, what is left of its batch, and how many batches it has sent.
        let mut channels: Vec<(Instant, usize, usize, usize)> = (0..3).map(|_| (start, 0, 0, 0)).collect();
        loop {
            let next = (0..channels.len()).min_by_key(|channel| channels[*channel].0).unwrap();
            let (now, waiting, mut left, mut batches) = channels[next];
            if now > start + Duration::from_secs(10) {
                return told;
            }
            let (width, mut begin) = (20 + next * 7, now);
            if waiting > 0 {
                rows_moved += waiting as u64;
                bytes_moved += (waiting * width) as u64;
                told.push(((now - start).as_secs_f64(), rows_moved, bytes_moved));
            }
            if left == 0 {
                batches += 1;
                left = (next + 1) * 1_700 + batches % 911;
                begin += if batches % 5 == next { late } else { Duration::ZERO };
            }
            let rows = limiter.slice(left, left * width).unwrap_or(left);
            let until = limiter.claim(rows, rows * width, begin).unwrap_or(begin).max(begin);
            channels[next] = (until, rows, left - rows, batches);
        }
    }

    /// Within 3 % over ten seconds either way, and at no moment further off than two bursts.
    fn is_kept(told: &[(f64, u64)], limit: f64) {
        let moved = told.last().unwrap().1 as f64 / (limit * 10.0);
        assert!((0.97..=1.0001).contains(&moved), "{moved} of the limit");
        for (at, amount) in told {
            let behind = limit * at - *amount as f64;
            assert!((-1.0..=limit * 0.2).contains(&behind), "{amount} after {at} s");
        }
    }

    #[test]
    fn a_limit_is_used_up_and_never_passed() {
        for late in [0, 90].map(Duration::from_millis) {
            let told = ten_seconds(&Limiter::new(Some(20_000), None), late);
            is_kept(&told.iter().map(|(at, rows, _)| (*at, *rows)).collect::<Vec<_>>(), 20_000.0);
            // Of two limits the tighter one holds, here that of bytes.
            for rows in [None, Some(1_000_000)] {
                let told = ten_seconds(&Limiter::new(rows, Some(1_500_000)), late);
                is_kept(&told.iter().map(|(at, _, bytes)| (*at, *bytes)).collect::<Vec<_>>(), 1_500_000.0);
            }
        }
    }

    #[test]
    fn a_wide_row_goes_alone() {
        let limiter = Limiter::new(None, Some(1000));
        assert_eq!(limiter.slice(10, 1_000_000), Some(1));
        assert_eq!(limiter.slice(10, 50), None);
        assert_eq!(Limiter::default().slice(10, 50), None);
    }
}
