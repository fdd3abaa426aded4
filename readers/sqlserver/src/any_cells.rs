//! Cells that no server would send: each is a value or a reason, and what is a value is what the calendar, or plain digits,
//! say; never a panic.

use std::borrow::Cow;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType};
use chrono::{Days, NaiveDate, NaiveDateTime, TimeDelta};
use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};
use tiberius::{ColumnData as Cell, Uuid};
use weir_sqlserver::{Fractions, Kind, show_offset};

use crate::decode::{Decoder, length, shown};

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

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number of all sizes, edges among them.
    fn number(&mut self) -> u64 {
        match self.below(5) {
            0 => self.below(4),
            1 => u64::MAX - self.below(4),
            2 => 1u64.rotate_right(self.below(64) as u32),
            3 => self.below(100_000),
            _ => self.next(),
        }
    }

    fn wide(&mut self) -> i128 {
        let wide = (i128::from(self.next() as i64) << 64 | i128::from(self.next())) >> self.below(128);
        // Round numbers have zeros to lose.
        if self.below(2) == 0 { wide } else { wide.wrapping_mul(10i128.pow(self.below(30) as u32)) }
    }

    fn text(&mut self) -> String {
        (0..self.below(6)).map(|_| ['a', '0', '-', 'é', '\u{1F600}', '\0'][self.below(6) as usize]).collect()
    }

    /// Of five bytes at most, as they come.
    fn clock(&mut self) -> Time {
        let increments = self.number() >> [24, 40][self.below(2) as usize];
        Time::new(increments, [self.below(8) as u8, self.number() as u8][self.below(2) as usize])
    }

    fn moment(&mut self) -> DateTime2 {
        let clock = self.clock();
        DateTime2::new(Date::new(self.number() as u32 >> 8), clock)
    }

    fn cell(&mut self) -> Cell<'static> {
        let kind = self.below(18);
        if self.below(8) == 0 {
            return [Cell::I32(None), Cell::String(None), Cell::Numeric(None), Cell::DateTime2(None), Cell::Guid(None)]
                [self.below(5) as usize]
                .clone();
        }
        match kind {
            0 => Cell::U8(Some(self.number() as u8)),
            1 => Cell::I16(Some(self.number() as i16)),
            2 => Cell::I32(Some(self.number() as i32)),
            3 => Cell::I64(Some(self.number() as i64)),
            4 => Cell::F32(Some(f32::from_bits(self.number() as u32))),
            5 => Cell::F64(Some(f64::from_bits(self.number()))),
            6 => Cell::Bit(Some(self.below(2) == 0)),
            7 => Cell::String(Some(Cow::Owned(self.text()))),
            8 => Cell::Guid(Some(Uuid::from_u128(self.wide() as u128))),
            9 => Cell::Binary(Some(Cow::Owned(self.text().into_bytes()))),
            10 | 11 => Cell::Numeric(Some(Numeric::new_with_scale(self.wide(), self.below(38) as u8))),
            12 => Cell::DateTime(Some(DateTime::new(self.number() as i32, self.number() as u32))),
            13 => Cell::SmallDateTime(Some(SmallDateTime::new(self.number() as u16, self.number() as u16))),
            14 => Cell::Time(Some(self.clock())),
            15 => Cell::Date(Some(Date::new(self.number() as u32 >> 8))),
            16 => Cell::DateTime2(Some(self.moment())),
            _ => Cell::DateTimeOffset(Some(DateTimeOffset::new(self.moment(), self.number() as i16))),
        }
    }
}

const TYPES: &[&str] = &[
    "bit",
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "decimal(1,0)",
    "decimal(38,38)",
    "numeric(20,4)",
    "money",
    "smallmoney",
    "real",
    "float",
    "date",
    "time(0)",
    "time(7)",
    "datetime",
    "smalldatetime",
    "datetime2(0)",
    "datetime2(7)",
    "datetimeoffset(3)",
    "datetimeoffset(7)",
    "nvarchar(20)",
    "varbinary(max)",
    "uniqueidentifier",
    "xml",
    "rowversion",
];

#[test]
fn any_cell_is_a_value_or_a_reason() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..60_000u64 {
        let mut random = Random(seed);
        let text = TYPES[random.below(TYPES.len() as u64) as usize];
        let forms = Kind::parse(text).forms("c", [Fractions::Exact, Fractions::Microseconds][random.below(2) as usize]);
        let form = &forms[random.below(forms.len() as u64) as usize];
        let cells: Vec<_> = (0..random.below(6)).map(|_| random.cell()).collect();
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            let mut decoder = Decoder::new(form).unwrap();
            let appended: Vec<_> = cells.iter().map(|cell| decoder.append(cell)).collect();
            let column = decoder.finish();
            assert_eq!((column.len(), column.data_type()), (cells.len(), form.data_type()));
            for (row, (cell, appended)) in cells.iter().zip(&appended).enumerate() {
                let seen = shown(cell);
                // After a reason a NULL stands in its place, and what the quarantine shows is the value.
                assert_eq!(column.is_null(row), appended.is_err() || seen.is_null(), "{cell:?}");
                assert!(appended.is_ok() || !seen.is_null(), "{cell:?}");
                assert!(length(cell) < 100);
            }
            appended.iter().filter(|appended| appended.is_ok()).count()
        }));
        let Ok(kept) = decoded else { panic!("seed {seed}: {text} as {form:?}: {cells:?}") };
        (good, bad) = (good + kept, bad + cells.len() - kept);
    }
    assert!(good > 20_000 && bad > 20_000, "{good} values, {bad} reasons");
}

