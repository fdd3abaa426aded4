//! Bytes that no server would send: the decoder gives rows, sets them aside or gives up, and never panics, hangs or asks
//! for memory that the bytes themselves do not take.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use weir_postgresql::PgType;
use weir_postgresql::copy::Decoder;

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

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        // Small values and edges are what decoders trip over.
        (0..self.below(most + 1))
            .map(|_| match self.below(4) {
                0 => 0,
                1 => self.below(5) as u8,
                2 => 0xff,
                _ => self.next() as u8,
            })
            .collect()
    }
}

const TYPES: &[&str] = &[
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "numeric(10,2)",
    "numeric(60,5)",
    "text",
    "character varying(5)",
    "character(3)",
    "bytea",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "time with time zone",
    "interval",
    "uuid",
    "json",
    "jsonb",
    "inet",
    "money",
    "bit(5)",
    "integer[]",
    "text[]",
    "numeric[]",
    "timestamp without time zone[]",
    "boolean[]",
    "uuid[]",
    "point",
    "oid",
    "xml",
];

/// Every form in which a type may be read.
fn forms() -> Vec<(PgType, Field)> {
    let types: Vec<PgType> = TYPES.iter().filter_map(|text| PgType::parse(text)).collect();
    assert!(types.len() > 25, "only {} types", types.len());
    types.iter().flat_map(|pg| pg.representations("c").into_iter().map(|field| (pg.clone(), field))).collect()
}

fn header() -> Vec<u8> {
    let mut header = b"PGCOPY\n\xff\r\n\0".to_vec();
    header.extend([0; 8]);
    header
}

fn decoder(columns: &[(PgType, Field)]) -> Option<Decoder> {
    let fields: Vec<Field> =
        columns.iter().enumerate().map(|(i, (_, f))| f.clone().with_name(format!("c{i}"))).collect();
    let types: Vec<PgType> = columns.iter().map(|(pg, _)| pg.clone()).collect();
    Decoder::new(Arc::new(Schema::new(fields)), &types).ok()
}

/// Pushes the stream in pieces; rows given and rows set aside, or `None` when the decoder gave up.
fn decode(decoder: &mut Decoder, stream: &[u8], piece: usize) -> Option<(usize, usize)> {
    let (mut rows, mut dirty) = (0, 0);
    let mut count = |decoder: &mut Decoder| {
        for decoded in decoder.take_ready() {
            let width = decoded.batch.get_array_memory_size();
            assert!(width < 64 * stream.len() + (4 << 20), "{width} bytes from {}", stream.len());
            rows += decoded.batch.num_rows();
            dirty += decoded.dirty.len();
        }
    };
    for piece in stream.chunks(piece.max(1)) {
        decoder.push(piece).ok()?;
        count(decoder);
    }
    decoder.finish().ok()?;
    count(decoder);
    Some((rows, dirty))
}

#[test]
fn cells_of_random_bytes_are_values_or_dirty_rows() {
    let forms = forms();
    let (mut rows, mut dirty, mut tuples) = (0, 0, 0);
    for seed in 0..20_000u64 {
        let mut random = Random(seed);
        let columns: Vec<_> = (0..1 + random.below(3)).map(|_| forms[random.below(forms.len())].clone()).collect();
        let Some(mut decoder) = decoder(&columns) else {
            panic!("{columns:?} cannot be read in a form that it offers")
        };
        let mut stream = header();
        let number = random.below(6);
        for _ in 0..number {
            stream.extend((columns.len() as i16).to_be_bytes());
            for _ in &columns {
                if random.below(6) == 0 {
                    stream.extend((-1i32).to_be_bytes());
                    continue;
                }
                let width = [1, 2, 4, 8, 12, 16, 40][random.below(7)];
                let mut cell = random.bytes(width);
                if random.below(2) == 0 {
                    cell.resize(width, random.next() as u8);
                }
                stream.extend((cell.len() as i32).to_be_bytes());
                stream.extend(cell);
            }
        }
        stream.extend((-1i16).to_be_bytes());
        let piece = 1 + random.below(40);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decode(&mut decoder, &stream, piece)));
        let Ok(found) = found else { panic!("seed {seed}: {columns:?}\n{stream:02x?}") };
        // The frame is whole, so every row is somewhere.
        let (good, bad) =
            found.unwrap_or_else(|| panic!("seed {seed}: a whole stream was given up: {columns:?}\n{stream:02x?}"));
        assert_eq!(good + bad, number, "seed {seed}: {columns:?}");
        (rows, dirty, tuples) = (rows + good, dirty + bad, tuples + number);
    }
    assert!(rows > tuples / 20 && dirty > tuples / 20, "{rows} rows, {dirty} dirty");
}

#[test]
fn streams_of_random_bytes_end() {
    let forms = forms();
    for seed in 0..30_000u64 {
        let mut random = Random(seed);
        let columns: Vec<_> = (0..1 + random.below(3)).map(|_| forms[random.below(forms.len())].clone()).collect();
        let Some(mut decoder) = decoder(&columns) else { continue };
        let mut stream = if random.below(4) == 0 { Vec::new() } else { header() };
        stream.extend(random.bytes(200));
        for _ in 0..random.below(4) {
            let at = random.below(stream.len());
            stream.get_mut(at).into_iter().for_each(|byte| *byte = random.next() as u8);
        }
        let piece = 1 + random.below(60);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decode(&mut decoder, &stream, piece)));
        assert!(ended.is_ok(), "seed {seed}: {columns:?}\n{stream:02x?}");
    }
}

/// Types come from files' metadata too, and from servers of relatives.
#[test]
fn texts_of_types_are_types_or_not() {
    let pieces = [
        "numeric",
        "character",
        "(",
        ")",
        ",",
        "2147483647",
        "-2147483648",
        "0",
        "[]",
        " ",
        "varying",
        "interval",
        "bit",
        "\"bit\"",
        "99999999999",
        "timestamp",
        "without time zone",
        "é",
        "day to second",
        "",
    ];
    for seed in 0..100_000u64 {
        let mut random = Random(seed);
        let text: String = (0..random.below(8)).map(|_| pieces[random.below(pieces.len())]).collect();
        let parsed = std::panic::catch_unwind(|| {
            if let Some(pg) = PgType::parse(&text) {
                for field in pg.representations("c") {
                    let _ = decoder(&[(pg.clone(), field)]);
                }
            }
        });
        assert!(parsed.is_ok(), "seed {seed}: {text}");
    }
    for text in
        ["character(2147483647)", "character varying(2147483647)", "numeric(2147483647,2147483647)", "numeric(-1,-1)"]
    {
        if let Some(pg) = PgType::parse(text) {
            let _ = pg.representations("c");
        }
    }
}
