//! The transformers that make a text of a text.

use std::ops::Range;

use arrow::array::{Array, StringArray, StringBuilder};
use weir_core::Faults;

use super::digest::Digest;
use super::parameters::Parameters;

/// A function from a text (or NULL) to a text (or NULL).
#[derive(Debug)]
pub(super) enum TextFunction {
    Substr { start: usize, length: usize },
    Replace { start: usize, length: usize, with: String },
    Pad { left: bool, length: usize, with: Vec<char> },
    Digest(Digest),
}

impl TextFunction {
    pub(super) fn substr(parameters: &Parameters<'_>, faults: &mut Faults) -> Option<Self> {
        parameters.exactly(&["start", "length"], faults)?;
        let (start, length) = (parameters.number(0, "start", faults), parameters.number(1, "length", faults));
        Some(Self::Substr { start: start?, length: length? })
    }

    pub(super) fn replace(parameters: &Parameters<'_>, faults: &mut Faults) -> Option<Self> {
        let paras = parameters.exactly(&["start", "length", "text"], faults)?;
        let (start, length) = (parameters.number(0, "start", faults), parameters.number(1, "length", faults));
        Some(Self::Replace { start: start?, length: length?, with: paras[2].clone() })
    }

    pub(super) fn pad(parameters: &Parameters<'_>, faults: &mut Faults) -> Option<Self> {
        let paras = parameters.exactly(&["side", "length", "text"], faults)?;
        let left = match paras[0].to_ascii_lowercase().as_str() {
            "l" => Some(true),
            "r" => Some(false),
            other => {
                parameters.fault(0, format!("side `{other}` is neither `l` nor `r`"), faults);
                None
            }
        };
        // Every value is at least this long afterwards, so a slip of the pen here would fill the memory.
        const MOST: usize = 1 << 20;
        let length = parameters.number(1, "length", faults).filter(|length| {
            if *length > MOST {
                parameters.fault(1, format!("length {length} is more than {MOST}"), faults);
            }
            *length <= MOST
        });
        let with: Vec<char> = paras[2].chars().collect();
        if with.is_empty() {
            parameters.fault(2, "the text to fill with is empty", faults);
            return None;
        }
        Some(Self::Pad { left: left?, length: length?, with })
    }

    pub(super) fn digest(parameters: &Parameters<'_>, faults: &mut Faults) -> Option<Self> {
        let paras = parameters.exactly(&["algorithm", "case"], faults)?;
        Digest::plan(paras, |index, message| parameters.fault(index, message, faults)).map(Self::Digest)
    }

    /// Every text through the function; a row on which it cannot work is told to `fault`.
    pub(super) fn apply(&self, texts: &StringArray, mut fault: impl FnMut(usize, String)) -> StringArray {
        let mut builder = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
        let mut buffer = String::new();
        for (row, text) in texts.iter().enumerate() {
            let result = match (self, text) {
                (Self::Substr { .. } | Self::Replace { .. }, None) => {
                    builder.append_null();
                    continue;
                }
                (Self::Substr { start, length }, Some(text)) => {
                    span(text, *start, *length).map(|range| builder.append_value(&text[range]))
                }
                (Self::Replace { start, length, with }, Some(text)) => span(text, *start, *length).map(|range| {
                    buffer.clear();
                    buffer.push_str(&text[..range.start]);
                    buffer.push_str(with);
                    buffer.push_str(&text[range.end..]);
                    builder.append_value(&buffer);
                }),
                (Self::Pad { left, length, with }, text) => {
                    let text = text.unwrap_or("");
                    buffer.clear();
                    let missing = length.saturating_sub(text.chars().count());
                    if missing == 0 {
                        let end = text.char_indices().nth(*length).map_or(text.len(), |(at, _)| at);
                        buffer.push_str(&text[..end]);
                    } else {
                        let fill = with.iter().cycle().take(missing);
                        if *left {
                            buffer.extend(fill);
                            buffer.push_str(text);
                        } else {
                            buffer.push_str(text);
                            buffer.extend(fill);
                        }
                    }
                    builder.append_value(&buffer);
                    Ok(())
                }
                (Self::Digest(digest), text) => {
                    buffer.clear();
                    digest.write(text.unwrap_or(""), &mut buffer);
                    builder.append_value(&buffer);
                    Ok(())
                }
            };
            if let Err(length) = result {
                builder.append_null();
                let start = match self {
                    Self::Substr { start, .. } | Self::Replace { start, .. } => *start,
                    _ => 0,
                };
                fault(row, format!("position {start} is beyond the value, which has {length} characters"));
            }
        }
        builder.finish()
    }
}

/// The bytes of `length` characters from `start`, fewer where the text ends before. The number of characters when it
/// ends before `start`.
fn span(text: &str, start: usize, length: usize) -> Result<Range<usize>, usize> {
    if text.is_ascii() {
        let end = start.saturating_add(length).min(text.len());
        return if start <= text.len() { Ok(start..end) } else { Err(text.len()) };
    }
    let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let from = ends.nth(start).ok_or_else(|| text.chars().count())?;
    let to = if length == 0 { from } else { ends.nth(length - 1).unwrap_or(text.len()) };
    Ok(from..to)
}
