//! The shop over real sockets, with a client that sends and reads bytes as they are.

mod configuration;
mod frames;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value;

use super::plan::{PLANS, Pace};
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn shop() -> Shop {
    Shop::start(ShopOptions::default()).expect("the shop opens on free ports")
}

/// A connection to the first endpoint of a service.
fn connect(shop: &Shop, service: &str) -> BufReader<TcpStream> {
    let service = shop.services().iter().find(|s| s.name == service).expect("a service");
    dial(service.endpoints[0].address)
}

fn dial(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    BufReader::new(stream)
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

fn read_head(connection: &mut BufReader<TcpStream>) -> Reply {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(connection.read_line(&mut head).expect("a line of the head"), 0, "{head:?}");
    }
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Reply { status, head, body: Vec::new() }
}

/// Sends `request` as it is and reads a response with a Content-Length.
fn send(connection: &mut BufReader<TcpStream>, request: &str) -> Reply {
    connection.get_mut().write_all(request.as_bytes()).expect("the request is taken");
    let mut reply = read_head(connection);
    let length = reply.header("content-length").map_or(0, |n| n.parse().expect("a length"));
    if !request.starts_with("HEAD ") {
        reply.body.resize(length, 0);
        connection.read_exact(&mut reply.body).expect("the whole body");
    }
    reply
}

fn call(shop: &Shop, service: &str, line: &str, headers: &str, body: &str) -> Reply {
    let length = match body.is_empty() {
        true => String::new(),
        false => format!("Content-Length: {}\r\n", body.len()),
    };
    let request = format!("{line} HTTP/1.1\r\nHost: shop\r\n{headers}{length}\r\n{body}");
    send(&mut connect(shop, service), &request)
}

fn get(shop: &Shop, service: &str, path: &str) -> Reply {
    call(shop, service, &format!("GET {path}"), "", "")
}

#[test]
fn every_endpoint_answers_for_itself_and_says_so() {
    let shop = shop();
    assert_eq!(shop.services().len(), PLANS.len());
    for service in shop.services() {
        assert!(service.endpoints.len() >= 2, "{} has several endpoints", service.name);
        for endpoint in &service.endpoints {
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: shop\r\nAccept: text/html\r\n\r\n",
                service.paths[0]
            );
            let started = Instant::now();
            let reply = send(&mut dial(endpoint.address), &request);
            assert!(started.elapsed() >= endpoint.speed.0, "{} takes its time", endpoint.name);
            assert_eq!(reply.status, 200, "{} {}", endpoint.name, reply.head);
            assert_eq!(reply.header("x-endpoint"), Some(&*endpoint.name));
            assert!(reply.text().contains(&*endpoint.name), "{}", reply.text());
        }
    }
}

#[test]
fn the_storefront_shows_products_ratings_and_nothing_from_elsewhere() {
    let shop = shop();
    let page = get(&shop, "storefront", "/");
    for product in &catalog::PRODUCTS {
        assert!(page.text().contains(&page::escape(product.name)), "{} is shown", product.name);
    }
    assert!(page.text().contains("★★★★★"), "a rating out of the reviews");
    assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    assert_eq!(get(&shop, "storefront", "/nothing").status, 404);
    let next = get(&shop, "storefront-next", "/");
    assert!(next.text().contains("the new storefront"));
}

