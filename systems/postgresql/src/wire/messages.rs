//! The content of messages that are read for more than their kind.

use weir_core::Result;

use super::out_of_step;
use crate::error::Said;

/// The fields of an error, each with the letter that says what it is.
#[derive(Default)]
pub(super) struct Fields(Vec<(u8, String)>);

impl Fields {
    pub(super) fn read(body: &[u8]) -> Self {
        let mut fields = Vec::new();
        for field in body.split(|byte| *byte == 0) {
            // An empty one ends the list.
            let Some((letter, text)) = field.split_first() else { break };
            fields.push((*letter, String::from_utf8_lossy(text).into_owned()));
        }
        Self(fields)
    }

    fn get(&self, letter: u8) -> Option<&str> {
        self.0.iter().find(|(l, _)| *l == letter).map(|(_, text)| text.as_str())
    }

    pub(super) fn said(&self) -> Said<'_> {
        Said {
            code: self.get(b'C').unwrap_or_default(),
            message: self.get(b'M').unwrap_or_default(),
            detail: self.get(b'D'),
            hint: self.get(b'H'),
            table: self.get(b't'),
        }
    }
}

/// The first value of a row, as text; `None` for NULL and for a row without values.
pub(super) fn first_value(body: &[u8]) -> Result<Option<String>> {
    let Some((&[high, low], rest)) = body.split_first_chunk() else { return Err(out_of_step()) };
    if (high, low) == (0, 0) {
        return Ok(None);
    }
    let Some((length, rest)) = rest.split_first_chunk() else { return Err(out_of_step()) };
    // NULL has the length -1.
    let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else { return Ok(None) };
    let text = rest.get(..length).ok_or_else(out_of_step)?;
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}
