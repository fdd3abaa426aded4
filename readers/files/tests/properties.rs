//! Files that nobody would write: what the reader makes of random bytes and quotes is what a slow and simple parser makes of
//! them, or a row set aside; never a panic, never another number of rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde_json::{Value, json};
use weir_core::*;
use weir_reader_files as _;

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

#[derive(Default)]
struct Sink {
    rows: Vec<Vec<Option<String>>>,
    rejected: usize,
    reasons: Vec<String>,
}

#[async_trait]
impl BatchSender for Sink {
    async fn send(&mut self, batch: RecordBatch) -> Result<()> {
        for row in 0..batch.num_rows() {
            let values = row_values(&batch, row);
            self.rows.push(values.values().map(|value| value.as_str().map(str::to_owned)).collect());
        }
        Ok(())
    }

    async fn reject(&mut self, row: DirtyRow) -> Result<()> {
        self.rejected += 1;
        self.reasons.push(row.reason);
        Ok(())
    }
}

fn reader(parameters: &Value) -> Result<Arc<dyn Reader>> {
    let context = ConnectorContext {
        cancel: Default::default(),
        io: tokio::runtime::Handle::current(),
        form: Form::Native,
        time_zone: chrono_tz::UTC,
        shared: Default::default(),
    };
    let plugin = readers().into_iter().find(|p| p.name == "files").expect("the reader is linked");
    Ok((plugin.open)(parameters, &context)?)
}

/// Reads with so many channels; how many splits that were.
async fn read(parameters: &Value, channels: usize) -> Result<(Sink, usize)> {
    let schema = reader(parameters)?.schema().await?;
    let columns = schema.columns.iter().enumerate();
    let columns = columns.map(|(index, c)| ReadColumn { index, field: c.canonical().clone() }).collect();
    let request = ReadRequest { columns, snapshot: None, limit: None };
    let wanted = SplitRequest { channels, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
    let splits = reader(parameters)?.splits(&wanted).await?;
    let mut sink = Sink::default();
    for split in &splits {
        reader(parameters)?.read(split, &request, &mut sink).await?;
    }
    Ok((sink, splits.len()))
}

fn columns(number: usize) -> Value {
    (0..number).map(|i| json!({"index": i, "name": format!("c{i}"), "type": "string"})).collect()
}

/// A record as the format's description reads: fields, or `None` when no reading is right.
type Record = Option<Vec<Option<String>>>;

/// RFC 4180 with `""` for a quote inside quotes, one character at a time. Empty unquoted fields are NULL.
fn reference(text: &str) -> Vec<Record> {
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut records) = (0, Vec::new());
    let is_end = |at: usize| at >= chars.len() || chars[at] == '\n' || chars[at] == '\r';
    let skip_end =
        |at: usize| if chars.get(at) == Some(&'\r') && chars.get(at + 1) == Some(&'\n') { at + 2 } else { at + 1 };
    while at < chars.len() {
        if is_end(at) {
            at = skip_end(at);
            continue;
        }
        let (mut fields, mut right) = (Vec::new(), true);
        loop {
            let mut field = String::new();
            if chars.get(at) == Some(&'"') {
                at += 1;
                loop {
                    match (chars.get(at), chars.get(at + 1)) {
                        (Some('"'), Some('"')) => {
                            field.push('"');
                            at += 2;
                        }
                        (Some('"'), _) => {
                            at += 1;
                            break;
                        }
                        (Some(c), _) => {
                            field.push(*c);
                            at += 1;
                        }
                        (None, _) => {
                            right = false;
                            break;
                        }
                    }
                }
                while !is_end(at) && chars[at] != ',' {
                    // White space after a closing quote is let pass.
                    right &= chars[at].is_ascii_whitespace();
                    at += 1;
                }
                fields.push(Some(field));
            } else {
                while !is_end(at) && chars[at] != ',' {
                    field.push(chars[at]);
                    at += 1;
                }
                fields.push(Some(field).filter(|field| !field.is_empty()));
            }
            if chars.get(at) == Some(&',') {
                at += 1;
                continue;
            }
            break;
        }
        at = skip_end(at);
        records.push(right.then_some(fields));
    }
    records
}

const PIECES: &[&str] = &[
    "\"",
    "\"\"",
    ",",
    "\n",
    "\r\n",
    "a",
    "b c",
    "é",
    "日本",
    "\"x\"",
    "\"y\nz\"",
    "\"q\"\"q\"",
    " ",
    ",",
    "1",
    "\\",
    "\"a,b\"",
    "\t",
    "'",
];

fn write(folder: &Path, text: impl AsRef<[u8]>) -> Value {
    let path = folder.join("in.csv");
    std::fs::write(&path, text).unwrap();
    json!(path)
}

