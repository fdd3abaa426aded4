//! What a job says about conversions.

use arrow::datatypes::Field;
use chrono_tz::Tz;
use encoding_rs::Encoding;

use super::calendar::Zone;
use super::patterns::Pattern;
use super::text::Style;
use crate::{Error, OnTypeLoss, Result};

/// The zones of one end of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndZone {
    /// Whose clocks zone-less timestamps show.
    pub clocks: Tz,
    /// In which texts without an offset are read, and instants are written as texts.
    pub texts: Tz,
}

impl From<Tz> for EndZone {
    fn from(tz: Tz) -> Self {
        Self { clocks: tz, texts: tz }
    }
}

/// What a job says about conversions.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertOptions {
    /// The source's zones. Where its clocks are not the target's, zone-less timestamps are moved from one to the other.
    pub source: EndZone,
    /// The target's zones.
    pub target: EndZone,
    /// The forms of dates, times and bytes as text.
    pub formats: Formats,
    /// What to do with a conversion that would alter every value unseen.
    pub on_type_loss: OnTypeLoss,
    /// Whether an empty text becomes NULL where anything but a text or bytes is wanted (DataX's `emptyAsNull`).
    pub empty_as_null: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        let (source, target) = (Tz::UTC.into(), Tz::UTC.into());
        Self { source, target, formats: Formats::default(), on_type_loss: OnTypeLoss::Error, empty_as_null: false }
    }
}

impl ConvertOptions {
    /// Whether a column's values show clocks, and other ones at the target than at the source: they cannot pass as they
    /// are.
    pub fn moves(&self, field: &Field) -> bool {
        self.moves_clocks() && super::kinds::shows_clocks(field)
    }

    /// Whether zone-less timestamps show other clocks at the target.
    pub(super) fn moves_clocks(&self) -> bool {
        self.source.clocks != self.target.clocks
    }

    pub(super) fn style(&self) -> Result<Style<'_>> {
        let zone = Zone::new(self.target.texts);
        Ok(Style { zone, formats: &self.formats, encoding: Some(self.formats.encoding()?) })
    }
}

/// DataX's `common.column.*`: how dates, times and bytes look as text. What is missing has our canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Formats {
    /// `datetimeFormat`: timestamps and instants.
    pub datetime: Option<Pattern>,
    /// `timeFormat`: times of day.
    pub time: Option<Pattern>,
    /// `dateFormat`: dates.
    pub date: Option<Pattern>,
    /// `extraFormats`: tried for reading after the others.
    pub extra: Vec<Pattern>,
    /// `encoding`: of texts that are kept as bytes; UTF-8 when missing.
    pub encoding: Option<String>,
}

impl Formats {
    /// Whether texts have only their canonical forms.
    pub(super) fn are_default(&self) -> bool {
        self.datetime.is_none() && self.time.is_none() && self.date.is_none() && self.extra.is_empty()
    }

    /// The encoding of texts that are kept as bytes.
    pub(super) fn encoding(&self) -> Result<&'static Encoding> {
        let Some(label) = &self.encoding else { return Ok(encoding_rs::UTF_8) };
        match Encoding::for_label(label.trim().as_bytes()) {
            // These can be read, but not written.
            Some(e) if e != encoding_rs::UTF_16BE && e != encoding_rs::UTF_16LE && e != encoding_rs::REPLACEMENT => {
                Ok(e)
            }
            _ => Err(Error::config(format!(
                "`{label}` is no encoding that bytes can be read and written in: try UTF-8 or GBK"
            ))),
        }
    }
}
