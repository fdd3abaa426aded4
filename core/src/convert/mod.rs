//! Exact conversion between columns: every value arrives as it was, or its row is a dirty one with a reason.
//!
//! The runtime plans a [`Conversion`] for each column whose form at the source is none that the target takes, and
//! applies it to every batch. What can be known beforehand is said beforehand: an impossible pair of types, and a
//! conversion that would alter every value unseen ([`Loss::Every`]), which has to be asked for.
//!
//! | from → to | rule |
//! |-|-|
//! | integer → integer, decimal | in range and in precision, else a fault |
//! | integer, decimal → float | integer: exact, else a fault; decimal: the float's shortest text is the decimal again |
//! | float → integer, decimal | whole; by the shortest text. NaN and infinities are faults |
//! | double → single | [`Loss::Every`]: rounded |
//! | decimal → decimal, integer | digits that would be dropped must be zeros |
//! | boolean ↔ number | `false` 0, `true` 1, other numbers are faults |
//! | text → number | all of the text: `12`, `1.50`, `1e3`; no spaces. Floats take the nearest value |
//! | text → boolean | `true`, `false` in any case, `1`, `0` |
//! | text → date, time, timestamp | the configured formats, then ISO 8601; all of the text |
//! | date → timestamp | midnight |
//! | timestamp, instant → date, time | [`Loss::Every`]: the other half is dropped |
//! | timestamp → instant | in the source's zone; a time that clocks skip is a fault, one that they show twice is the earlier |
//! | instant → timestamp | what clocks in the target's zone show |
//! | timestamp → timestamp | as it stands; where the ends have different zones, the same moment on the target's clocks |
//! | finer → coarser unit of time | decimals of a second that do not fit must be zeros |
//! | timestamp, instant ↔ integer | milliseconds since 1970-01-01 UTC, as in DataX |
//! | time, duration ↔ integer | microseconds |
//! | time ↔ duration | from 00:00:00 up to 24:00:00, which is no time of day |
//! | bytes ↔ text | in the configured encoding, UTF-8 by default; bytes that are none are faults |
//! | list → list | element by element; list, struct, map → text, JSON: as JSON |
//! | anything → text | see [`to_text`] |

mod calendar;
mod columns;
mod decimals;
mod intervals;
mod kinds;
mod nested;
mod numbers;
mod options;
mod patterns;
mod plan;
mod plan_times;
mod text;
mod times;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field};
use chrono_tz::Tz;

pub use options::{ConvertOptions, EndZone, Formats};
pub use patterns::{Moment, Pattern};

use crate::Result;
use crate::field::same_representation;
use calendar::Zone;
use text::Style;

/// What a conversion may lose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: every value of the one type is a value of the other.
    None,
    /// Nothing silently: a value that does not fit makes its row a dirty one.
    PerValue,
    /// Something of every value, unseen; the text says what.
    Every(String),
}

/// A cell that could not be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellFault {
    /// The row, from the start of the column.
    pub row: usize,
    /// Why, with the value.
    pub reason: String,
}

/// A converted column.
#[derive(Debug, Clone)]
pub struct Converted {
    /// As long as the input; NULL where a cell could not be converted.
    pub column: ArrayRef,
    /// The cells that could not be converted, in row order, one for each row at most.
    pub faults: Vec<CellFault>,
}

type Step = Box<dyn Fn(&ArrayRef, &mut Vec<CellFault>) -> Result<ArrayRef> + Send + Sync>;

/// A planned conversion from one field's values to another's.
pub struct Conversion {
    steps: Vec<Step>,
    loss: Loss,
    output: DataType,
}

impl fmt::Debug for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversion({} steps to {}, {:?})", self.steps.len(), self.output, self.loss)
    }
}

impl Conversion {
    /// Plans the way from `from` to `to`. It costs nothing where both have the same representation.
    ///
    /// # Errors
    /// [`Schema`](crate::ErrorKind::Schema), naming both types, when there is no way, or when every value would be
    /// altered and `options.on_type_loss` is `error`; [`Config`](crate::ErrorKind::Config) for an unknown encoding.
    pub fn plan(from: &Field, to: &Field, options: &ConvertOptions) -> Result<Self> {
        if same_representation(from, to) && !options.moves(from) {
            return Ok(Self { steps: Vec::new(), loss: Loss::None, output: to.data_type().clone() });
        }
        plan::plan(from, to, options)
    }

