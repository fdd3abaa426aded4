//! What a job says about conversions.

use chrono_tz::Tz;
use encoding_rs::Encoding;

use super::calendar::Zone;
use super::patterns::Pattern;
use super::text::Style;
use crate::{Error, OnTypeLoss, Result};

/// What a job says about conversions.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertOptions {
    /// The zone in which zone-less times are read as instants, and instants are shown.
    pub time_zone: Tz,
    /// The forms of dates, times and bytes as text.
    pub formats: Formats,
    /// What to do with a conversion that would alter every value unseen.
    pub on_type_loss: OnTypeLoss,
    /// Whether an empty text becomes NULL where anything but a text or bytes is wanted (DataX's `emptyAsNull`).
    pub empty_as_null: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self { time_zone: Tz::UTC, formats: Formats::default(), on_type_loss: OnTypeLoss::Error, empty_as_null: false }
    }
}

impl ConvertOptions {
    pub(super) fn style(&self) -> Result<Style<'_>> {
        let zone = Zone::new(self.formats.time_zone.unwrap_or(self.time_zone));
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
    /// `timeZone`: takes the place of the job's zone for texts.
    pub time_zone: Option<Tz>,
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
