//! `weir verify`

use weir::{EntryVerification, Verification, VerifyOptions};

use super::arguments::{Format, VerifyArguments};
use super::run::state_dir;
use super::signals::Signals;
use super::style::{Paint, count};
use super::{Outcome, job, output, runtime};

/// Compares the targets of a job with its sources.
pub(crate) fn verify(arguments: &VerifyArguments) -> Outcome {
    let job = job::load(&arguments.job, &arguments.reading)?;
    let state_dir = state_dir(arguments.state_dir.as_deref());
    let options = VerifyOptions { sample: arguments.sample, state_dir, ..VerifyOptions::default() };
    let runtime = runtime()?;
    let (found, signals) = runtime.block_on(async {
        let signals = Signals::watch(options.cancel.clone());
        // Beside the call's own thread, which drives what is left when a signal has come.
        (weir::verify(&job, &options).await, signals)
    });
    runtime.shutdown_background();
    if let (Err(_), Some(code)) = (&found, signals.code()) {
        return Ok(code);
    }
    let found = found?;
    match arguments.format {
        Format::Json => output::print_json(&found)?,
        Format::Text => output::print(&text(&found, Paint::stdout()))?,
    }
    Ok(u8::from(!found.equal))
}

fn text(found: &Verification, paint: Paint) -> String {
    found.entries.iter().map(|entry| one(entry, paint)).collect::<Vec<_>>().join("\n")
}

fn one(entry: &EntryVerification, paint: Paint) -> String {
    let verdict = if entry.equal { paint.green("equal") } else { paint.red("different") };
    let mut text = format!("{} → {}: {verdict}\n", paint.bold(&entry.source), paint.bold(&entry.target));
    if let Some(error) = &entry.error {
        let failed = paint.red("failed");
        return format!(
            "{} → {}: {failed}\n  {}\n",
            paint.bold(&entry.source),
            paint.bold(&entry.target),
            error.message
        );
    }
    let left_out = |rows: u64, why: &str| match rows {
        0 => String::new(),
        rows => format!(", {} {why}", count(rows)),
    };
    text.push_str(&format!(
        "  source     {} rows{}\n",
        count(entry.source_rows),
        left_out(entry.source_left_out, "more that cannot be moved")
    ));
    text.push_str(&format!(
        "  target     {} rows{}\n",
        count(entry.target_rows),
        left_out(entry.target_left_out, "more that cannot be read")
    ));
    text.push_str(&format!("  key        {}\n", entry.key.join(", ")));
    if let Some(sampled) = entry.sampled {
        text.push_str(&format!("  compared   {} rows, a sample\n", count(sampled)));
    }
    for (what, found) in [("missing", &entry.missing), ("different", &entry.different), ("extra", &entry.extra)] {
        if found.rows == 0 {
            continue;
        }
        let note =
            if what == "extra" && entry.extra_allowed { ", which is no fault: the job adds to the target" } else { "" };
        text.push_str(&format!("  {what:<10} {} rows{note}\n", count(found.rows)));
        for key in found.shown() {
            text.push_str(&format!("               {key}\n"));
        }
        if found.rows > found.keys.len() as u64 && !found.keys.is_empty() {
            text.push_str("               …\n");
        }
    }
    text
}
