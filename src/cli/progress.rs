//! What a run shows while it runs: lines on a terminal, else a log entry every few seconds.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use weir::{Counts, Event, Observer, TableProgress, TableState};

use super::arguments::{LogFormat, LoggingArguments};
use super::logging;
use super::style::{bytes, count, duration};

/// How often a log tells how far a run is.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Rates are those of this stretch of time.
const WINDOW: Duration = Duration::from_secs(3);
/// More lines than this would scroll away.
const MAX_LINES: usize = 12;

/// Watches a run.
pub(crate) struct Progress {
    screen: Option<MultiProgress>,
    state: Mutex<State>,
}

struct State {
    started: Instant,
    logged: Instant,
    /// What the last log entry told.
    told: Counts,
    lines: Vec<ProgressBar>,
    total: Option<ProgressBar>,
    rates: Vec<Rate>,
}

/// The counts of the last moments.
#[derive(Default)]
struct Rate(VecDeque<(Instant, Counts)>);

impl Rate {
    /// Rows and bytes a second up to now.
    fn add(&mut self, now: Instant, counts: Counts) -> (f64, f64) {
        self.0.push_back((now, counts));
        while self.0.len() > 2 && now.duration_since(self.0[1].0) >= WINDOW {
            self.0.pop_front();
        }
        let Some((then, before)) = self.0.front() else { return (0.0, 0.0) };
        let seconds = now.duration_since(*then).as_secs_f64();
        if seconds < 0.05 {
            return (0.0, 0.0);
        }
        let of = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (of(counts.rows_written, before.rows_written), of(counts.bytes_written, before.bytes_written))
    }
}

impl Progress {
    /// Lines where stderr is a terminal and nobody asked for silence or JSON.
    pub fn new(arguments: &LoggingArguments) -> Self {
        let lines = std::io::stderr().is_terminal() && !arguments.quiet && arguments.log == LogFormat::Text;
        let screen = lines.then(MultiProgress::new);
        if let Some(screen) = &screen {
            logging::step_around(screen.clone());
        }
        let now = Instant::now();
        let state = State {
            started: now,
            logged: now,
            told: Counts::default(),
            lines: Vec::new(),
            total: None,
            rates: Vec::new(),
        };
        Self { screen, state: Mutex::new(state) }
    }

    /// Takes the lines away.
    pub fn finish(&self) {
        if let Some(screen) = &self.screen {
            let _ = screen.clear();
        }
    }

    fn show(&self, screen: &MultiProgress, total: Counts, tables: &[TableProgress]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let now = Instant::now();
        // Tables at work first: those yet to begin and those done say little.
        let mut shown: Vec<&TableProgress> = tables.iter().filter(|t| at_work(t)).collect();
        shown.extend(tables.iter().filter(|t| t.state == TableState::Failed).rev());
        let others = |t: &&TableProgress| !at_work(t) && t.state != TableState::Failed && t.counts.rows_read > 0;
        shown.extend(tables.iter().filter(others).rev());
        shown.truncate(MAX_LINES);
        shown.sort_by_key(|t| tables.iter().position(|other| std::ptr::eq(*t, other)));
        while state.lines.len() < shown.len().max(1) {
            let line = match &state.total {
                Some(total) => screen.insert_before(total, ProgressBar::no_length()),
                None => screen.add(ProgressBar::no_length()),
            };
            line.set_style(plain());
            state.lines.push(line);
        }
        state.rates.resize_with(tables.len() + 1, Rate::default);
        let width = shown.iter().map(|t| name(t).chars().count()).max().unwrap_or(0).clamp(5, 40);
        let rates: Vec<_> =
            tables.iter().zip(&mut state.rates).map(|(table, rate)| rate.add(now, table.counts)).collect();
        for (line, table) in state.lines.iter().zip(&shown) {
            let index = tables.iter().position(|other| std::ptr::eq(*table, other)).unwrap_or(0);
            let share = share(table);
            let message = text(&name(table), width, &table.counts, rates[index], share, left(table, rates[index].0));
            line.set_message(message + ending(table));
        }
        if tables.len() > 1 {
            let bar = state.total.get_or_insert_with(|| {
                let bar = screen.add(ProgressBar::no_length());
                bar.set_style(plain());
                bar
            });
            let rate = state.rates[tables.len()].add(now, total);
            let (share, left) = whole(tables, rate.0);
            bar.set_message(text("total", width, &total, rate, share, left) + &states(tables));
        }
    }

