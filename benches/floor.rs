//! Turns a gzip file into its bytes, and the pages of Parquet files into zstd: the least that an import must do.
//!
//! `cargo run --release --example floor -- inflate FILE.gz`, `libdeflate FILE.gz`, `zstd FILE.parquet...`; prints
//! the seconds of CPU that the work itself took, and the bytes that came of it. Reading the files does not count.

use std::fs::{self, File};
use std::io::{Cursor, Read};

use flate2::read::MultiGzDecoder;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// The level that the product uses.
const LEVEL: i32 = 1;
/// What the import reads at a time.
const READ: usize = 1 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (secs, n_bytes) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["inflate", file] => inflate(&fs::read(file).expect("a file")),
        ["libdeflate", file] => libdeflate(&fs::read(file).expect("a file")),
        ["zstd", files @ ..] if !files.is_empty() => zstd(files),
        _ => {
            eprintln!("expected inflate FILE.gz, libdeflate FILE.gz, or zstd FILE.parquet...");
            std::process::exit(2);
        }
    };
    println!("{secs} {n_bytes}");
}

/// Seconds that this thread has been on a core.
fn cpu_secs() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    let nanos: u64 = text.split(' ').next().and_then(|n| n.parse().ok()).expect("the first of three numbers");
    nanos as f64 / 1e9
}

fn inflate(gzip: &[u8]) -> (f64, usize) {
    let mut buffer = vec![0; READ];
    let before = cpu_secs();
    let mut decoder = MultiGzDecoder::new(Cursor::new(gzip));
    let mut n_bytes = 0;
    loop {
        match decoder.read(&mut buffer).expect("a gzip file") {
            0 => return (cpu_secs() - before, n_bytes),
            n => n_bytes += n,
        }
    }
}

/// All at once: this one does not stream.
fn libdeflate(gzip: &[u8]) -> (f64, usize) {
    let length = gzip.last_chunk().map(|bytes| u32::from_le_bytes(*bytes)).expect("a gzip file");
    let mut out = vec![1; length as usize];
    let before = cpu_secs();
    let n_bytes = libdeflater::Decompressor::new().gzip_decompress(gzip, &mut out).expect("a gzip file");
    (cpu_secs() - before, n_bytes)
}

fn zstd(files: &[&str]) -> (f64, usize) {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("1 is a level");
    let (mut secs, mut n_bytes, mut out) = (0.0, 0, Vec::new());
    for file in files {
        let reader = SerializedFileReader::new(File::open(file).expect("a file")).expect("a Parquet file");
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).expect("a row group");
            for column in 0..group.num_columns() {
                let mut pages = group.get_column_page_reader(column).expect("a column");
                while let Some(page) = pages.get_next_page().expect("a page") {
                    out.clear();
                    out.reserve(zstd::zstd_safe::compress_bound(page.buffer().len()));
                    let before = cpu_secs();
                    n_bytes += compressor.compress_to_buffer(page.buffer(), &mut out).expect("enough space");
                    secs += cpu_secs() - before;
                }
            }
        }
    }
    (secs, n_bytes)
}
