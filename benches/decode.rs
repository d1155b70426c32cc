//! Turns pages of charges into batches, beside the usual ways to do it.

#[path = "support/arrow_json_decoder.rs"]
mod arrow_json_decoder;
mod support;
#[path = "support/value_decoder.rs"]
mod value_decoder;

use std::hint::black_box;
use std::time::Duration;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use serde_json::Value;
use stripelake::decode::{Decoder, Options, Path};

/// About one flush of the product.
const N_CHARGES: u64 = 2_000;

fn decode(criterion: &mut Criterion) {
    let pretty = support::pretty_pages(N_CHARGES);
    let compact = support::compact_pages(&pretty);
    let shuffled = support::shuffled_pages(&pretty);
    for (form, pages) in [("pretty", pretty), ("compact", compact), ("keys shuffled", shuffled)] {
        let mut group = criterion.benchmark_group(format!("decode/{form}"));
        let bytes = pages.iter().map(|page| page.len() as u64).sum();
        group.throughput(Throughput::ElementsAndBytes { elements: N_CHARGES, bytes });
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4)).sample_size(20);
        ours(&mut group, &pages);
        rivals(&mut group, &pages);
        group.finish();
    }
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, pages: &[Vec<u8>]) {
    let resource = support::charges();
    for (name, path) in [("stripelake", Path::Fast), ("stripelake's plain decoder", Path::Plain)] {
        let mut decoder = Decoder::new(&resource, &[], Options { path, ..Options::default() });
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for page in pages {
                    decoder.push_page(black_box(page), 1).expect("the fake sends proper pages");
                }
                decoder.flush()
            });
        });
    }
}

fn rivals(group: &mut BenchmarkGroup<'_, WallTime>, pages: &[Vec<u8>]) {
    let resource = support::charges();
    let mut decoder = value_decoder::ValueDecoder::new(&resource);
    group.bench_function("serde_json::Value and builders", |bencher| {
        bencher.iter(|| {
            pages.iter().for_each(|page| decoder.push_page(black_box(page)));
            decoder.flush()
        });
    });
    group.bench_function("serde_json::Value alone", |bencher| {
        bencher.iter(|| {
            for page in pages {
                black_box(serde_json::from_slice::<Value>(page).expect("pages are JSON"));
            }
        });
    });
    let objects = objects(pages);
    let schema = arrow_json_decoder::nested_schema(&resource);
    let reader = arrow_json::ReaderBuilder::new(schema).with_batch_size(N_CHARGES as usize);
    let mut decoder = reader.build_decoder().expect("the schema is one that arrow-json reads");
    group.bench_function("arrow-json", |bencher| {
        bencher.iter(|| {
            for objects in &objects {
                let n = decoder.decode(black_box(objects)).expect("the fake sends proper objects");
                assert_eq!(n, objects.len());
            }
            decoder.flush().expect("the objects fit the schema")
        });
    });
}

/// The objects of each page as they stand in it, one after the other.
fn objects(pages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        data: Vec<&'a serde_json::value::RawValue>,
    }
    let texts = pages.iter().map(|page| {
        let page: Page = serde_json::from_slice(page).expect("pages are JSON");
        page.data.iter().map(|raw| raw.get()).collect::<Vec<_>>().join("\n").into_bytes()
    });
    texts.collect()
}

criterion_group!(benches, decode);
criterion_main!(benches);