/// A moment as its parts, as the protocol and as the calendar have it.
fn moment(random: &mut Random) -> (DateTime2, NaiveDateTime) {
    let scale = random.below(8) as u8;
    let days = random.below(3_652_059) as u32;
    let increments = random.below(86_400 * 10u64.pow(scale.into()));
    let day = NaiveDate::from_ymd_opt(1, 1, 1).unwrap() + Days::new(days.into());
    let clock = TimeDelta::nanoseconds((increments * 10u64.pow(9 - u32::from(scale))) as i64);
    (DateTime2::new(Date::new(days), Time::new(increments, scale)), day.and_hms_opt(0, 0, 0).unwrap() + clock)
}

#[test]
fn moments_are_what_the_calendar_says() {
    let (mut fine, mut far) = (0, 0);
    for seed in 0..20_000u64 {
        let mut random = Random(seed);
        let (sent, calendar) = moment(&mut random);
        let scale = sent.time().scale();
        let one = |form: &str, unit: TimeUnit, cell: &Cell<'static>| {
            let forms = Kind::parse(form).forms("c", Fractions::Exact);
            let form = forms.iter().find(|f| matches!(f.data_type(), DataType::Timestamp(u, _) if *u == unit)).unwrap();
            let mut decoder = Decoder::new(form).unwrap();
            decoder.append(cell).map(|()| decoder.finish())
        };
        let cell = Cell::DateTime2(Some(sent));
        match one("datetime2(7)", TimeUnit::Microsecond, &cell) {
            Ok(column) => {
                let value = column.as_primitive::<TimestampMicrosecondType>().value(0);
                assert_eq!(value, calendar.and_utc().timestamp_micros(), "seed {seed}");
                assert_eq!(calendar.and_utc().timestamp_subsec_nanos() % 1_000, 0, "seed {seed}");
            }
            Err(_) => {
                assert_ne!(calendar.and_utc().timestamp_subsec_nanos() % 1_000, 0, "seed {seed}");
                fine += 1;
            }
        }
        let nanos = calendar.and_utc().timestamp_nanos_opt();
        match one("datetime2(7)", TimeUnit::Nanosecond, &cell) {
            Ok(column) => assert_eq!(Some(column.as_primitive::<TimestampNanosecondType>().value(0)), nanos),
            Err(_) => {
                assert_eq!(nanos, None, "seed {seed}");
                far += 1;
            }
        }
        let digits = |at: NaiveDateTime| {
            let mut text = at.format("%Y-%m-%d %H:%M:%S").to_string();
            if scale > 0 {
                let nanos = at.and_utc().timestamp_subsec_nanos();
                write!(text, ".{:0width$}", nanos / 10u32.pow(9 - u32::from(scale)), width = scale.into()).unwrap();
            }
            text
        };
        assert_eq!(shown(&cell), digits(calendar), "seed {seed}");
        // A clock's own text, in the years in which every clock has a year of four digits.
        let offset = random.below(1_681) as i16 - 840;
        if (1..3_652_057).contains(&sent.date().days()) {
            let mut text = String::new();
            show_offset(sent.date().days(), sent.time().increments(), scale, offset, &mut text);
            let there = calendar + TimeDelta::minutes(offset.into());
            let (sign, away) = (if offset < 0 { '-' } else { '+' }, offset.abs());
            assert_eq!(text, format!("{} {sign}{:02}:{:02}", digits(there), away / 60, away % 60), "seed {seed}");
        }
    }
    assert!(fine > 1_000 && far > 10_000, "{fine} too fine, {far} too far");
}

/// A decimal in digits: sign, whole part, fraction, without zeros that say nothing.
fn digits(value: i128, scale: u8) -> (bool, String, String) {
    let all = format!("{:0width$}", value.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = all.split_at(all.len() - usize::from(scale));
    (value < 0, whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned())
}

#[test]
fn decimals_keep_every_digit_or_are_reasons() {
    let (mut kept, mut refused) = (0, 0);
    for seed in 0..40_000u64 {
        let mut random = Random(seed);
        let precision = 1 + random.below(38) as u8;
        let scale = random.below(u64::from(precision) + 1) as u8;
        let (value, from) = (random.wide(), random.below(38) as u8);
        let kind = Kind::parse(&format!("decimal({precision},{scale})"));
        let mut decoder = Decoder::new(&kind.forms("c", Fractions::Exact)[0]).unwrap();
        let (negative, whole, fraction) = digits(value, from);
        let fits = whole.len() <= usize::from(precision - scale) && fraction.len() <= usize::from(scale);
        match decoder.append(&Cell::Numeric(Some(Numeric::new_with_scale(value, from)))) {
            Ok(()) => {
                let found = decoder.finish().as_primitive::<Decimal128Type>().value(0);
                assert_eq!(digits(found, scale), (negative, whole, fraction), "seed {seed}");
                assert!(fits, "seed {seed}: {value}e-{from} as decimal({precision},{scale})");
                kept += 1;
            }
            Err(_) => {
                assert!(!fits, "seed {seed}: {value}e-{from} as decimal({precision},{scale})");
                refused += 1;
            }
        }
    }
    assert!(kept > 2_000 && refused > 10_000, "{kept} kept, {refused} refused");
}