#[test]
fn the_catalog_speaks_json_or_html_and_names_endpoint_and_request() {
    let shop = shop();
    let all = get(&shop, "catalog", "/products").json();
    assert_eq!(all["products"].as_array().map(Vec::len), Some(catalog::PRODUCTS.len()));
    assert_eq!(all["endpoint"], "catalog-1");

    let found = get(&shop, "catalog", "/products?q=lan%74ern").json();
    assert_eq!(found["products"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["products"][0]["id"], "storm-lantern");

    let one = call(&shop, "catalog", "GET /products/brass-key", "X-Request-ID: r-1\r\n", "").json();
    assert_eq!(one["request_id"], "r-1");
    assert_eq!(one["price_cents"], 1250);

    let browser = "Accept: text/html,application/json;q=0.9\r\n";
    let page = call(&shop, "catalog", "GET /products/brass-key", browser, "");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let api = "Accept: text/html;q=0.1, application/json\r\n";
    let reply = call(&shop, "catalog", "GET /products/brass-key", api, "");
    assert_eq!(reply.header("content-type"), Some("application/json"));

    assert_eq!(get(&shop, "catalog", "/products/none").status, 404);
    assert_eq!(get(&shop, "catalog", "/products/brass-key/x").status, 404);
    assert_eq!(get(&shop, "catalog", "/productsx").status, 404);
    let post = call(&shop, "catalog", "POST /products", "", "{}");
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn a_cart_follows_its_cookie_and_becomes_an_order() {
    let shop = shop();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let first = call(&shop, "cart", "POST /cart", form, "product=brass-key&quantity=2");
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["total_cents"], 2500);
    let cookie = first.header("set-cookie").expect("a cookie").split(';').next().expect("a pair");
    let cookie = format!("Cookie: other=1; {cookie}\r\n");

    // Another endpoint of the service knows the cart too.
    let second = &shop.services().iter().find(|s| s.name == "cart").expect("cart").endpoints[1];
    let body = r#"{"product":"oak-door"}"#;
    let request = format!(
        "POST /cart HTTP/1.1\r\nHost: shop\r\n{cookie}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let grown = send(&mut dial(second.address), &request);
    assert_eq!(grown.header("set-cookie"), None, "the cart has its cookie already");
    assert_eq!(grown.json()["total_cents"], 2500 + 34900);

    assert_eq!(call(&shop, "cart", "DELETE /cart/oak-door", &cookie, "").status, 204);
    assert_eq!(call(&shop, "cart", "DELETE /cart/oak-door", &cookie, "").status, 404);
    assert_eq!(get(&shop, "cart", "/cart").json()["total_cents"], 0, "a stranger sees nothing");

    let order = call(&shop, "orders", "POST /orders", &cookie, "");
    assert_eq!(order.status, 201);
    let location = order.header("location").expect("a location").to_owned();
    assert_eq!(get(&shop, "orders", &location).json()["total_cents"], 2500);
    assert_eq!(call(&shop, "cart", "GET /cart", &cookie, "").json()["total_cents"], 0);
    assert_eq!(call(&shop, "orders", "POST /orders", &cookie, "").status, 422);
    let list = get(&shop, "orders", "/orders").json();
    assert_eq!(list["orders"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(&shop, "orders", "/orders/77").status, 404);
}

#[test]
fn a_browser_is_sent_on_after_a_form_and_a_cart_can_be_emptied() {
    let shop = shop();
    let form = "Accept: text/html\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let added = call(&shop, "cart", "POST /cart", form, "product=brass-key");
    assert_eq!((added.status, added.header("location")), (303, Some("/cart")));
    let cookie = added.header("set-cookie").expect("a cookie").split(';').next().expect("a pair");
    let cookie = format!("Accept: text/html\r\nCookie: {cookie}\r\n");
    assert!(call(&shop, "cart", "GET /cart", &cookie, "").text().contains("Brass key"));
    let home = call(&shop, "storefront", "GET /", &cookie, "");
    assert!(home.text().contains("Your cart holds 1."));
    assert_eq!(call(&shop, "cart", "DELETE /cart", &cookie, "").status, 204);
    assert!(call(&shop, "cart", "GET /cart", &cookie, "").text().contains("empty"));

    let chosen = format!("{form}Cookie: shop_cart=mine\r\n");
    let added = call(&shop, "cart", "POST /cart", &chosen, "product=brass-key");
    assert!(added.header("set-cookie").is_some(), "an id the shop did not make is not taken");
}

#[test]
fn unfit_carts_orders_and_reviews_are_refused_in_words() {
    let shop = shop();
    let cases = [
        ("cart", "POST /cart", "not json", 400),
        ("cart", "POST /cart", "[]", 400),
        ("cart", "POST /cart", r#"{"product":"unicorn"}"#, 422),
        ("cart", "POST /cart", r#"{"product":"brass-key","quantity":0}"#, 422),
        ("cart", "POST /cart", r#"{"product":"brass-key","quantity":-1}"#, 422),
        ("cart", "POST /cart", r#"{"product":"brass-key","quantity":1e30}"#, 422),
        ("cart", "POST /cart/brass-key", r#"{"product":"brass-key"}"#, 405),
        ("orders", "POST /orders", r#"{"lines":3}"#, 400),
        ("orders", "POST /orders", r#"{"lines":[]}"#, 422),
        ("orders", "POST /orders", r#"{"lines":[{"product":"unicorn"}]}"#, 422),
        ("orders", "POST /orders/1", "{}", 405),
        ("orders", "DELETE /orders/1", "", 405),
        ("reviews", "POST /reviews", r#"{"product":"brass-key","stars":6,"text":"x"}"#, 422),
        ("reviews", "POST /reviews", r#"{"product":"brass-key","stars":5,"text":" "}"#, 422),
        ("reviews", "POST /reviews/live", "{}", 405),
        ("storefront", "BREW /", "", 405),
    ];
    for (service, line, body, status) in cases {
        let reply = call(&shop, service, line, "", body);
        assert_eq!(reply.status, status, "{line} {body}: {}", reply.text());
        assert!(reply.json()["error"].as_str().is_some_and(|e| !e.is_empty()));
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body_on_a_kept_connection() {
    let shop = shop();
    for service in shop.services().iter().filter(|s| s.name != "support") {
        let path = service.paths[0];
        let mut connection = connect(&shop, service.name);
        let head = send(&mut connection, &format!("HEAD {path} HTTP/1.1\r\nHost: shop\r\n\r\n"));
        // Were a body sent, the next response would not begin where this one ends.
        let got = send(&mut connection, &format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n"));
        assert_eq!((head.status, got.status), (200, 200), "{path}");
        assert_eq!(head.header("content-length"), Some(&*got.body.len().to_string()), "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
    }
    let options = call(&shop, "cart", "OPTIONS /cart", "", "");
    assert_eq!(options.status, 204);
    assert_eq!(options.header("allow"), Some("GET, HEAD, POST, DELETE, OPTIONS"));
    assert_eq!(get(&shop, "orders", "/healthz").status, 200);
}

#[test]
fn a_new_review_is_listed_and_streamed_at_once() {
    let shop = shop();
    let mut live = connect(&shop, "reviews");
    let request = "GET /reviews/live HTTP/1.1\r\nHost: shop\r\n\r\n";
    live.get_mut().write_all(request.as_bytes()).expect("the request is taken");
    let head = read_head(&mut live);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    // Once the first event is here, the stream listens.
    let mut seen = String::new();
    read_until(&mut live, &mut seen, "event: again");

    let body = r#"{"product":"moat-gauge","stars":1,"text":"<b>leaks</b>"}"#;
    let made = call(&shop, "reviews", "POST /reviews", "", body);
    assert_eq!(made.status, 201, "{}", made.text());
    read_until(&mut live, &mut seen, "event: new");
    read_until(&mut live, &mut seen, r#""text":"<b>leaks</b>","endpoint":"reviews-1"}"#);

    let location = made.header("location").expect("a location").to_owned();
    assert_eq!(get(&shop, "reviews", &location).json()["stars"], 1);
    let listed = get(&shop, "reviews", "/reviews?product=moat-gauge").json();
    assert_eq!(listed["reviews"][0]["text"], "<b>leaks</b>");
    let page = call(&shop, "reviews", "GET /reviews", "Accept: text/html\r\n", "");
    assert!(page.text().contains("&lt;b&gt;leaks"), "what visitors write is escaped");
    assert_eq!(call(&shop, "reviews", "HEAD /reviews/live", "", "").status, 200);
}

fn read_until(connection: &mut BufReader<TcpStream>, seen: &mut String, text: &str) {
    let deadline = Instant::now() + DEADLINE;
    let from = seen.len();
    while !seen[from..].contains(text) {
        assert!(Instant::now() < deadline, "{text:?} did not come: {seen}");
        assert_ne!(connection.read_line(seen).expect("the stream goes on"), 0, "{seen}");
    }
}

const HANDSHAKE: &str = "GET /support HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// A masked frame, as clients send them.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

/// A frame as the server sends it: first byte and payload.
fn read_frame(connection: &mut BufReader<TcpStream>) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    connection.read_exact(&mut head).expect("a frame");
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            connection.read_exact(&mut length).expect("a length");
            u16::from_be_bytes(length).into()
        }
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    connection.read_exact(&mut payload).expect("a payload");
    (head[0], payload)
}

fn enter(shop: &Shop) -> BufReader<TcpStream> {
    let mut connection = connect(shop, "support");
    let reply = send(&mut connection, HANDSHAKE);
    assert_eq!(reply.status, 101);
    // The example of RFC 6455 §1.3.
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let (first, welcome) = read_frame(&mut connection);
    assert_eq!(first, 0x81);
    assert!(String::from_utf8_lossy(&welcome).contains("welcome"));
    connection
}

#[test]
fn a_websocket_echoes_chats_pongs_and_closes() {
    let shop = shop();
    let (mut one, mut two) = (enter(&shop), enter(&shop));
    let mut say = |frame: Vec<u8>| one.get_mut().write_all(&frame).expect("taken");
    // A text in two fragments with a ping between them.
    say(masked(0x01, b"hel"));
    say(masked(0x89, b"p"));
    say(masked(0x80, b"lo"));
    say(masked(0x82, &[7; 300]));
    let mut frames = [read_frame(&mut one), read_frame(&mut one), read_frame(&mut one)];
    // Text goes around through the room and may come after the binary echo.
    frames.sort();
    let [text, binary, pong] = frames;
    assert_eq!(pong, (0x8a, b"p".to_vec()));
    assert_eq!(binary, (0x82, vec![7; 300]));
    let text: Value = serde_json::from_slice(&text.1).expect("JSON");
    assert_eq!((&text["text"], &text["endpoint"]), (&"hello".into(), &"support-1".into()));

    let heard: Value = serde_json::from_slice(&read_frame(&mut two).1).expect("JSON");
    assert_eq!(heard["text"], "hello", "everyone in the room hears it");

    one.get_mut().write_all(&masked(0x88, &1000u16.to_be_bytes())).expect("taken");
    assert_eq!(read_frame(&mut one), (0x88, 1000u16.to_be_bytes().to_vec()));
    assert_eq!(one.read(&mut [0]).expect("the end"), 0);

    // Unmasked: a violation.
    two.get_mut().write_all(&[0x81, 0x01, b'x']).expect("taken");
    assert_eq!(read_frame(&mut two), (0x88, 1002u16.to_be_bytes().to_vec()));
}

#[test]
fn a_broken_handshake_is_refused_and_says_what_is_wanted() {
    let shop = shop();
    let plain = get(&shop, "support", "/support");
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));
    let cases = [
        ("Version: 13", "Version: 8", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 400),
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
    ];
    for (from, to, status) in cases {
        let mut connection = connect(&shop, "support");
        assert_eq!(send(&mut connection, &HANDSHAKE.replace(from, to)).status, status, "{to}");
    }
}

#[test]
fn garbage_hurts_nobody() {
    let shop = shop();
    let large = "x".repeat(200_000);
    let chunked = "POST /cart HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let garbage = [
        "\0\u{1}\u{2}\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /{large} HTTP/1.1\r\nHost: s\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: s\r\nX: {large}\r\n\r\n"),
        "POST /cart HTTP/1.1\r\nHost: s\r\nContent-Length: x\r\n\r\n".to_owned(),
        chunked.to_owned(),
        "GET /cart?%ff%00=%zz HTTP/1.1\r\nHost: s\r\nCookie: \u{ff};;==\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    for service in shop.services() {
        for bytes in &garbage {
            let mut connection = connect(&shop, service.name);
            // The shop may answer and close before it has read everything.
            let _ = connection.get_mut().write_all(bytes.as_bytes());
            let _ = connection.get_mut().shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            match connection.read_to_end(&mut answer) {
                Ok(_) => assert!(!answer.starts_with(b"HTTP/1.1 5"), "{answer:?}"),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            }
        }
        assert_eq!(get(&shop, service.name, "/healthz").status, 200);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_with_413() {
    let shop = shop();
    for head in [
        "Content-Length: 70000\r\n\r\n".to_owned(),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", 70_000),
    ] {
        let mut connection = connect(&shop, "cart");
        let mut request = format!("POST /cart HTTP/1.1\r\nHost: s\r\n{head}").into_bytes();
        request.resize(request.len() + 66_000, b'x');
        let _ = connection.get_mut().write_all(&request);
        assert_eq!(read_head(&mut connection).status, 413);
    }
}

#[test]
fn a_closed_shop_gives_its_ports_back() {
    // An address of this process alone: nobody else takes the ports when they are free.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let options = ShopOptions { address: [127, 77, high, low].into(), ..ShopOptions::default() };
    let shop = Shop::start(options).expect("the shop opens on free ports");
    let mut idle = connect(&shop, "cart");
    let address = shop.services()[0].endpoints[0].address;
    drop(shop);
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "open connections end");
    assert!(TcpStream::connect_timeout(&address, DEADLINE).is_err(), "nobody listens any more");
}

proptest! {
    #[test]
    fn a_pace_stays_within_its_bounds(seed: u64) {
        for speed in PLANS.iter().flat_map(|plan| plan.endpoints) {
            let drawn = Pace::new(*speed, seed).draw().as_secs_f64() * 1000.0;
            let (base, most) = (f64::from(speed.base), f64::from(speed.base + speed.jitter));
            prop_assert!((base..=most).contains(&drawn), "{drawn} in {base}..={most}");
        }
    }
}