    fn log(&self, total: Counts, tables: &[TableProgress]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(state.logged) < LOG_EVERY {
            return;
        }
        let seconds = now.duration_since(state.logged).as_secs_f64();
        let since = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let rows = since(total.rows_written, state.told.rows_written);
        let bytes = since(total.bytes_written, state.told.bytes_written);
        state.logged = now;
        state.told = total;
        let (share, left) = whole(tables, rows);
        let done = tables.iter().filter(|t| t.splits > 0 && t.splits_done == t.splits).count();
        let failed = tables.iter().filter(|t| t.state == TableState::Failed).count();
        tracing::info!(
            rows_read = total.rows_read,
            rows_written = total.rows_written,
            rows_dirty = total.rows_dirty,
            bytes_written = total.bytes_written,
            rows_per_second = rows as u64,
            bytes_per_second = bytes as u64,
            percent = share.map(|s| (s * 100.0) as u64),
            seconds_left = left.map(|l| l.as_secs()),
            tables = tables.len(),
            tables_done = done,
            tables_failed = failed,
            elapsed_seconds = now.duration_since(state.started).as_secs(),
            "progress"
        );
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Progress { total, tables } => match &self.screen {
                Some(screen) => self.show(screen, *total, tables),
                None => self.log(*total, tables),
            },
            Event::Started { job, run_id } => tracing::info!(job, run_id, "the run begins"),
            Event::Prepared { target, splits, channels } => {
                tracing::info!(target_table = target, splits, channels, "prepared");
            }
            Event::SplitStarted { split, attempt } => {
                tracing::debug!(
                    table = split.table,
                    split = split.id,
                    attempt,
                    part = split.description,
                    "split begins"
                );
            }
            Event::SplitFinished { split, rows } => {
                tracing::debug!(table = split.table, split = split.id, rows, "split is durable");
            }
            Event::Dirty { table, row } => {
                tracing::debug!(
                    table,
                    column = row.column.as_deref().unwrap_or_default(),
                    reason = row.reason,
                    "dirty row"
                );
            }
            Event::Committed { target, description } => {
                tracing::info!(target_table = target, "committed: {description}");
            }
            Event::Warning(text) => tracing::warn!("{text}"),
            _ => {}
        }
    }
}

fn plain() -> ProgressStyle {
    // The template is a constant, and valid.
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn at_work(table: &TableProgress) -> bool {
    let moving = matches!(table.state, TableState::Moving | TableState::Moved);
    moving && table.counts.rows_read > 0 && table.splits_done < table.splits
}

/// What a table's line ends with, where that is not plain from its numbers.
fn ending(table: &TableProgress) -> &'static str {
    match table.state {
        TableState::Moved => "  publishing",
        TableState::Published => "  published",
        TableState::Failed => "  FAILED",
        TableState::Waiting | TableState::Moving => "",
    }
}

/// How many tables are how far, where tables wait for their turn at all.
fn states(tables: &[TableProgress]) -> String {
    let count = |state: TableState| tables.iter().filter(|table| table.state == state).count();
    let kinds = [
        (TableState::Published, "published"),
        (TableState::Moved, "publishing"),
        (TableState::Moving, "moving"),
        (TableState::Waiting, "waiting"),
        (TableState::Failed, "failed"),
    ];
    if count(TableState::Moving) == tables.len() {
        return String::new();
    }
    let told = kinds.into_iter().map(|(state, what)| (count(state), what)).filter(|(number, _)| *number > 0);
    let told: Vec<_> = told.map(|(number, what)| format!("{number} {what}")).collect();
    format!("  tables: {}", told.join(", "))
}

fn name(table: &TableProgress) -> String {
    format!("{} → {}", table.source, table.target)
}

/// How much of a table is done: by its estimate, which may be wrong, so never more than 99 % before the end.
fn share(table: &TableProgress) -> Option<f64> {
    let (splits, finished) = (table.splits, table.splits_done);
    if splits > 0 && splits == finished {
        return Some(1.0);
    }
    let rows = table.estimated_rows.filter(|n| *n > 0);
    Some((table.counts.rows_read as f64 / rows? as f64).min(0.99))
}

