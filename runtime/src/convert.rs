//! The serialisable form of how a job converts values.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_core::convert::{ConvertOptions, EndZone, Formats, Pattern};
use weir_core::{Error, OnTypeLoss, Result};

/// How a job converts values, as it travels with a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvertSpec {
    /// The job's zone.
    #[serde(with = "weir_core::zone")]
    pub time_zone: chrono_tz::Tz,
    /// The source's own, by name.
    #[serde(default)]
    pub source_zone: Option<String>,
    /// The target's own, by name.
    #[serde(default)]
    pub target_zone: Option<String>,
    /// DataX's `common.column` object, or null.
    pub formats: Value,
    /// What to do with conversions that alter every value.
    pub on_type_loss: OnTypeLoss,
    /// Whether an empty text is NULL where anything but text is wanted.
    pub empty_as_null: bool,
}

impl ConvertSpec {
    /// What core's conversions take.
    ///
    /// # Errors
    /// [`Config`](weir_core::ErrorKind::Config) for a pattern, zone or encoding that cannot be understood.
    pub fn options(&self) -> Result<ConvertOptions> {
        let text = |key: &str| self.formats.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        let at = |key: &str, fault: &str| Error::config(format!("common.column.{key}: {fault}"));
        let pattern = |key: &str| text(key).map(|t| Pattern::new(t).map_err(|e| at(key, e.message()))).transpose();
        let extra = match self.formats.get("extraFormats") {
            Some(Value::Array(patterns)) => patterns.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        let extra = extra.iter().filter_map(Value::as_str).map(Pattern::new).collect::<Result<_>>();
        let zone = text("timeZone").map(|t| crate::job::parse_zone(t).map_err(|fault| at("timeZone", &fault)));
        // `common.column.timeZone` takes the place of the job's zone for texts, and only there.
        let job = EndZone { clocks: self.time_zone, texts: zone.transpose()?.unwrap_or(self.time_zone) };
        let end = |own: &Option<String>| match own {
            Some(name) => crate::job::parse_zone(name).map(EndZone::from).map_err(Error::config),
            None => Ok(job),
        };
        Ok(ConvertOptions {
            source: end(&self.source_zone)?,
            target: end(&self.target_zone)?,
            formats: Formats {
                datetime: pattern("datetimeFormat")?,
                time: pattern("timeFormat")?,
                date: pattern("dateFormat")?,
                extra: extra.map_err(|e| at("extraFormats", e.message()))?,
                encoding: text("encoding").map(str::to_owned),
            },
            on_type_loss: self.on_type_loss,
            empty_as_null: self.empty_as_null,
        })
    }
}