    /// What may be lost.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// Converts a column.
    ///
    /// # Errors
    /// Only for a column of another type than was planned for: what is wrong with single values is in
    /// [`Converted::faults`].
    pub fn apply(&self, column: &ArrayRef) -> Result<Converted> {
        let mut faults = Vec::new();
        let mut current = column.clone();
        for step in &self.steps {
            current = step(&current, &mut faults)?;
        }
        // Later steps see a faulty row as NULL and leave it alone, so that each row is here once.
        faults.sort_by_key(|fault| fault.row);
        Ok(Converted { column: current, faults })
    }
}

/// Every value of a column as text in canonical form; NULL stays NULL.
///
/// | values | text |
/// |-|-|
/// | integers, decimals | plain digits, a decimal with all of its scale: `1.50` |
/// | floats | the shortest text that is read back as the same number: `1.5`, `2.0`, `1e300`, `-0.0`, `NaN`, `-Infinity` |
/// | booleans | `true`, `false` |
/// | bytes | the text they are in the configured encoding, UTF-8 by default; else a fault |
/// | dates | `2024-01-31`; years before 0 and after 9999 with a sign, `-0044-03-15`; year 0 is 1 BC |
/// | times, timestamps | `12:34:56`, `2024-01-31 12:34:56.789`: as many decimals as there are |
/// | instants | `2024-01-31 12:34:56.789+01:00`, as clocks in the target's zone show them |
/// | durations | `-838:59:59.5` |
/// | intervals | `P1Y2M3DT4H5M6.7S` |
/// | UUIDs | `550e8400-e29b-41d4-a716-446655440000` |
/// | lists, structs, maps | JSON: `[1,null,3]`, `{"a":"2024-01-31"}`, `[{"key":"a","value":1}]` |
///
/// Configured formats (DataX's `common.column.*Format`) take the place of the forms of dates, times and timestamps.
///
/// # Errors
/// [`Schema`](crate::ErrorKind::Schema) for a type without a text (unions).
pub fn to_text(column: &ArrayRef, field: &Field, options: &ConvertOptions) -> Result<Converted> {
    let mut faults = Vec::new();
    let texts = text::texts(column, field, &options.style()?, &mut faults)?;
    Ok(Converted { column: Arc::new(texts), faults })
}

/// The canonical JSON value of every value of a column, as JSON text: numbers, booleans and JSON stand as they are, NaN
/// and the infinities and everything else as strings of their [`to_text`] form; NULL stays NULL.
///
/// # Errors
/// As [`to_text`].
pub fn to_json(column: &ArrayRef, field: &Field, options: &ConvertOptions) -> Result<Converted> {
    let mut faults = Vec::new();
    let texts = nested::json_texts(column, field, &options.style()?, &mut faults)?;
    Ok(Converted { column: Arc::new(texts), faults })
}

/// The form of [`to_text`] that never fails, for messages and the quarantine: bytes as hexadecimal digits, instants in
/// UTC.
pub fn to_display_text(column: &ArrayRef, field: &Field) -> StringArray {
    use arrow::array::AsArray;
    if let (Some(bytes), true) =
        (column.as_binary_opt::<i32>(), crate::field::extension(field) == Some(crate::field::NATIVE))
        && let Some((system, _)) = crate::field::native_type(field)
        && let Some(native) = inventory::iter::<crate::NativeText>.into_iter().find(|n| n.system == system)
    {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        return bytes.iter().map(|v| v.map(|v| (native.show)(field, v).unwrap_or_else(|| hex(v)))).collect();
    }
    let formats = Formats::default();
    let style = Style { zone: Zone::new(Tz::UTC), formats: &formats, encoding: None };
    text::texts(column, field, &style, &mut Vec::new()).unwrap_or_else(|_| {
        // Types that have no canonical text, as Arrow shows them.
        let options = arrow::util::display::FormatOptions::new().with_display_error(true);
        match arrow::util::display::ArrayFormatter::try_new(column, &options) {
            Ok(formatter) => (0..column.len())
                .map(|row| column.is_valid(row).then(|| formatter.value(row).to_string()))
                .collect::<StringArray>(),
            Err(_) => new_null_array(&DataType::Utf8, column.len()).as_string::<i32>().clone(),
        }
    })
}