#[tokio::test]
async fn csv_is_what_a_simple_parser_makes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..3_000u64 {
        let mut random = Random(seed);
        // A record of another number of fields than the job's is set aside.
        let width = 2 + random.below(2);
        let first = vec!["first"; width].join(",") + "\n";
        let rest: String = (0..random.below(16)).map(|_| PIECES[random.below(PIECES.len())]).collect();
        let text = first + &rest;
        let expected: Vec<_> = reference(&text);
        let rows: Vec<_> =
            expected.iter().filter_map(|record| record.clone().filter(|fields| fields.len() == width)).collect();
        let parameters =
            json!({"path": write(folder.path(), &text), "format": "csv", "header": false, "column": columns(width)});
        let (sink, _) = read(&parameters, 1).await.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text:?}"));
        // What is made of records of other widths depends on what the file's first rows look like: they may not be lost.
        if expected.iter().flatten().all(|fields| fields.len() == width) {
            assert_eq!(sink.rows, rows, "seed {seed}: {text:?}");
            assert_eq!(sink.rejected, expected.len() - rows.len(), "seed {seed}: {text:?}\n{:#?}", sink.reasons);
        } else {
            assert!(sink.rows.len() + sink.rejected >= expected.len(), "seed {seed}: {text:?}\n{:#?}", sink.reasons);
        }
        (right, wrong) = (right + rows.len(), wrong + sink.rejected);
    }
    assert!(right > 1_000 && wrong > 500, "{right} rows, {wrong} set aside");
}

#[tokio::test]
async fn random_bytes_are_rows_or_set_aside_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..2_000u64 {
        let mut random = Random(seed);
        let bytes: Vec<u8> = (0..random.below(120))
            .map(|_| match random.below(3) {
                0 => b"\",\n{}:[]0\\ne"[random.below(12)],
                1 => random.next() as u8,
                _ => b"abc,\n\r"[random.below(6)],
            })
            .collect();
        let format = ["csv", "jsonl", "parquet", "arrow"][random.below(4)];
        let mut parameters = json!({"path": write(folder.path(), &bytes), "format": format});
        match format {
            "csv" => {
                parameters["column"] = columns(2);
                parameters["header"] = json!(random.below(2) == 0);
                parameters["quote"] = json!(["\"", "none", "'"][random.below(3)]);
                parameters["delimiter"] = json!([",", "||", ":"][random.below(3)]);
                parameters["encoding"] = json!(["UTF-8", "GBK", "UTF-16LE", "ISO-8859-1"][random.below(4)]);
            }
            "jsonl" => parameters["column"] = json!([{"name": "a", "type": "string"}]),
            _ => {}
        }
        let task = tokio::spawn(async move { read(&parameters, 2).await.map(drop) });
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), task).await;
        let ended = ended.unwrap_or_else(|_| panic!("seed {seed}: {format} hangs: {bytes:?}"));
        let ended = ended.unwrap_or_else(|_| panic!("seed {seed}: {format} panicked: {bytes:?}"));
        if let Err(error) = ended {
            assert_ne!(error.kind(), ErrorKind::Internal, "seed {seed}: {error}: {bytes:?}");
        }
    }
}

/// A Parquet file of two row groups, with texts, numbers, times, lists and NULLs.
fn parquet(random: &mut Random) -> Vec<u8> {
    use arrow::array::*;
    use arrow::datatypes::Int32Type;
    use parquet::basic::Compression;
    use parquet::file::properties::{WriterProperties, WriterVersion};

    let rows = 40;
    let texts: StringArray = (0..rows).map(|row| (row % 5 > 0).then(|| format!("text {}", row % 7))).collect();
    let lists = (0..rows).map(|row| (row % 4 > 0).then(|| (0..row % 4).map(Some).collect::<Vec<_>>()));
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..i64::from(rows)))),
        ("text", Arc::new(texts)),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        (
            "price",
            Arc::new(
                Decimal128Array::from_iter_values((0..rows).map(i128::from)).with_precision_and_scale(30, 2).unwrap(),
            ),
        ),
        ("flag", Arc::new((0..rows).map(|row| Some(row % 3 == 0)).collect::<BooleanArray>())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let compression = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())];
    let properties = WriterProperties::builder()
        .set_compression(compression[random.below(3)])
        .set_writer_version([WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0][random.below(2)])
        .set_dictionary_enabled(random.below(2) == 0)
        .set_max_row_group_row_count(Some(25))
        .build();
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

