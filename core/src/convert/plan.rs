//! Which steps lead from one kind to another. Pairs are not written out: most ways go over a few wide forms (64-bit
//! integers, scale-0 decimals, counts of a unit, text).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::columns::{quoted, report_new_nulls};
use super::decimals::{self, Fixed};
use super::kinds::{Kind, counts, decoded, stored};
use super::{CellFault, Conversion, ConvertOptions, Loss, Step, intervals, nested, numbers, text};
use crate::field::type_text;
use crate::{Error, ErrorKind, OnTypeLoss, Result};

pub(super) fn plan(from: &Field, to: &Field, options: &ConvertOptions) -> Result<Conversion> {
    options.formats.encoding()?;
    let mut planner = Planner {
        from: from.clone(),
        to: to.clone(),
        target: type_text(to),
        options: Arc::new(options.clone()),
        steps: Vec::new(),
        loss: Loss::None,
    };
    planner.run()?;
    if let (Loss::Every(what), OnTypeLoss::Error) = (&planner.loss, options.on_type_loss) {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "column `{}`: {} to {} loses something of every value: {what}; set \"onTypeLoss\": \"cast\" if that is \
                 meant, or choose another type at the target",
                from.name(),
                type_text(from),
                planner.target
            ),
        )
        .with("column", from.name()));
    }
    Ok(Conversion { steps: planner.steps, loss: planner.loss, output: to.data_type().clone() })
}

pub(super) struct Planner {
    from: Field,
    pub(super) to: Field,
    /// The target type as reasons name it.
    pub(super) target: String,
    pub(super) options: Arc<ConvertOptions>,
    steps: Vec<Step>,
    loss: Loss,
}

impl Planner {
    pub(super) fn then(
        &mut self,
        step: impl Fn(&ArrayRef, &mut Vec<CellFault>) -> Result<ArrayRef> + Send + Sync + 'static,
    ) {
        self.steps.push(Box::new(step));
    }

    pub(super) fn per_value(&mut self) {
        if self.loss == Loss::None {
            self.loss = Loss::PerValue;
        }
    }

    pub(super) fn every(&mut self, what: &str) {
        self.loss = Loss::Every(what.to_owned());
    }

    pub(super) fn impossible(&self) -> Error {
        let (name, from, to) = (self.from.name(), type_text(&self.from), &self.target);
        Error::new(
            ErrorKind::Schema,
            format!(
                "column `{name}`: {from} cannot be converted to {to}: choose another type at the target, or an \
                 expression at the source that gives one"
            ),
        )
        .with("column", name)
    }

    fn run(&mut self) -> Result<()> {
        let (from, to) = (Kind::of(&self.from), Kind::of(&self.to));
        let unwritable = matches!(to, Kind::Native | Kind::Nested | Kind::Other | Kind::ArrowInterval | Kind::Null);
        if from == Kind::Null && to != Kind::Native {
            let data_type = self.to.data_type().clone();
            self.then(move |column, _| Ok(new_null_array(&data_type, column.len())));
            return Ok(());
        }
        if unwritable || matches!(self.to.data_type(), DataType::Dictionary(..) | DataType::RunEndEncoded(..)) {
            return Err(self.impossible());
        }
        self.load(&from);
        self.move_clocks(&from, &to)?;
        if self.options.empty_as_null && from == Kind::Text && !matches!(to, Kind::Text | Kind::Binary) {
            self.then(|column, _| {
                let texts = column.as_string::<i32>();
                Ok(Arc::new(texts.iter().map(|t| t.filter(|t| !t.is_empty())).collect::<arrow::array::StringArray>()))
            });
        }
        self.steps_between(&from, &to)?;
        self.store(&to);
        Ok(())
    }

    /// Into the storage that steps work on.
    fn load(&mut self, from: &Kind) {
        let data_type = self.from.data_type().clone();
        if matches!(data_type, DataType::Dictionary(..) | DataType::RunEndEncoded(..)) {
            self.then(|column, _| decoded(column));
        }
        // Integers are resized to the target's width at once.
        if let Some(storage) = from.storage().filter(|s| *s != data_type && !matches!(from, Kind::Integer(_))) {
            self.then(move |column, _| stored(column, &storage));
        }
    }

