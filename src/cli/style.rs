//! Colours, numbers and aligned columns.

use std::fmt::Display;
use std::io::IsTerminal;

use weir::core::Error;
pub(crate) use weir::layout::Align;
use weir::layout::aligned;

use super::output;

/// Paints text when its stream is a terminal that takes colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// For stdout.
    pub fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && colours())
    }

    /// For stderr.
    pub fn stderr() -> Self {
        Self(std::io::stderr().is_terminal() && colours())
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    pub fn red(self, text: impl Display) -> String {
        self.with("1;31", text)
    }

    pub fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }

    pub fn yellow(self, text: impl Display) -> String {
        self.with("33", text)
    }
}

/// See no-color.org.
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Shows an error on stderr: what is wrong first, its causes and its place after it.
pub(crate) fn show_error(error: &Error) {
    let paint = Paint::stderr();
    let mut lines = error.message().lines();
    let mut text = format!("{} {}\n", paint.red("error:"), lines.next().unwrap_or_default());
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(&format!("  {} {said}\n", paint.dim("because:")));
        }
        cause = source.source();
    }
    for (key, value) in error.context() {
        text.push_str(&format!("  {} {value}\n", paint.dim(format!("{key}:"))));
    }
    output::note(&text);
}

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 MB`, in powers of 1000.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `850 ms`, `2.4 s`, `3:05 min`, `1:02:03 h`
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02} h", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Rows with aligned columns; the head is bold.
pub(crate) fn table(head: &[(&str, Align)], rows: &[Vec<String>], paint: Paint) -> String {
    let mut lines = aligned(head, rows);
    if let Some(first) = lines.first_mut() {
        *first = paint.bold(&first);
    }
    lines.join("\n") + "\n"
}

/// Breaks a text into lines of at most `width` characters.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one line from the start");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 999, 1000, 1_250_000, 999_990_000].map(bytes), ["0 B", "999 B", "1.0 kB", "1.2 MB", "1.0 GB"]);
        assert_eq!(
            [0, 999, 1500, 65_000, 3_723_000].map(duration),
            ["0 ms", "999 ms", "1.5 s", "1:05 min", "1:02:03 h"]
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["ä".into(), "1".into()], vec!["bbb".into(), "1,000".into()]];
        let text = table(&[("name", Align::Left), ("rows", Align::Right)], &rows, Paint(false));
        assert_eq!(text, "name   rows\nä         1\nbbb   1,000\n");
        assert_eq!(wrap("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
    }
}
