//! `weir runs`

use std::path::Path;

use serde::Serialize;
use weir::core::{Error, ErrorKind};
use weir::{EntryProgress, Ledger, Report, RunRecord, WatermarkRecord};

use super::arguments::{Format, RunsArguments};
use super::run::state_dir;
use super::style::{Align, Paint, count, table};
use super::{Outcome, output, runtime, summary};

/// A run, as `--format json` shows it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    run: RunRecord,
    splits: Vec<EntryProgress>,
    report: Option<Report>,
}

/// Lists runs, or shows one.
pub(crate) fn runs(arguments: &RunsArguments) -> Outcome {
    let folder = state_dir(arguments.state_dir.as_deref());
    if arguments.watermarks {
        return watermarks(folder.as_deref(), arguments.format);
    }
    let found = runtime()?.block_on(async {
        let ledger = match &folder {
            Some(folder) => Ledger::find_in(folder).await?,
            None => None,
        };
        let Some(ledger) = ledger else { return Ok::<_, Error>(Vec::new()) };
        let runs = match &arguments.run_id {
            Some(id) => ledger.run(id).await?.into_iter().collect(),
            None => ledger.runs(arguments.last).await?,
        };
        let mut shown = Vec::with_capacity(runs.len());
        for mut run in runs {
            let report = run.report.take();
            shown.push(Shown { splits: ledger.progress(&run.run_id).await?, run, report });
        }
        Ok(shown)
    })?;
    match (&arguments.run_id, found.as_slice()) {
        (Some(id), []) => {
            let text = format!("there is no run {id} in the state folder: `weir runs` lists them");
            Err(Error::new(ErrorKind::NotFound, text))
        }
        (Some(_), [one, ..]) => match arguments.format {
            Format::Json => output::print_json(one).map(|()| 0),
            Format::Text => output::print(&one_run(one)).map(|()| 0),
        },
        (None, all) => match arguments.format {
            Format::Json => output::print_json(&all).map(|()| 0),
            Format::Text => output::print(&list(all)).map(|()| 0),
        },
    }
}

/// Lists how far incremental jobs have come.
fn watermarks(folder: Option<&Path>, format: Format) -> Outcome {
    let found = runtime()?.block_on(async {
        match folder {
            Some(folder) => match Ledger::find_in(folder).await? {
                Some(ledger) => ledger.watermarks(None).await,
                None => Ok(Vec::new()),
            },
            None => Ok(Vec::new()),
        }
    })?;
    match format {
        Format::Json => output::print_json(&found)?,
        Format::Text if found.is_empty() => output::print("no watermarks\n")?,
        Format::Text => output::print(&marks(&found))?,
    }
    Ok(0)
}

fn marks(found: &[WatermarkRecord]) -> String {
    let head = ["job", "source", "target", "column", "read up to before", "moved"].map(|title| (title, Align::Left));
    let row = |record: &WatermarkRecord| {
        let mark = &record.watermark;
        vec![
            record.job.clone(),
            format!("{} in {}", mark.table, mark.place),
            record.target.clone(),
            mark.column.clone(),
            mark.value.clone(),
            record.moved_at.clone(),
        ]
    };
    table(&head, &found.iter().map(row).collect::<Vec<_>>(), Paint::stdout())
}

fn list(runs: &[Shown]) -> String {
    if runs.is_empty() {
        return "no runs\n".into();
    }
    let head = [
        ("run", Align::Left),
        ("job", Align::Left),
        ("status", Align::Left),
        ("started", Align::Left),
        ("splits", Align::Right),
        ("rows", Align::Right),
    ];
    let rows: Vec<_> = runs
        .iter()
        .map(|shown| {
            let run = &shown.run;
            let rows = shown.report.as_ref().map_or_else(|| sum(&shown.splits, |p| p.rows), |r| r.rows_written);
            vec![
                run.run_id.clone(),
                run.job.clone(),
                run.status.name().into(),
                run.started_at.clone(),
                splits(&shown.splits),
                count(rows),
            ]
        })
        .collect();
    table(&head, &rows, Paint::stdout())
}

fn splits(progress: &[EntryProgress]) -> String {
    format!("{}/{}", sum(progress, |p| p.finished), sum(progress, |p| p.splits))
}

fn sum(progress: &[EntryProgress], of: fn(&EntryProgress) -> i64) -> u64 {
    progress.iter().map(|p| of(p).max(0) as u64).sum()
}

fn one_run(shown: &Shown) -> String {
    if let Some(report) = &shown.report {
        return summary::summary(report, Paint::stdout());
    }
    let (run, paint) = (&shown.run, Paint::stdout());
    let mut text = format!("\n{}  {}\n", paint.bold(&run.job), run.status.name());
    let mut line = |key: &str, value: String| text.push_str(&format!("{}  {value}\n", paint.dim(format!("{key:<10}"))));
    line("run", run.run_id.clone());
    line("started", run.started_at.clone());
    line("time", run.at.clone());
    for (name, value) in &run.parameters {
        line("parameter", format!("{name}={value}"));
    }
    line("splits", splits(&shown.splits));
    line("rows", count(sum(&shown.splits, |p| p.rows)));
    text
}
