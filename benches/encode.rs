//! Turns sorted batches into Parquet, beside the bare writer with the same settings and with its own.

mod support;

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use stripelake::decode::schema::schema_version;
use stripelake::encode::picked::Picked;
use stripelake::encode::settings::{Sample, properties};
use stripelake::encode::{self, Notes, Options};
use stripelake::spool::sorted;

const N_CHARGES: u64 = 20_000;

fn encode(criterion: &mut Criterion) {
    let unsorted = support::batches(&support::pretty_pages(N_CHARGES), 20);
    let batches: Vec<RecordBatch> = sorted(unsorted.clone()).map(|b| b.expect("in memory")).collect();
    let schema = batches[0].schema();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(N_CHARGES));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(6)).sample_size(20);
    let rows: Vec<Picked> = batches.iter().cloned().map(Picked::from).collect();
    let sample = Sample { rows: &rows, is_all: true, n_rows_at_most: N_CHARGES };
    let same = properties(&schema, &schema_version(&schema), &sample, Options::default())
        .expect("the default level is one");
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    println!(
        "encode: {} bytes by stripelake, {} by the bare writer with the same settings, {} with its own",
        ours(&schema, &batches),
        bare(&schema, &batches, same.clone()),
        bare(&schema, &batches, defaults())
    );
    group.bench_function("stripelake", |bencher| bencher.iter(|| ours(&schema, &batches)));
    group.bench_function("stripelake on one thread", |bencher| {
        bencher.iter(|| alone.install(|| ours(&schema, &batches)));
    });
    group.bench_function("bare ArrowWriter, the same settings", |bencher| {
        bencher.iter(|| bare(&schema, &batches, same.clone()));
    });
    group.bench_function("bare ArrowWriter, its own settings", |bencher| {
        bencher.iter(|| bare(&schema, &batches, defaults()));
    });
    group.bench_function("sort by created and id", |bencher| {
        bencher.iter(|| sorted(unsorted.clone()).count());
    });
    group.finish();
}

fn ours(schema: &SchemaRef, batches: &[RecordBatch]) -> usize {
    let mut bytes = Vec::new();
    let rows = batches.iter().cloned().map(Ok);
    encode::write(&mut bytes, schema, &Notes::default(), rows, N_CHARGES, Options::default())
        .expect("a vector takes everything");
    bytes.len()
}

/// zstd 1 and the row groups of the product; dictionaries, statistics and the rest as the writer has them.
fn defaults() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level")))
        .set_max_row_group_row_count(Some(encode::ROWS_PER_GROUP))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .build()
}

/// The writer encodes column after column, on this thread.
fn bare(schema: &SchemaRef, batches: &[RecordBatch], properties: WriterProperties) -> usize {
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties)).expect("a known schema");
    for batch in batches {
        writer.write(batch).expect("a vector takes everything");
    }
    writer.close().expect("a vector takes everything");
    bytes.len()
}

criterion_group!(benches, encode);
criterion_main!(benches);
