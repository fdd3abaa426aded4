//! From the text protocol's cells to Arrow columns: one decoder a column, chosen once.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    DurationMicrosecondBuilder, FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder,
    Int32Builder, Int64Builder, ListBuilder, TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder,
    UInt64Builder,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use weir_core::field::{NATIVE, TEXT, extension};
use weir_core::{Error, ErrorKind, Result};
use weir_mysql::wire::Span;
use weir_mysql::{Kind, ZeroDate};

use crate::numbers::{self, Bad};
use crate::var::Var;

/// A column's cells in some rows.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    /// What the spans point into.
    pub(crate) bytes: &'a [u8],
    /// The cells of all columns, row by row.
    pub(crate) spans: &'a [Span],
    /// How many cells a row has.
    pub(crate) width: usize,
    /// The column's place in a row.
    pub(crate) place: usize,
}

impl<'a> Cells<'a> {
    /// Each row's cell; `None` for NULL.
    #[inline]
    pub(crate) fn iter(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let spans = self.spans.get(self.place..).unwrap_or_default();
        spans.iter().step_by(self.width.max(1)).map(move |span| span.of(self.bytes))
    }
}

/// A column being built.
pub(crate) struct Decoder {
    builder: Builder,
    zero_date: ZeroDate,
}

enum Builder {
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Bits(UInt64Builder),
    BoolOfText(BooleanBuilder),
    BoolOfBit(BooleanBuilder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, usize),
    Decimal256(Decimal256Builder, usize),
    Date(Date32Builder),
    YearDate(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Duration(DurationMicrosecondBuilder),
    Utf8(Var),
    Binary(Var),
    Wkb(BinaryBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Vector(ListBuilder<Float32Builder>),
}

impl Decoder {
    /// For values of `kind` that are to be delivered as `field`.
    pub(crate) fn new(kind: &Kind, field: &Field, zero_date: ZeroDate) -> Result<Self> {
        let builder = match (extension(field), field.data_type()) {
            (Some(NATIVE), _) => Builder::Binary(Var::new()),
            (Some(TEXT), _) | (_, DataType::Utf8) => Builder::Utf8(Var::new()),
            (_, DataType::Int8) => Builder::Int8(Int8Builder::new()),
            (_, DataType::Int16) => Builder::Int16(Int16Builder::new()),
            (_, DataType::Int32) => Builder::Int32(Int32Builder::new()),
            (_, DataType::Int64) => Builder::Int64(Int64Builder::new()),
            (_, DataType::UInt8) => Builder::UInt8(UInt8Builder::new()),
            (_, DataType::UInt16) => Builder::UInt16(UInt16Builder::new()),
            (_, DataType::UInt32) => Builder::UInt32(UInt32Builder::new()),
            (_, DataType::UInt64) if matches!(kind, Kind::Bit(_)) => Builder::Bits(UInt64Builder::new()),
            (_, DataType::UInt64) => Builder::UInt64(UInt64Builder::new()),
            (_, DataType::Boolean) if matches!(kind, Kind::Bit(_)) => Builder::BoolOfBit(BooleanBuilder::new()),
            (_, DataType::Boolean) => Builder::BoolOfText(BooleanBuilder::new()),
            (_, DataType::Float32) => Builder::Float32(Float32Builder::new()),
            (_, DataType::Float64) => Builder::Float64(Float64Builder::new()),
            (_, DataType::Decimal128(p, s)) => {
                Builder::Decimal128(Decimal128Builder::new().with_precision_and_scale(*p, *s)?, *s as usize)
            }
            (_, DataType::Decimal256(p, s)) => {
                Builder::Decimal256(Decimal256Builder::new().with_precision_and_scale(*p, *s)?, *s as usize)
            }
            (_, DataType::Date32) if *kind == Kind::Year => Builder::YearDate(Date32Builder::new()),
            (_, DataType::Date32) => Builder::Date(Date32Builder::new()),
            (_, DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
                Builder::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            (_, DataType::Duration(TimeUnit::Microsecond)) => Builder::Duration(DurationMicrosecondBuilder::new()),
            (_, DataType::Binary) if *kind == Kind::Geometry => Builder::Wkb(BinaryBuilder::new()),
            (_, DataType::Binary) => Builder::Binary(Var::new()),
            (_, DataType::FixedSizeBinary(16)) => Builder::Uuid(FixedSizeBinaryBuilder::new(16)),
            (_, DataType::List(_)) => Builder::Vector(ListBuilder::new(Float32Builder::new())),
            (_, other) => {
                return Err(
                    Error::new(ErrorKind::Internal, format!("{other} was never offered")).with("column", field.name())
                );
            }
        };
        Ok(Self { builder, zero_date })
    }

    /// Bytes of a row besides the text itself, for the bound of a batch.
    pub(crate) fn width(&self) -> usize {
        match &self.builder {
            Builder::Int8(_) | Builder::UInt8(_) => 1,
            Builder::Int16(_) | Builder::UInt16(_) => 2,
            Builder::BoolOfText(_) | Builder::BoolOfBit(_) => 1,
            Builder::Decimal128(..) | Builder::Uuid(_) => 16,
            Builder::Decimal256(..) => 32,
            Builder::Int32(_) | Builder::UInt32(_) | Builder::Float32(_) | Builder::Date(_) => 4,
            Builder::YearDate(_) | Builder::Utf8(_) | Builder::Binary(_) | Builder::Wkb(_) | Builder::Vector(_) => 4,
            _ => 8,
        }
    }

    /// Whether the text's own bytes count too.
    pub(crate) fn is_variable(&self) -> bool {
        matches!(self.builder, Builder::Utf8(_) | Builder::Binary(_) | Builder::Wkb(_) | Builder::Vector(_))
    }

    /// Appends the cells of some rows. For each that cannot be decoded a NULL stands in its place, so that all columns stay
    /// equally long, and `fail` is told.
    pub(crate) fn append(&mut self, cells: Cells<'_>, fail: &mut dyn FnMut(usize, Bad)) {
        const NUMBER: Bad = Bad::Value("it is no number of the column's type");
        let zero = self.zero_date;
        /// One loop a type: values, NULLs, and what becomes of the rest.
        macro_rules! fill {
            ($builder:expr, $value:expr) => {
                for (row, cell) in cells.iter().enumerate() {
                    match cell.map($value) {
                        Some(Ok(value)) => $builder.append_value(value),
                        None => $builder.append_null(),
                        Some(Err(bad)) => {
                            $builder.append_null();
                            if !(bad == Bad::ZeroDate && zero == ZeroDate::Null) {
                                fail(row, bad);
                            }
                        }
                    }
                }
            };
        }
        macro_rules! int {
            ($builder:expr, $parse:path) => {
                fill!($builder, |cell| $parse(cell).and_then(|n| n.try_into().ok()).ok_or(NUMBER))
            };
        }
        let text = |cell| std::str::from_utf8(cell).map_err(|_| Bad::Value("it is no valid UTF-8"));
        match &mut self.builder {
            Builder::Int8(b) => int!(b, numbers::int),
            Builder::Int16(b) => int!(b, numbers::int),
            Builder::Int32(b) => int!(b, numbers::int),
            Builder::Int64(b) => fill!(b, |cell| numbers::int(cell).ok_or(NUMBER)),
            Builder::UInt8(b) => int!(b, numbers::unsigned),
            Builder::UInt16(b) => int!(b, numbers::unsigned),
            Builder::UInt32(b) => int!(b, numbers::unsigned),
            Builder::UInt64(b) => fill!(b, |cell| numbers::unsigned(cell).ok_or(NUMBER)),
            Builder::Bits(b) => fill!(b, |cell: &[u8]| match cell.len() {
                0..=8 => Ok(cell.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte))),
                _ => Err(NUMBER),
            }),
            Builder::BoolOfText(b) => fill!(b, |cell| numbers::int(cell).map(|n| n != 0).ok_or(NUMBER)),
            Builder::BoolOfBit(b) => {
                fill!(b, |cell: &[u8]| Ok::<_, Bad>(cell.last().is_some_and(|byte| byte & 1 == 1)))
            }
            // The server sends doubles, see `Kind::select`; a double made from a float narrows to the same float.
            Builder::Float32(b) => fill!(b, |cell| text(cell)?.parse::<f64>().map(|n| n as f32).map_err(|_| NUMBER)),
            Builder::Float64(b) => fill!(b, |cell| text(cell)?.parse::<f64>().map_err(|_| NUMBER)),
            Builder::Decimal128(b, scale) => {
                let scale = *scale;
                fill!(b, |cell| numbers::decimal128(cell, scale).ok_or(NUMBER));
            }
            Builder::Decimal256(b, scale) => {
                let scale = *scale;
                fill!(b, |cell| numbers::decimal256(cell, scale).ok_or(NUMBER));
            }
            Builder::Date(b) => fill!(b, numbers::date),
            Builder::YearDate(b) => fill!(b, numbers::new_year),
            Builder::Timestamp(b) => fill!(b, numbers::timestamp),
            Builder::Duration(b) => {
                fill!(b, |cell| numbers::duration(cell).ok_or(Bad::Value("it is no time")));
            }
            Builder::Utf8(var) => var.texts(cells, fail),
            Builder::Binary(var) => var.bytes(cells),
            // Four bytes of SRID, then WKB.
            Builder::Wkb(b) => fill!(b, |cell: &[u8]| match cell.split_at_checked(4) {
                Some(([0, 0, 0, 0], wkb)) => Ok(wkb.to_vec()),
                Some(_) => Err(Bad::Value("a geometry's SRID is kept from MySQL to MySQL only")),
                None => Err(Bad::Value("it is no geometry")),
            }),
            Builder::Uuid(b) => {
                for (row, cell) in cells.iter().enumerate() {
                    let bytes = cell.map(numbers::uuid);
                    if !matches!(bytes, Some(Some(bytes)) if b.append_value(bytes).is_ok()) {
                        b.append_null();
                        if cell.is_some() {
                            fail(row, Bad::Value("it is no UUID"));
                        }
                    }
                }
            }
            Builder::Vector(b) => {
                for (row, cell) in cells.iter().enumerate() {
                    match cell.map(<[u8]>::as_chunks::<4>) {
                        Some((floats, [])) => {
                            floats.iter().for_each(|float| b.values().append_value(f32::from_le_bytes(*float)));
                            b.append(true);
                        }
                        wrong => {
                            b.append_null();
                            if wrong.is_some() {
                                fail(row, Bad::Value("it is no vector"));
                            }
                        }
                    }
                }
            }
        }
    }

    /// The column so far; the decoder starts again.
    ///
    /// # Errors
    /// Never, unless more text than an array may hold came into one batch.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match &mut self.builder {
            Builder::Int8(b) => Arc::new(b.finish()),
            Builder::Int16(b) => Arc::new(b.finish()),
            Builder::Int32(b) => Arc::new(b.finish()),
            Builder::Int64(b) => Arc::new(b.finish()),
            Builder::UInt8(b) => Arc::new(b.finish()),
            Builder::UInt16(b) => Arc::new(b.finish()),
            Builder::UInt32(b) => Arc::new(b.finish()),
            Builder::UInt64(b) | Builder::Bits(b) => Arc::new(b.finish()),
            Builder::BoolOfText(b) | Builder::BoolOfBit(b) => Arc::new(b.finish()),
            Builder::Float32(b) => Arc::new(b.finish()),
            Builder::Float64(b) => Arc::new(b.finish()),
            Builder::Decimal128(b, _) => Arc::new(b.finish()),
            Builder::Decimal256(b, _) => Arc::new(b.finish()),
            Builder::Date(b) | Builder::YearDate(b) => Arc::new(b.finish()),
            Builder::Timestamp(b) => Arc::new(b.finish()),
            Builder::Duration(b) => Arc::new(b.finish()),
            Builder::Utf8(var) => var.finish_texts()?,
            Builder::Binary(var) => var.finish_bytes()?,
            Builder::Wkb(b) => Arc::new(b.finish()),
            Builder::Uuid(b) => Arc::new(b.finish()),
            Builder::Vector(b) => Arc::new(b.finish()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Date32Type;
    use weir_mysql::Shape;
    use weir_mysql::wire::NULL;

    fn decoder(type_text: &str, zero_date: ZeroDate) -> Decoder {
        let kind = Kind::parse(type_text);
        Decoder::new(&kind, &kind.canonical("c", Shape::default()).unwrap(), zero_date).unwrap()
    }

    /// The cells as if they were rows of one column; the rows that failed.
    fn append(decoder: &mut Decoder, cells: &[Option<&[u8]>]) -> Vec<(usize, Bad)> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for cell in cells {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(cell.unwrap_or_default());
            spans.push(cell.map_or(NULL, |c| Span { start, length: c.len() as u32 }));
        }
        let mut failed = Vec::new();
        let cells = Cells { bytes: &bytes, spans: &spans, width: 1, place: 0 };
        decoder.append(cells, &mut |row, bad| failed.push((row, bad)));
        failed
    }

    #[test]
    fn a_bad_cell_leaves_a_null_and_says_why() {
        let mut d = decoder("date", ZeroDate::Error);
        assert_eq!(append(&mut d, &[Some(b"0000-00-00"), Some(b"1970-01-02")]), [(0, Bad::ZeroDate)]);
        assert_eq!(d.finish().unwrap().as_primitive::<Date32Type>().iter().collect::<Vec<_>>(), [None, Some(1)]);
        let mut d = decoder("datetime(6)", ZeroDate::Null);
        assert_eq!(append(&mut d, &[Some(b"0000-00-00 00:00:00.000000")]), []);
        assert_eq!(d.finish().unwrap().null_count(), 1);
        assert_eq!(append(&mut decoder("tinyint", ZeroDate::Error), &[Some(b"127"), Some(b"128")])[0].0, 1);
        let mut d = decoder("varchar(9)", ZeroDate::Error);
        assert_eq!(append(&mut d, &[Some(b"a"), None]), []);
        assert_eq!(append(&mut d, &[Some("é".as_bytes()), Some(b"\xff"), None])[0].0, 1);
        let texts = d.finish().unwrap();
        assert_eq!(texts.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None, Some("é"), None, None]);
    }