    /// From the clocks of the source to those of the target, where neither is an instant.
    fn move_clocks(&mut self, from: &Kind, to: &Kind) -> Result<()> {
        if !self.options.moves_clocks() || !super::kinds::shows_clocks(&self.from) {
            return Ok(());
        }
        match (from, to) {
            // These know the source's zone themselves, and lists their elements.
            (Kind::Timestamp(..), Kind::Timestamp(_, true) | Kind::Integer(_)) | (Kind::List(_), Kind::List(_)) => {}
            (Kind::Timestamp(unit, _), _) => self.on_targets_clocks(*unit),
            (Kind::List(item), _) if matches!(Kind::of(item), Kind::Timestamp(..)) => {
                let elements = Conversion::plan(item, item, &self.options)?;
                self.per_value();
                let item = item.clone();
                self.then(move |column, faults| nested::convert_elements(column, &elements, &item, faults));
            }
            _ => {
                let (name, from) = (self.from.name(), type_text(&self.from));
                return Err(Error::new(
                    ErrorKind::Schema,
                    format!(
                        "column `{name}`: the times within {from} cannot be moved from {} to {}: give both ends the same \
                         timeZone",
                        self.options.source.clocks, self.options.target.clocks
                    ),
                )
                .with("column", name));
            }
        }
        Ok(())
    }

    /// Into the target's own storage, where it is not the one that steps work on.
    fn store(&mut self, to: &Kind) {
        let data_type = self.to.data_type().clone();
        if to.storage().is_some_and(|s| s != data_type && !matches!(to, Kind::Integer(_))) {
            if !matches!(
                data_type,
                DataType::LargeUtf8
                    | DataType::Utf8View
                    | DataType::LargeBinary
                    | DataType::BinaryView
                    | DataType::LargeList(_)
            ) {
                self.per_value();
            }
            let target = self.target.clone();
            self.then(move |column, faults| {
                let stored = stored(column, &data_type)?;
                report_new_nulls(column, &stored, faults, |_| format!("the value does not fit {target}"));
                Ok(stored)
            });
        }
    }

    fn steps_between(&mut self, from: &Kind, to: &Kind) -> Result<()> {
        match (from, to) {
            (Kind::Native | Kind::Other, _) => Err(self.impossible()),
            (Kind::Text | Kind::Json | Kind::Interval | Kind::DecimalText, Kind::Text) => Ok(()),
            (a, b) if a == b && !matches!(a, Kind::Integer(_) | Kind::Timestamp(..) | Kind::List(_)) => Ok(()),
            (_, Kind::Text) => self.text_from(),
            (_, Kind::Json) => self.json_from(from),
            (_, Kind::DecimalText) => self.decimal_text_from(from),
            (_, Kind::Interval) => self.interval_from(from),
            (_, Kind::Binary | Kind::FixedBinary(_) | Kind::Uuid) => self.bytes_from(from, to),
            (_, Kind::Boolean) => self.boolean_from(from),
            (_, Kind::Integer(_)) => self.integer_from(from),
            (_, Kind::Float(double)) => self.float_from(from, *double),
            (_, Kind::Decimal(fixed)) => self.decimal_from(from, *fixed),
            (_, Kind::Date) => self.date_from(from),
            (_, Kind::Time(unit)) => self.time_from(from, *unit),
            (_, Kind::Timestamp(unit, zoned)) => self.timestamp_from(from, *unit, *zoned),
            (_, Kind::Duration(unit)) => self.duration_from(from, *unit),
            (Kind::List(a), Kind::List(b)) => {
                let elements = Conversion::plan(a, b, &self.options).map_err(|e| e.with("column", self.from.name()))?;
                self.loss = elements.loss.clone();
                let item = b.clone();
                self.then(move |column, faults| nested::convert_elements(column, &elements, &item, faults));
                Ok(())
            }
            _ => Err(self.impossible()),
        }
    }

    fn text_from(&mut self) -> Result<()> {
        let (field, options) = (self.stored_from(), self.options.clone());
        if matches!(Kind::of(&field), Kind::Binary | Kind::FixedBinary(_)) {
            self.per_value();
        }
        self.then(move |column, faults| Ok(Arc::new(text::texts(column, &field, &options.style()?, faults)?)));
        Ok(())
    }

    /// The source field as it is after [`Planner::load`].
    fn stored_from(&self) -> Field {
        let kind = Kind::of(&self.from);
        match kind.storage() {
            Some(storage) if !matches!(kind, Kind::Integer(_)) => self.from.clone().with_data_type(storage),
            _ => match self.from.data_type() {
                DataType::Dictionary(_, values) => self.from.clone().with_data_type(values.as_ref().clone()),
                DataType::RunEndEncoded(_, values) => self.from.clone().with_data_type(values.data_type().clone()),
                _ => self.from.clone(),
            },
        }
    }

    fn json_from(&mut self, from: &Kind) -> Result<()> {
        if matches!(from, Kind::Text) {
            self.per_value();
            self.then(|column, faults| Ok(nested::check_json(column, faults)));
            return Ok(());
        }
        if matches!(from, Kind::Binary | Kind::FixedBinary(_)) {
            self.per_value();
        }
        let (field, options) = (self.stored_from(), self.options.clone());
        self.then(move |column, faults| Ok(Arc::new(nested::json_texts(column, &field, &options.style()?, faults)?)));
        Ok(())
    }

