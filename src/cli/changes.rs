//! `weir changes`

use weir::{ChangeOutcome, Ledger, RecordedChange};

use super::arguments::{ChangesArguments, Format};
use super::run::state_dir;
use super::style::{Align, Paint, table};
use super::{Outcome, output, runtime};

/// Lists what whole-database jobs have changed at their targets, and what they would not.
pub(crate) fn changes(arguments: &ChangesArguments) -> Outcome {
    let folder = state_dir(arguments.state_dir.as_deref());
    let found = runtime()?.block_on(async {
        let ledger = match &folder {
            Some(folder) => Ledger::find_in(folder).await?,
            None => None,
        };
        match ledger {
            Some(ledger) => ledger.changes(arguments.target.as_deref(), arguments.run.as_deref(), arguments.last).await,
            None => Ok(Vec::new()),
        }
    })?;
    match arguments.format {
        Format::Json => output::print_json(&found)?,
        Format::Text => output::print(&text(&found))?,
    }
    Ok(0)
}

fn text(changes: &[RecordedChange]) -> String {
    if changes.is_empty() {
        return "no changes\n".into();
    }
    let head = [
        ("when", Align::Left),
        ("target", Align::Left),
        ("change", Align::Left),
        ("column", Align::Left),
        ("from", Align::Left),
        ("to", Align::Left),
        ("outcome", Align::Left),
    ];
    let paint = Paint::stdout();
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".into());
    let rows: Vec<_> = changes
        .iter()
        .map(|recorded| {
            let change = &recorded.change;
            let detail = if change.detail.is_empty() { String::new() } else { format!(": {}", change.detail) };
            let outcome = match change.outcome {
                ChangeOutcome::Refused | ChangeOutcome::Failed => paint.bold(change.outcome.name()),
                outcome => outcome.name().to_owned(),
            };
            vec![
                recorded.at.get(..19).unwrap_or(&recorded.at).to_owned(),
                recorded.target.clone(),
                change.kind.name().replace('_', " "),
                or_dash(&change.column),
                or_dash(&change.from),
                or_dash(&change.to),
                format!("{outcome}{detail}"),
            ]
        })
        .collect();
    table(&head, &rows, paint)
}
