//! Nanoseconds the wire gate takes per request: `cargo bench --bench gate`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use portcullis::server::gate::{Gate, GateLimits};

const BROWSER: &[u8] = b"GET /products/42?color=red&size=l HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml\r\n\
    Accept-Language: en\r\n\
    Accept-Encoding: gzip, br\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef012345\r\n\r\n";
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

fn main() {
    let chunk = [b"4000\r\n", &[b'x'; 0x4000][..], b"\r\n0\r\n\r\n"].concat();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = [&head[..], &chunk].concat();
    measure("head", BROWSER, BROWSER.len());
    measure("small head", SMALL, SMALL.len());
    measure("head in two reads", BROWSER, BROWSER.len() / 2 + 1);
    measure("16 KiB chunk", &chunked, chunked.len());
}

/// Prints the best of ten rounds: the others measure the machine.
fn measure(name: &str, request: &[u8], read: usize) {
    const REQUESTS: u32 = 200_000;
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let mut gate = Gate::new(GateLimits::default());
        let start = Instant::now();
        for _ in 0..REQUESTS {
            for piece in request.chunks(read) {
                black_box(gate.inspect(black_box(piece)));
            }
        }
        best = best.min(start.elapsed());
        assert_eq!(gate.heads(), u64::from(REQUESTS));
    }
    let nanos = best.as_nanos() as f64 / f64::from(REQUESTS);
    println!("{name:<20} {:>6} bytes {nanos:>8.1} ns", request.len());
}