#[tokio::test]
async fn a_parquet_file_that_lies_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..700u64 {
        let mut random = Random(seed);
        let mut file = parquet(&mut random);
        for _ in 0..random.below(4) {
            let (at, length) = (random.below(file.len()), file.len());
            match random.below(8) {
                0 => file.truncate(at),
                1 => drop(file.drain(at..length.min(at + 1 + random.below(8)))),
                2 => file[at] = 0xff,
                _ => file[at] ^= 1 << random.below(8),
            }
            if file.is_empty() {
                break;
            }
        }
        let path = folder.path().join("in.parquet");
        std::fs::write(&path, &file).unwrap();
        let parameters = json!({"path": path, "format": "parquet"});
        let task = tokio::spawn(async move { read(&parameters, 2).await });
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), task).await;
        let ended = ended.unwrap_or_else(|_| panic!("seed {seed} hangs"));
        match ended.unwrap_or_else(|_| panic!("seed {seed} panicked")) {
            Ok(_) => whole += 1,
            Err(error) => {
                refused += 1;
                assert_ne!(error.kind(), ErrorKind::Internal, "seed {seed}: {error}");
            }
        }
    }
    assert!(whole > 150 && refused > 150, "{whole} files were read, {refused} refused");
}

#[tokio::test]
async fn json_lines_are_objects_or_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = [
        "{",
        "}",
        "\"a\"",
        ":",
        "1",
        "\"x\"",
        ",",
        "null",
        "[",
        "]",
        " ",
        "{\"a\": \"v\"}",
        "{\"b\": 2}",
        "\\u00e9",
        "\"",
        "true",
        "1e999",
    ];
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..2_000u64 {
        let mut random = Random(seed);
        let lines: Vec<String> = (0..random.below(6))
            .map(|_| match random.below(3) {
                0 => (0..random.below(8)).map(|_| pieces[random.below(pieces.len())]).collect(),
                1 => json!({"a": format!("v{}", random.below(9))}).to_string(),
                _ => json!({"b": random.below(9), "a": null}).to_string(),
            })
            .collect();
        let mut text = lines.join("\n");
        if random.below(2) == 0 {
            text.push('\n');
        }
        // Only what is an object by the standard parser may become a row, and nothing else may.
        let full: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
        let objects: Vec<Value> =
            full.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(Value::is_object).collect();
        let parameters = json!({"path": write(folder.path(), &text), "format": "jsonl", "column": [{"name": "a", "type": "string"}]});
        let (sink, _) = read(&parameters, 1).await.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        assert_eq!(sink.rows.len() + sink.rejected, full.len(), "seed {seed}: {text}");
        assert!(sink.rows.len() <= objects.len(), "seed {seed}: {text}");
        let of_texts = |value: &Value| value["a"].as_str().map(str::to_owned);
        let texts: Vec<_> = objects.iter().filter_map(of_texts).collect();
        let found: Vec<_> = sink.rows.iter().filter_map(|row| row[0].clone()).collect();
        assert!(texts.iter().all(|text| found.contains(text)), "seed {seed}: {found:?} of {texts:?}\n{text}");
        (right, wrong) = (right + sink.rows.len(), wrong + sink.rejected);
    }
    assert!(right > 500 && wrong > 500, "{right} rows, {wrong} set aside");
}

/// A file of more than one split, with quoted line ends wherever a cut may want to be.
#[tokio::test]
async fn splits_of_a_file_give_the_rows_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (seed, quote) in [(1u64, "\""), (2, "none")] {
        let mut random = Random(seed);
        let mut text = String::with_capacity(36 << 20);
        let mut id = 0u64;
        while text.len() < 35 << 20 {
            let field = match (random.below(4), quote) {
                (0, "\"") => format!("\"line\n{id},\n\"\"x\"\",{}\"", "y".repeat(random.below(3_000))),
                (1, "\"") => "\",\n\"".into(),
                _ => "plain text of some length ".repeat(random.below(40)),
            };
            text += &format!("{id},{field},{}\n", id % 7);
            id += 1;
        }
        let parameters = json!({"path": write(folder.path(), &text), "format": "csv", "header": false, "quote": quote, "column": columns(3)});
        let (whole, one) = read(&parameters, 1).await.unwrap();
        let (parts, many) = read(&parameters, 8).await.unwrap();
        assert!(many > 1, "{one} and {many} splits");
        assert_eq!((whole.rejected, parts.rejected), (0, 0));
        assert_eq!(whole.rows.len() as u64, id);
        let key = |row: &Vec<Option<String>>| row[0].as_ref().unwrap().parse::<u64>().unwrap();
        assert!(whole.rows.iter().map(key).eq(0..id), "rows of the whole file are missing or doubled");
        assert!(parts.rows == whole.rows, "the splits together are not the file");
    }
}