    /// A small generator (SplitMix64: Steele, Lea and Flood, 2014).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }

        fn below(&mut self, bound: usize) -> usize {
            (self.next() % bound.max(1) as u64) as usize
        }
    }

    const TYPES: &[&str] = &[
        "tinyint",
        "smallint",
        "mediumint",
        "int",
        "bigint",
        "tinyint unsigned",
        "smallint unsigned",
        "int unsigned",
        "bigint unsigned",
        "bit(1)",
        "bit(64)",
        "float",
        "double",
        "decimal(10,2)",
        "decimal(38,38)",
        "decimal(65,30)",
        "date",
        "year",
        "datetime(6)",
        "timestamp",
        "time(6)",
        "varchar(9)",
        "varbinary(9)",
        "json",
        "uuid",
        "point",
        "vector(2)",
        "enum('a')",
    ];

    const PIECES: &[&[u8]] = &[
        b"-",
        b"+",
        b".",
        b"e",
        b"E",
        b":",
        b" ",
        b"T",
        b"0",
        b"00",
        b"9",
        b"0000-00-00",
        b"9999-12-31",
        b"23:59:59",
        b"838:59:59",
        b".999999",
        b"99999999999999999999",
        b"1",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"nan",
        b"inf",
        b"1e308",
        b"-0",
        b"/",
        b"2024-02-30",
        b"18446744073709551615",
        b"-9223372036854775808",
        b"\0\0\0\0",
    ];

    /// Whatever a server says, a cell is a value or a reason, and the column stays as long as the others.
    #[test]
    fn cells_of_random_bytes_are_values_or_reasons() {
        let (mut good, mut bad) = (0, 0);
        for seed in 0..60_000u64 {
            let mut random = Random(seed);
            let text = TYPES[random.below(TYPES.len())];
            let zero_date = if random.below(2) == 0 { ZeroDate::Null } else { ZeroDate::Error };
            let mut decoder = decoder(text, zero_date);
            let cells: Vec<Option<Vec<u8>>> = (0..random.below(5))
                .map(|_| match random.below(5) {
                    0 => None,
                    1 => Some((0..random.below(30)).map(|_| random.next() as u8).collect()),
                    _ => Some((0..random.below(6)).flat_map(|_| PIECES[random.below(PIECES.len())].to_vec()).collect()),
                })
                .collect();
            let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let cells: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
                let kept = cells.len() - append(&mut decoder, &cells).len();
                let array = decoder.finish().unwrap();
                assert_eq!(array.len(), cells.len());
                assert!(array.get_array_memory_size() < 1 << 20);
                kept
            }));
            let Ok(kept) = decoded else { panic!("seed {seed}: {text} {cells:02x?}") };
            (good, bad) = (good + kept, bad + cells.len() - kept);
        }
        assert!(good > 20_000 && bad > 20_000, "{good} values, {bad} reasons");
    }
}