    fn decimal_text_from(&mut self, from: &Kind) -> Result<()> {
        match from {
            Kind::Boolean => {
                self.then(|column, _| numbers::booleans_to_integers(column, false));
                self.then(|column, _| stored(column, &DataType::Utf8));
            }
            Kind::Integer(_) => self.then(|column, _| stored(column, &DataType::Utf8)),
            Kind::Decimal(_) => self.text_from()?,
            Kind::Float(_) => {
                self.text_from()?;
                self.then(|column, faults| Ok(decimals::check_text(column, faults)));
            }
            Kind::Text | Kind::Json => {
                self.per_value();
                self.then(|column, faults| Ok(decimals::check_text(column, faults)));
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    fn interval_from(&mut self, from: &Kind) -> Result<()> {
        match from {
            Kind::Text => {
                self.per_value();
                self.then(|column, faults| Ok(intervals::check_text(column, faults)));
            }
            Kind::ArrowInterval => self.then(|column, faults| Ok(Arc::new(intervals::of_arrow(column, faults)))),
            Kind::Duration(unit) => {
                let unit = *unit;
                self.then(move |column, faults| {
                    let counts = counts(column)?;
                    Ok(Arc::new(super::columns::write_text(column, faults, 12, |row, out| {
                        intervals::write_duration(counts.value(row), unit, out);
                        Ok(())
                    })))
                });
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    fn bytes_from(&mut self, from: &Kind, to: &Kind) -> Result<()> {
        match (from, to) {
            (Kind::Text, Kind::Uuid) => {
                self.per_value();
                self.then(|column, faults| {
                    let texts = column.as_string::<i32>();
                    let mut builder = arrow::array::FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
                    for (row, text) in texts.iter().enumerate() {
                        match text.map(|t| (t, uuid::Uuid::try_parse(t))) {
                            Some((_, Ok(uuid))) => builder.append_value(uuid.as_bytes())?,
                            Some((text, Err(_))) => {
                                faults.push(CellFault { row, reason: format!("{} is no UUID", quoted(text)) });
                                builder.append_null();
                            }
                            None => builder.append_null(),
                        }
                    }
                    Ok(Arc::new(builder.finish()))
                });
                return Ok(());
            }
            (kind, _) if kind.is_text() => {
                let encoding = self.options.formats.encoding()?;
                if encoding != encoding_rs::UTF_8 {
                    self.per_value();
                }
                self.then(move |column, faults| Ok(text::to_bytes(column, encoding, faults)));
            }
            (Kind::Binary, _) => {}
            (Kind::FixedBinary(16), Kind::Uuid) | (Kind::Uuid, Kind::FixedBinary(16)) => return Ok(()),
            (Kind::FixedBinary(_) | Kind::Uuid, _) => self.then(|column, _| stored(column, &DataType::Binary)),
            _ => return Err(self.impossible()),
        }
        let width = match to {
            Kind::FixedBinary(width) => *width,
            Kind::Uuid => 16,
            _ => return Ok(()),
        };
        self.per_value();
        self.then(move |column, faults| {
            let values = column.as_binary::<i32>();
            let mut builder = arrow::array::FixedSizeBinaryBuilder::with_capacity(values.len(), width);
            for (row, value) in values.iter().enumerate() {
                match value {
                    Some(bytes) if bytes.len() == width as usize => builder.append_value(bytes)?,
                    Some(bytes) => {
                        faults.push(CellFault { row, reason: format!("{} bytes are not {width}", bytes.len()) });
                        builder.append_null();
                    }
                    None => builder.append_null(),
                }
            }
            Ok(Arc::new(builder.finish()))
        });
        Ok(())
    }

    fn boolean_from(&mut self, from: &Kind) -> Result<()> {
        self.per_value();
        match from {
            Kind::Text | Kind::Json => self.then(numbers::text_to_booleans),
            Kind::Integer(_) => self.then(numbers::integers_to_booleans),
            Kind::Float(_) | Kind::Decimal(_) | Kind::DecimalText => {
                self.wide_integers(from, false)?;
                self.then(numbers::integers_to_booleans);
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    fn integer_from(&mut self, from: &Kind) -> Result<()> {
        let to = self.to.data_type().clone();
        let unsigned = matches!(Kind::of(&self.to), Kind::Integer(true));
        match from {
            Kind::Integer(_) => {
                if !numbers::widens(self.stored_from().data_type(), &to) {
                    self.per_value();
                }
                if self.stored_from().data_type() == &to {
                    return Ok(());
                }
            }
            _ => {
                self.wide_integers(from, unsigned)?;
                if *from != Kind::Boolean {
                    self.per_value();
                }
            }
        }
        let target = self.target.clone();
        self.then(move |column, faults| numbers::resize(column, &to, faults, &target));
        Ok(())
    }

    /// Into Int64, or UInt64 when `unsigned`, from anything but integers.
    fn wide_integers(&mut self, from: &Kind, unsigned: bool) -> Result<()> {
        let target = self.target.clone();
        match from {
            Kind::Boolean => self.then(move |column, _| numbers::booleans_to_integers(column, unsigned)),
            Kind::Float(_) => {
                self.then(move |column, faults| numbers::floats_to_integers(column, unsigned, faults, &target));
            }
            Kind::Decimal(fixed) => {
                let (fixed, whole) = (*fixed, Fixed { precision: 38, scale: 0, wide: false });
                let reasons = target.clone();
                self.then(move |column, faults| decimals::rescale(column, fixed, whole, faults, &reasons));
                self.then(move |column, faults| Ok(decimals::to_integers(column, unsigned, faults, &target)));
            }
            Kind::Text | Kind::Json | Kind::DecimalText => {
                self.then(move |column, faults| Ok(numbers::text_to_integers(column, unsigned, faults, &target)));
            }
            Kind::Date | Kind::Timestamp(..) => {
                self.timestamp_from(from, TimeUnit::Millisecond, true)?;
                self.then(|column, _| Ok(Arc::new(counts(column)?)));
            }
            Kind::Time(_) | Kind::Duration(_) => {
                self.duration_from(from, TimeUnit::Microsecond)?;
                self.then(|column, _| Ok(Arc::new(counts(column)?)));
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    fn float_from(&mut self, from: &Kind, double: bool) -> Result<()> {
        let target = self.target.clone();
        match from {
            Kind::Float(false) => self.then(|column, _| stored(column, &DataType::Float64)),
            Kind::Float(true) => {
                self.every("it is rounded to 24 binary digits");
                self.then(move |column, faults| Ok(numbers::to_single(column, faults, &target)));
            }
            Kind::Boolean => {
                self.then(|column, _| numbers::booleans_to_integers(column, false));
                self.then(move |column, faults| Ok(numbers::to_floats(column, double, faults, &target)));
            }
            Kind::Integer(unsigned) => {
                let source = self.stored_from();
                let bits = numbers::width(source.data_type()).map_or(64, |w| w.0);
                if bits >= if double { 64 } else { 32 } {
                    self.per_value();
                }
                let wide = if *unsigned { DataType::UInt64 } else { DataType::Int64 };
                self.then(move |column, faults| {
                    Ok(numbers::to_floats(&stored(column, &wide)?, double, faults, &target))
                });
            }
            Kind::Decimal(fixed) => {
                let fixed = *fixed;
                if fixed.precision > if double { 15 } else { 6 } {
                    self.per_value();
                }
                self.then(move |column, faults| Ok(decimals::to_floats(column, fixed, double, faults, &target)));
            }
            Kind::Text | Kind::Json | Kind::DecimalText => {
                self.per_value();
                self.then(move |column, faults| Ok(numbers::text_to_floats(column, double, faults, &target)));
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }

    fn decimal_from(&mut self, from: &Kind, to: Fixed) -> Result<()> {
        let target = self.target.clone();
        match from {
            Kind::Boolean | Kind::Integer(_) => {
                let digits = match numbers::width(self.stored_from().data_type()) {
                    Some((8, _)) => 3,
                    Some((16, _)) => 5,
                    Some((32, _)) => 10,
                    Some((_, false)) => 19,
                    Some((_, true)) => 20,
                    None => 1,
                };
                if !(Fixed { precision: digits, scale: 0, wide: false }).fits(to) {
                    self.per_value();
                }
                let wide = if *from == Kind::Integer(true) { DataType::UInt64 } else { DataType::Int64 };
                let whole = Fixed { precision: 20, scale: 0, wide: false };
                self.then(move |column, faults| {
                    let integers = decimals::from_integers(&stored(column, &wide)?);
                    decimals::rescale(&integers, whole, to, faults, &target)
                });
            }
            Kind::Float(_) => {
                self.per_value();
                self.then(move |column, faults| numbers::floats_to_decimals(column, to, faults, &target));
            }
            Kind::Decimal(fixed) => {
                let fixed = *fixed;
                if !fixed.fits(to) {
                    self.per_value();
                }
                self.then(move |column, faults| decimals::rescale(column, fixed, to, faults, &target));
            }
            Kind::Text | Kind::Json | Kind::DecimalText => {
                self.per_value();
                self.then(move |column, faults| Ok(decimals::from_text(column, to, faults, &target)));
            }
            _ => return Err(self.impossible()),
        }
        Ok(())
    }
}
