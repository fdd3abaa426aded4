//! Nanoseconds per cell and gigabytes per second of every decoder and encoder, and of a copy of the same bytes.
//!
//! Each is run for a while; the fastest round counts, for whatever else the machine does only slows.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use weir_benches::{KINDS, Kind, ROWS, batch};
use weir_postgresql::PgType;
use weir_postgresql::copy::encode::Format;
use weir_postgresql::copy::{Decoder, Encoder};

/// How long one of them is measured.
const WHILE: Duration = Duration::from_millis(500);

/// Runs `work` on `bytes` bytes that hold a batch's cells, and prints a line of the table.
fn measure(what: &str, kind: Kind, bytes: usize, mut work: impl FnMut()) {
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    while begun.elapsed() < WHILE {
        let round = Instant::now();
        work();
        best = best.min(round.elapsed());
    }
    let nanos = best.as_nanos().max(1) as f64;
    println!("| {what} | {} | {:.1} | {:.2} |", kind.name, nanos / ROWS as f64, bytes as f64 / nanos);
}

fn postgresql() {
    for kind in KINDS {
        let batch = batch(kind);
        let schema = batch.schema();
        let pg = PgType::parse(kind.postgresql).unwrap();
        let columns = [(schema.field(0), &pg)];
        let mut stream = Vec::new();
        let mut encoder = Encoder::new(&columns, Format::Binary, None).unwrap();
        encoder.encode(&batch, &mut stream).unwrap();
        let bytes = stream.len();
        measure("COPY binary, encoded", kind, bytes, || {
            encoder.encode(&batch, &mut stream).unwrap();
        });
        measure("COPY binary, decoded", kind, bytes, || {
            let mut decoder = Decoder::new(schema.clone(), std::slice::from_ref(&pg)).unwrap();
            stream.chunks(64 << 10).for_each(|piece| decoder.push(piece).unwrap());
            decoder.finish().unwrap();
            assert_eq!(decoder.take_ready().map(|d| d.batch.num_rows()).sum::<usize>(), ROWS);
        });
        let mut copy = Vec::with_capacity(bytes);
        measure("COPY binary, copied", kind, bytes, || {
            copy.clear();
            copy.extend_from_slice(std::hint::black_box(&stream));
        });
    }
}

fn mysql() {
    for kind in KINDS {
        let batch = batch(kind);
        let lines = weir_writer_mysql::bench::load_lines(&batch, kind.mysql).unwrap();
        measure("LOAD DATA, encoded", kind, lines.len(), || {
            weir_writer_mysql::bench::load_lines(std::hint::black_box(&batch), kind.mysql).unwrap();
        });
        // The text protocol's cells are the lines' without what is between them.
        let mut spans = Vec::new();
        let mut start = 0;
        for line in lines.split_inclusive(|b| *b == b'\n') {
            spans.push(weir_mysql::wire::Span { start, length: line.len() as u32 - 1 });
            start += line.len() as u32;
        }
        measure("MySQL rows, decoded", kind, lines.len(), || {
            let column = weir_reader_mysql::bench::decode(kind.mysql, std::hint::black_box(&lines), &spans).unwrap();
            assert_eq!(column.len(), ROWS);
        });
    }
}

fn parquet() {
    for kind in KINDS {
        let batch = batch(kind);
        let bytes = batch.get_array_memory_size();
        measure("Parquet, encoded", kind, bytes, || {
            weir_writer_files::bench::parquet(std::hint::black_box(&batch)).unwrap();
        });
    }
}

fn main() {
    println!("| what | cells | ns per cell | GB/s |\n|-|-|-|-|");
    postgresql();
    mysql();
    parquet();
}