fn left(table: &TableProgress, rate: f64) -> Option<Duration> {
    let rows = table.estimated_rows?.checked_sub(table.counts.rows_read)?;
    (rate > 0.0).then(|| Duration::from_secs_f64((rows as f64 / rate).min(1e8)))
}

/// Share and time left of all tables, where each one's size is known.
fn whole(tables: &[TableProgress], rate: f64) -> (Option<f64>, Option<Duration>) {
    let mut all = 0u64;
    let mut done = 0u64;
    for table in tables {
        let finished = table.splits > 0 && table.splits_done == table.splits;
        let rows = if finished { Some(table.counts.rows_read) } else { table.estimated_rows };
        let Some(rows) = rows else { return (None, None) };
        all += rows.max(table.counts.rows_read);
        done += table.counts.rows_read;
    }
    if all == 0 {
        return (None, None);
    }
    let left = (rate > 0.0).then(|| Duration::from_secs_f64((all.saturating_sub(done) as f64 / rate).min(1e8)));
    (Some(done as f64 / all as f64), left)
}

fn text(
    name: &str,
    width: usize,
    counts: &Counts,
    (rows, bytes_rate): (f64, f64),
    share: Option<f64>,
    left: Option<Duration>,
) -> String {
    let name: String = name.chars().take(width).collect();
    let mut text = format!(
        "{name:<width$}  {:>12} rows  {:>9}  {:>10} rows/s  {:>9}/s",
        count(counts.rows_written),
        bytes(counts.bytes_written),
        count(rows as u64),
        bytes(bytes_rate as u64),
    );
    if let Some(share) = share {
        text.push_str(&format!("  {:>3.0} %", share * 100.0));
    }
    if let Some(left) = left.filter(|_| share.is_some_and(|s| s < 1.0)) {
        text.push_str(&format!("  {} left", duration((left.as_millis() as u64).max(1000))));
    }
    if counts.rows_dirty > 0 {
        text.push_str(&format!("  {} dirty", count(counts.rows_dirty)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(read: u64, estimated: Option<u64>, (splits, splits_done): (usize, usize)) -> TableProgress {
        TableProgress {
            source: "a".into(),
            target: "b".into(),
            estimated_rows: estimated,
            counts: Counts { rows_read: read, rows_written: read, ..Counts::default() },
            splits,
            splits_done,
            ..TableProgress::default()
        }
    }

    #[test]
    fn how_far_it_is() {
        assert_eq!(share(&table(50, Some(100), (2, 1))), Some(0.5));
        assert_eq!(share(&table(500, Some(100), (2, 1))), Some(0.99));
        assert_eq!(share(&table(500, Some(100), (2, 2))), Some(1.0));
        assert_eq!(share(&table(500, None, (2, 1))), None);
        let (share, left) = whole(&[table(50, Some(100), (2, 1)), table(100, None, (1, 1))], 10.0);
        assert_eq!((share, left), (Some(0.75), Some(Duration::from_secs(5))));
        assert_eq!(whole(&[table(50, None, (2, 1))], 10.0), (None, None));
    }

    #[test]
    fn the_states_of_many_tables_are_counted() {
        let of = |state| TableProgress { state, ..table(1, None, (1, 0)) };
        assert_eq!(states(&[of(TableState::Moving), of(TableState::Moving)]), "");
        let all = [of(TableState::Waiting), of(TableState::Failed), of(TableState::Waiting), of(TableState::Published)];
        assert_eq!(states(&all), "  tables: 1 published, 2 waiting, 1 failed");
        assert!(!at_work(&all[0]) && at_work(&of(TableState::Moving)));
    }

    #[test]
    fn a_line_says_it_all() {
        let counts = Counts { rows_written: 1_234_567, bytes_written: 5_000_000, rows_dirty: 2, ..Counts::default() };
        let line = text("a → b", 8, &counts, (1000.0, 2e6), Some(0.5), Some(Duration::from_secs(65)));
        assert_eq!(
            line,
            "a → b        1,234,567 rows     5.0 MB       1,000 rows/s     2.0 MB/s   50 %  1:05 min left  2 dirty"
        );
    }
}
