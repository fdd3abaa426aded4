//! The end of a run, for people.

use weir::{Report, Status, TableReport};

use super::style::{Align, Paint, bytes, count, duration, table};

/// The whole report as text.
pub(crate) fn summary(report: &Report, paint: Paint) -> String {
    let mut text =
        format!("\n{}  {} in {}\n", paint.bold(&report.job), status(report.status, paint), duration(report.elapsed_ms));
    let mut line = |key: &str, value: String| text.push_str(&format!("{}  {value}\n", paint.dim(format!("{key:<10}"))));
    line("run", report.run_id.clone());
    line("started", format!("{}, finished {}", report.started_at, report.finished_at));
    line("time", format!("{} {}", report.at, report.time_zone));
    let rate = |n: u64| n as f64 * 1000.0 / report.elapsed_ms.max(1) as f64;
    line("read", format!("{}, {}", rows(report.rows_read), bytes(report.bytes_read)));
    line(
        "written",
        format!(
            "{}, {} ({} rows/s, {}/s)",
            rows(report.rows_written),
            bytes(report.bytes_written),
            count(report.rows_per_second as u64),
            bytes(rate(report.bytes_written) as u64)
        ),
    );
    let others = [(report.rows_dirty, "dirty"), (report.rows_filtered, "filtered"), (report.rows_skipped, "skipped")];
    for (number, what) in others {
        if number > 0 || what == "dirty" {
            line(what, rows(number));
        }
    }
    // That tables are made is seen below.
    let made = |change: &&weir::TableChangeRecord| change.kind != weir::ChangeKind::TableAdded;
    let changes = report.tables.iter().flat_map(|table| &table.changes).filter(made).count() + report.changes.len();
    if changes > 0 {
        line("changes", format!("{changes} of tables; `weir changes --run {}` shows them", report.run_id));
    }
    if let Some(path) = &report.quarantine {
        line("dirty rows", format!("are in {}", path.display()));
    }
    if !report.tables.is_empty() {
        text.push('\n');
        text.push_str(&tables(&report.tables, paint));
    }
    for (table, window) in report.tables.iter().filter_map(|table| Some((table, table.window.as_ref()?))) {
        text.push_str(&format!("{}  {}: {}\n", paint.dim("window    "), table.source, window.describe()));
    }
    text
}

fn rows(number: u64) -> String {
    format!("{} row{}", count(number), if number == 1 { "" } else { "s" })
}

fn tables(tables: &[TableReport], paint: Paint) -> String {
    let head = [
        ("source", Align::Left),
        ("target", Align::Left),
        ("read", Align::Right),
        ("written", Align::Right),
        ("dirty", Align::Right),
        ("rows/s", Align::Right),
        ("time", Align::Right),
        ("", Align::Left),
    ];
    let rows: Vec<Vec<String>> = tables
        .iter()
        .map(|t| {
            let end = match (t.status, t.created) {
                (Status::Succeeded, true) => "created".into(),
                (Status::Succeeded, false) => String::new(),
                (status, _) => name(status).to_owned(),
            };
            vec![
                t.source.clone(),
                t.target.clone(),
                count(t.rows_read),
                count(t.rows_written),
                count(t.rows_dirty),
                count(t.rows_per_second as u64),
                duration(t.elapsed_ms),
                end,
            ]
        })
        .collect();
    table(&head, &rows, paint)
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::PartiallyFailed => "partially failed",
        Status::Stopped => "stopped",
    }
}

fn status(status: Status, paint: Paint) -> String {
    match status {
        Status::Succeeded => paint.green(name(status)),
        Status::Stopped => paint.yellow(name(status)),
        Status::Failed | Status::PartiallyFailed => paint.red(name(status)),
    }
}
