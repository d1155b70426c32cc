//! Turns charges into one Parquet file and leaves out all that can be: the least that a sync or an import costs.
//!
//! Pages are inflated, decoded and encoded as they come, by the same decoder and encoder. There is no order, no
//! partition, no merge, no look at what the pages say, no retry, and nothing is kept for a run that is killed.
//!
//! `cargo run --release --example least -- sync URL KEY OUT [PER_SECOND]`: four lists over four parts of two years.
//! `... least -- import PAGES OUT`: a file of pretty pages, plain or gzip, with one thread. Prints the charges.

mod support;

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use stripelake::decode::schema::arrow_schema;
use stripelake::decode::{Decoder, Options};
use stripelake::encode::picked::Picked;
use stripelake::encode::{self, Notes};
use tokio::time::{Instant, sleep_until};

const N_LISTS: u64 = 4;
const TWO_YEARS: u64 = 2 * 366 * 86_400;
/// The most that a page of 100 objects inflates to.
const MOST: usize = 1 << 20;
/// Decoded JSON that becomes a batch, as in the product.
const BATCH: usize = 2 << 20;
/// Read at a time.
const READ: usize = 1 << 20;

struct Least {
    client: reqwest::Client,
    url: String,
    key: String,
    /// When the next request may be sent, and how long after it the one behind.
    due: Mutex<Instant>,
    apart: Duration,
    batches: Mutex<Vec<RecordBatch>>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let n_charges = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["sync", url, key, out] => sync(url, key, out, None),
        ["sync", url, key, out, rate] => sync(url, key, out, Some(rate.parse().expect("a number"))),
        ["import", pages, out] => import(pages, out),
        _ => {
            eprintln!("expected sync URL KEY OUT [PER_SECOND], or import PAGES OUT");
            std::process::exit(2);
        }
    };
    println!("{n_charges}");
}

#[tokio::main]
async fn sync(url: &str, key: &str, out: &str, per_second: Option<f64>) -> usize {
    let least = Arc::new(Least {
        client: reqwest::Client::new(),
        url: url.to_owned(),
        key: key.to_owned(),
        due: Mutex::new(Instant::now()),
        apart: per_second.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate)),
        batches: Mutex::default(),
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let begin = |part: u64| now + 86_400 - TWO_YEARS / N_LISTS * (N_LISTS - part);
    let lists: Vec<_> = (0..N_LISTS)
        .map(|part| {
            tokio::spawn(list(least.clone(), if part == 0 { 0 } else { begin(part) }, begin(part + 1)))
        })
        .collect();
    let mut n_charges = 0;
    for list in lists {
        n_charges += list.await.expect("a list to its end");
    }
    write(out, std::mem::take(&mut *least.batches.lock().expect("no panic")));
    n_charges
}

fn import(pages: &str, out: &str) -> usize {
    let file = File::open(pages).expect("a file");
    let mut file: Box<dyn Read> = match pages.ends_with(".gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut decoder = Decoder::new(&support::charges(), &[], Options::default());
    let mut batches = Vec::new();
    let (mut buffer, mut n_bytes, mut n_charges) = (vec![0; 2 * READ], 0, 0);
    loop {
        let n_read = file.read(&mut buffer[n_bytes..]).expect("a file");
        n_bytes += n_read;
        let mut at = 0;
        // Nothing within a pretty page begins in its first column.
        while let Some(end) = memchr::memmem::find(&buffer[at..n_bytes], b"\n}") {
            n_charges += decoder.push_page(&buffer[at..at + end + 2], 0).expect("a page").n_rows;
            at += end + 2;
        }
        buffer.copy_within(at..n_bytes, 0);
        n_bytes -= at;
        if n_read == 0 || decoder.n_bytes() >= BATCH {
            batches.extend(flush(&mut decoder));
        }
        if n_read == 0 {
            write(out, batches);
            return n_charges;
        }
    }
}

/// In the order in which they came; the product's own encoder, which is faster than the bare writer by its defaults.
fn write(out: &str, batches: Vec<RecordBatch>) {
    let rows_of = |(n, batch): (usize, &RecordBatch)| (0..batch.num_rows()).map(move |row| (n, row));
    let rows: Vec<(usize, usize)> = batches.iter().enumerate().flat_map(rows_of).collect();
    let (n_rows, schema) = (rows.len() as u64, arrow_schema(&support::charges()));
    let file = File::create(out).expect("a file");
    let rows = std::iter::once(Ok(Picked::new(batches, rows)));
    encode::write(file, &schema, &Notes::default(), rows, n_rows, encode::Options::default())
        .expect("a file");
}

/// Reads one list to its end; returns its charges.
async fn list(least: Arc<Least>, from: u64, to: u64) -> usize {
    let mut decoder = Decoder::new(&support::charges(), &[], Options::default());
    let mut inflater = libdeflater::Decompressor::new();
    let mut body = vec![0; MOST];
    let (mut after, mut n_charges) = (String::new(), 0);
    loop {
        least.wait().await;
        let url = format!("{}/v1/charges?limit=100&created[gte]={from}&created[lt]={to}{after}", least.url);
        let request = least.client.get(url).bearer_auth(&least.key).header("accept-encoding", "gzip");
        let gzip = request.send().await.expect("an answer").bytes().await.expect("a body");
        let length = inflater.gzip_decompress(&gzip, &mut body).expect("gzip");
        n_charges += decoder.push_page(&body[..length], 0).expect("a page").n_rows;
        let frame = decoder.take_frame().expect("a usual page");
        if !frame.has_more || decoder.n_bytes() >= BATCH {
            least.batches.lock().expect("no panic").extend(flush(&mut decoder));
        }
        match frame.ids.last() {
            Some(last) if frame.has_more => after = format!("&starting_after={last}"),
            _ => return n_charges,
        }
    }
}

impl Least {
    async fn wait(&self) {
        let due = {
            let mut due = self.due.lock().expect("no panic");
            let now = (*due).max(Instant::now());
            *due = now + self.apart;
            now
        };
        if !self.apart.is_zero() {
            sleep_until(due).await;
        }
    }
}

fn flush(decoder: &mut Decoder) -> Option<RecordBatch> {
    let rows = decoder.flush().parent?;
    // Without the column that is there in memory only.
    let columns: Vec<usize> = (0..rows.num_columns() - 1).collect();
    Some(rows.project(&columns).expect("fewer columns"))
}
