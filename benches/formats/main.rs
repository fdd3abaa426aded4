//! Every decoder and encoder, and a copy of the same bytes, measured by criterion.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::{KINDS, Kind, ROWS, batch};
use weir_postgresql::PgType;
use weir_postgresql::copy::encode::Format;
use weir_postgresql::copy::{Decoder, Encoder};

/// Runs `work` on `bytes` bytes that hold a batch's cells: criterion's elements are cells.
fn measure(criterion: &mut Criterion, what: &str, kind: Kind, bytes: usize, mut work: impl FnMut()) {
    let mut group = criterion.benchmark_group(what);
    group.throughput(Throughput::ElementsAndBytes { elements: ROWS as u64, bytes: bytes as u64 });
    group.bench_function(kind.name, |bencher| bencher.iter(&mut work));
}

fn postgresql(criterion: &mut Criterion) {
    for kind in KINDS {
        let batch = batch(kind);
        let schema = batch.schema();
        let pg = PgType::parse(kind.postgresql).unwrap();
        let columns = [(schema.field(0), &pg)];
        let mut stream = Vec::new();
        let mut encoder = Encoder::new(&columns, Format::Binary, None).unwrap();
        encoder.encode(&batch, &mut stream).unwrap();
        let bytes = stream.len();
        measure(criterion, "COPY binary, encoded", kind, bytes, || {
            encoder.encode(&batch, &mut stream).unwrap();
        });
        measure(criterion, "COPY binary, decoded", kind, bytes, || {
            let mut decoder = Decoder::new(schema.clone(), std::slice::from_ref(&pg)).unwrap();
            stream.chunks(64 << 10).for_each(|piece| decoder.push(piece).unwrap());
            decoder.finish().unwrap();
            assert_eq!(decoder.take_ready().map(|d| d.batch.num_rows()).sum::<usize>(), ROWS);
        });
        let mut copy = Vec::with_capacity(bytes);
        measure(criterion, "COPY binary, copied", kind, bytes, || {
            copy.clear();
            copy.extend_from_slice(black_box(&stream));
        });
    }
}

fn mysql(criterion: &mut Criterion) {
    for kind in KINDS {
        let batch = batch(kind);
        let lines = weir_writer_mysql::bench::load_lines(&batch, kind.mysql).unwrap();
        measure(criterion, "LOAD DATA, encoded", kind, lines.len(), || {
            weir_writer_mysql::bench::load_lines(black_box(&batch), kind.mysql).unwrap();
        });
        // The text protocol's cells are the lines' without what is between them.
        let mut spans = Vec::new();
        let mut start = 0;
        for line in lines.split_inclusive(|b| *b == b'\n') {
            spans.push(weir_mysql::wire::Span { start, length: line.len() as u32 - 1 });
            start += line.len() as u32;
        }
        measure(criterion, "MySQL rows, decoded", kind, lines.len(), || {
            let column = weir_reader_mysql::bench::decode(kind.mysql, black_box(&lines), &spans).unwrap();
            assert_eq!(column.len(), ROWS);
        });
    }
}

fn parquet(criterion: &mut Criterion) {
    for kind in KINDS {
        let batch = batch(kind);
        let bytes = batch.get_array_memory_size();
        measure(criterion, "Parquet, encoded", kind, bytes, || {
            weir_writer_files::bench::parquet(black_box(&batch)).unwrap();
        });
    }
}

criterion_group!(formats, postgresql, mysql, parquet);
criterion_main!(formats);
