//! Turns pages into batches with every decoder that there is; all of them must pass the same tests.

use std::sync::Arc;

use stripelake::catalog::Resource;
use stripelake::decode::{Decoded, Decoder, Options, PageError, Path, Pushed};

use crate::objects::Page;

/// Makes a decoder for a resource and its child tables.
pub type Make = fn(&Arc<Resource>, &[Arc<Resource>], Options) -> Decoder;

/// Every decoder. The first is the oracle of the others.
pub const DECODERS: &[(&str, Make)] = &[("plain", plain), ("fast", fast)];

fn plain(resource: &Arc<Resource>, children: &[Arc<Resource>], options: Options) -> Decoder {
    Decoder::new(resource, children, Options { path: Path::Plain, ..options })
}

fn fast(resource: &Arc<Resource>, children: &[Arc<Resource>], options: Options) -> Decoder {
    Decoder::new(resource, children, Options { path: Path::Fast, ..options })
}

/// When the test's pages were observed, in microseconds.
pub const OBSERVED_AT: i64 = 1_795_392_000_000_001;

/// Runs a check with each decoder. A failure says which one it was.
pub fn for_each_decoder(check: impl Fn(Make)) {
    for (name, make) in DECODERS {
        let guard = Named(name);
        check(*make);
        drop(guard);
    }
}

struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with the decoder \"{}\":", self.0);
        }
    }
}

/// Decodes one list page.
pub fn decode(make: Make, page: &Page, body: &[u8]) -> Result<(Pushed, Decoded), PageError> {
    let mut decoder = make(&page.resource, &page.children, Options::default());
    let pushed = decoder.push_page(body, OBSERVED_AT)?;
    Ok((pushed, decoder.flush()))
}

/// Decodes one list page of which every object is a row.
pub fn decode_all(make: Make, page: &Page, body: &str) -> Decoded {
    let (pushed, decoded) = decode(make, page, body.as_bytes()).unwrap();
    assert_eq!(pushed.rejected, vec![]);
    assert_eq!(pushed.n_rows, page.objects.len());
    decoded
}
