//! The part of planning that leads to dates, times, timestamps and durations.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono_tz::Tz;

use super::calendar::Zone;
use super::kinds::{Kind, counts, of_counts};
use super::plan::Planner;
use super::times::{self, Dates};
use super::{intervals, numbers};
use crate::Result;

impl Planner {
    /// What the source's clocks show as what the target's show at the same moment.
    pub(super) fn on_targets_clocks(&mut self, unit: TimeUnit) {
        self.per_value();
        let (there, here) = (self.options.source.clocks, self.options.target.clocks);
        self.then(move |column, faults| {
            let instants = times::to_instant(&counts(column)?, unit, &Zone::new(there), faults);
            of_counts(times::to_local(&instants, unit, &Zone::new(here), faults), &DataType::Timestamp(unit, None))
        });
    }

    pub(super) fn date_from(&mut self, from: &Kind) -> Result<()> {
        let zone = self.options.target.clocks;
        match from {
            Kind::Text => {
                self.per_value();
                let options = self.options.clone();
                self.then(move |column, faults| Dates::new(&options).dates(column, faults));
            }
            Kind::Timestamp(unit, zoned) => {
                self.every("the time of day is dropped");
                self.days(*unit, *zoned, zone, false);
            }
            Kind::Integer(_) => {
                self.timestamp_from(from, TimeUnit::Millisecond, true)?;
                self.days(TimeUnit::Millisecond, true, zone, true);
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    fn days(&mut self, unit: TimeUnit, zoned: bool, zone: Tz, strict: bool) {
        self.then(move |column, faults| {
            let mut values = counts(column)?;
            if zoned {
                values = times::to_local(&values, unit, &Zone::new(zone), faults);
            }
            of_counts(times::to_days(&values, unit, strict, faults), &DataType::Date32)
        });
    }

    pub(super) fn time_from(&mut self, from: &Kind, unit: TimeUnit) -> Result<()> {
        let output = match unit {
            TimeUnit::Second | TimeUnit::Millisecond => DataType::Time32(unit),
            TimeUnit::Microsecond | TimeUnit::Nanosecond => DataType::Time64(unit),
        };
        match from {
            Kind::Text => {
                self.per_value();
                let options = self.options.clone();
                self.then(move |column, faults| {
                    let dates = Dates::new(&options);
                    of_counts(dates.times(column, unit, faults), &output)
                });
            }
            Kind::Time(source) => self.rescale_time(*source, unit, output),
            Kind::Timestamp(source, zoned) => {
                self.every("the date is dropped");
                let (source, zoned, zone) = (*source, *zoned, self.options.target.clocks);
                self.then(move |column, faults| {
                    let mut values = counts(column)?;
                    if zoned {
                        values = times::to_local(&values, source, &Zone::new(zone), faults);
                    }
                    let values = times::time_of_day(&values, source);
                    of_counts(
                        times::change_unit(&values, source, unit, faults, |v| times::show_duration(v, source)),
                        &output,
                    )
                });
            }
            Kind::Duration(_) | Kind::Integer(_) | Kind::Interval => {
                self.per_value();
                self.duration_from(from, unit)?;
                self.then(move |column, faults| of_counts(times::within_day(&counts(column)?, unit, faults), &output));
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    /// Times of day or durations in another unit.
    fn rescale_time(&mut self, from: TimeUnit, to: TimeUnit, output: DataType) {
        if from != to {
            self.per_value();
        }
        self.then(move |column, faults| {
            let values = counts(column)?;
            of_counts(times::change_unit(&values, from, to, faults, |v| times::show_duration(v, from)), &output)
        });
    }

    pub(super) fn timestamp_from(&mut self, from: &Kind, unit: TimeUnit, zoned: bool) -> Result<()> {
        // A step in the middle of a way has no output field of its own; instants are all in UTC underneath.
        let output = match self.to.data_type() {
            DataType::Timestamp(_, zone) => DataType::Timestamp(unit, zone.clone()),
            _ => DataType::Timestamp(unit, zoned.then(|| "UTC".into())),
        };
        let (there, here) = (self.options.source.clocks, self.options.target.clocks);
        match from {
            Kind::Text => {
                self.per_value();
                let options = self.options.clone();
                self.then(move |column, faults| {
                    let dates = Dates::new(&options);
                    let values = match zoned {
                        true => dates.instants(column, unit, faults),
                        false => dates.timestamps(column, unit, faults),
                    };
                    of_counts(values, &output)
                });
            }
            Kind::Date => {
                if zoned || unit == TimeUnit::Nanosecond {
                    self.per_value();
                }
                self.then(move |column, faults| {
                    let mut values = times::of_days(&counts(column)?, unit, faults);
                    if zoned {
                        values = times::to_instant(&values, unit, &Zone::new(there), faults);
                    }
                    of_counts(values, &output)
                });
            }
            Kind::Timestamp(source, was_zoned) => {
                let (source, was_zoned) = (*source, *was_zoned);
                if source != unit || was_zoned != zoned {
                    self.per_value();
                }
                self.then(move |column, faults| {
                    let mut values = counts(column)?;
                    values = match (was_zoned, zoned) {
                        (false, true) => times::to_instant(&values, source, &Zone::new(there), faults),
                        (true, false) => times::to_local(&values, source, &Zone::new(here), faults),
                        _ => values,
                    };
                    let show = |v| times::show_timestamp(v, source);
                    of_counts(times::change_unit(&values, source, unit, faults, show), &output)
                });
            }
            Kind::Integer(_) => {
                self.per_value();
                let target = self.target.clone();
                self.then(move |column, faults| {
                    let values = numbers::resize(column, &DataType::Int64, faults, &target)?;
                    let values = values.as_primitive::<Int64Type>();
                    let mut values = times::change_unit(values, TimeUnit::Millisecond, unit, faults, |v| v.to_string());
                    if !zoned {
                        values = times::to_local(&values, unit, &Zone::new(here), faults);
                    }
                    of_counts(values, &output)
                });
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    pub(super) fn duration_from(&mut self, from: &Kind, unit: TimeUnit) -> Result<()> {
        let output = DataType::Duration(unit);
        match from {
            Kind::Text => {
                self.per_value();
                self.then(move |column, faults| of_counts(times::durations(column, unit, faults), &output));
            }
            Kind::Interval => {
                self.per_value();
                self.then(move |column, faults| of_counts(intervals::to_durations(column, unit, faults), &output));
            }
            Kind::Time(source) | Kind::Duration(source) => self.rescale_time(*source, unit, output),
            Kind::Integer(_) => {
                self.per_value();
                let target = self.target.clone();
                self.then(move |column, faults| {
                    let values = numbers::resize(column, &DataType::Int64, faults, &target)?;
                    let values = values.as_primitive::<Int64Type>();
                    let values = times::change_unit(values, TimeUnit::Microsecond, unit, faults, |v| v.to_string());
                    of_counts(values, &output)
                });
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }
}
