//! Lines as a reader of the log sees them, and targets that misbehave.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Instant, UNIX_EPOCH};

use http::{Method, Version};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::ir::AccessLogFormat;
use crate::telemetry::{GrpcCode, Reason};

const W0: WorkerId = WorkerId(0);
const LIMIT: Duration = Duration::from_secs(20);

fn begun(text: &RecordText<'_>) -> Record {
    // 2026-11-22T17:27:32.123Z
    let start = UNIX_EPOCH + Duration::from_millis(1_795_368_452_123);
    let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 51000));
    Record::new(start, peer, "web".into(), Method::GET, Version::HTTP_11, text)
}

fn full() -> Record {
    let mut record = begun(&RecordText {
        host: b"shop.example.com",
        path: b"/cart",
        query: Some(b"item=7"),
        request_id: b"0123abcd",
        user_agent: Some(b"curl/8"),
        referer: Some(b"https://shop.example.com/"),
    });
    record.scheme = "https";
    record.status = 502;
    record.grpc_status = Some(GrpcCode::of(b"14"));
    record.reason = Reason::UpstreamReset;
    record.request_bytes = 12;
    record.response_bytes = 345;
    record.duration = Duration::from_micros(12_034);
    record.route = Some("shop/cart".into());
    record.upstream = Some("cart".into());
    record.endpoint = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)));
    record.attempts = 2;
    record.connect = Some(Duration::from_micros(250));
    record.upstream_head = Some(Duration::from_millis(11));
    record.tls_version = Some("TLSv1.3");
    record.server_name = Some("shop.example.com".into());
    record
}

fn bare() -> Record {
    begun(&RecordText { path: b"/", ..RecordText::default() })
}

/// A record whose line is `path` with the template `{path}`.
fn numbered(number: usize) -> Record {
    begun(&RecordText { path: number.to_string().as_bytes(), ..RecordText::default() })
}

fn line(format: &AccessLogFormat, record: &Record) -> String {
    let mut out = Vec::new();
    Format::new(format).unwrap().write(record, &mut out);
    let mut line = String::from_utf8(out).expect("UTF-8");
    assert_eq!(line.pop(), Some('\n'));
    line
}

fn template(text: &str) -> AccessLogFormat {
    AccessLogFormat::Template(text.into())
}

fn to_file(path: &Path) -> AccessLog {
    AccessLog { target: AccessLogTarget::File(path.into()), format: template("{path}") }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn metric(metrics: &Metrics, series: &str) -> u64 {
    let page = metrics.encode();
    let line = page.lines().find_map(|line| line.strip_prefix(series)).expect("the series");
    line.trim().parse().unwrap()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_json_line_holds_every_field() {
    let wanted = concat!(
        r#"{"time":"2026-11-22T17:27:32.123Z","client":"192.0.2.7","peer":"192.0.2.7:51000","#,
        r#""listener":"web","request_id":"0123abcd","method":"GET","scheme":"https","#,
        r#""host":"shop.example.com","path":"/cart","query":"item=7","version":"HTTP/1.1","#,
        r#""status":502,"grpc_status":"unavailable","reason":"upstream_reset","#,
        r#""request_bytes":12,"response_bytes":345,"duration_ms":12.034,"route":"shop/cart","upstream":"cart","endpoint":"127.0.0.1:9000","#,
        r#""attempts":2,"connect_ms":0.250,"upstream_ms":11.000,"user_agent":"curl/8","#,
        r#""referer":"https://shop.example.com/","tls_version":"TLSv1.3","#,
        r#""server_name":"shop.example.com"}"#,
    );
    assert_eq!(line(&AccessLogFormat::Json, &full()), wanted);
}

#[test]
fn a_json_line_leaves_out_what_a_record_does_not_have() {
    let wanted = concat!(
        r#"{"time":"2026-11-22T17:27:32.123Z","client":"192.0.2.7","peer":"192.0.2.7:51000","#,
        r#""listener":"web","method":"GET","scheme":"http","path":"/","version":"HTTP/1.1","#,
        r#""status":0,"reason":"-","request_bytes":0,"response_bytes":0,"duration_ms":0.000,"#,
        r#""attempts":0}"#,
    );
    assert_eq!(line(&AccessLogFormat::Json, &bare()), wanted);
}

#[test]
fn a_connection_that_passed_through_has_no_request() {
    let text = RecordText { host: b"vault.example.com", ..RecordText::default() };
    let begun = bare();
    let mut record = Record::passing(begun.start, begun.peer, "web".into(), &text);
    record.scheme = "tls";
    record.response_bytes = 345;
    let wanted = r#"192.0.2.7 - - [22/Nov/2026:17:27:32 +0000] "-" 0 345 "-" "-""#;
    assert_eq!(line(&AccessLogFormat::Combined, &record), wanted);
    let wanted = "tls vault.example.com - - -";
    let fields = template("{scheme} {host} {method} {path} {version}");
    assert_eq!(line(&fields, &record), wanted);
    let json = line(&AccessLogFormat::Json, &record);
    assert!(!json.contains("\"method\"") && json.contains(r#""scheme":"tls""#), "{json}");
}

#[test]
fn a_combined_line_is_what_ncsa_readers_know() {
    let wanted = r#"192.0.2.7 - - [22/Nov/2026:17:27:32 +0000] "GET /cart?item=7 HTTP/1.1" 502 345 "https://shop.example.com/" "curl/8""#;
    assert_eq!(line(&AccessLogFormat::Combined, &full()), wanted);
    let wanted = r#"192.0.2.7 - - [22/Nov/2026:17:27:32 +0000] "GET / HTTP/1.1" 0 0 "-" "-""#;
    assert_eq!(line(&AccessLogFormat::Combined, &bare()), wanted);
}

#[test]
fn a_template_places_fields_where_it_names_them() {
    let format = template("{{{status}}} {reason}\t{host}{path} {duration_ms}ms {route}");
    assert_eq!(
        line(&format, &full()),
        "{502} upstream_reset\tshop.example.com/cart 12.034ms shop/cart"
    );
    assert_eq!(line(&format, &bare()), "{0} -\t-/ 0.000ms -");
    let every: Vec<_> = Field::ALL.iter().map(|field| format!("{{{}}}", field.name())).collect();
    assert!(Template::parse(&every.join(" ")).is_ok());
}

#[test]
fn a_wrong_template_is_explained() {
    let error = |text: &str| Template::parse(text).unwrap_err().to_string();
    assert_eq!(
        error("{client} {stauts}"),
        "the access log has no field `stauts`; did you mean status?"
    );
    assert!(error("{Path}").contains("did you mean path"), "{}", error("{Path}"));
    assert!(error("{zzz}").contains("fields are time, client, peer,"), "{}", error("{zzz}"));
    assert!(error("a } b").contains("`}` without `{` at offset 2"), "{}", error("a } b"));
    assert!(error("a {path").contains("`{` without `}` at offset 2"), "{}", error("a {path"));
    assert!(error("{path}\n{host}").contains("control character at offset 6"));
    let unknown = Template::parse("ab {nope}").unwrap_err();
    assert!(matches!(unknown, TemplateError::Unknown { offset: 3, .. }), "{unknown:?}");
}

#[test]
fn terminal_commands_and_quotes_are_disarmed() {
    let record = begun(&RecordText {
        path: b"/\x1b[2J",
        user_agent: Some("\" 200 1 \"\r\n\u{9b}2J\u{202e}".as_bytes()),
        referer: Some(b"caf\xc3\xa9 \xff"),
        ..RecordText::default()
    });
    let json = line(&AccessLogFormat::Json, &record);
    assert!(json.contains(r#""path":"/\u001b[2J""#), "{json}");
    assert!(json.contains(r#""user_agent":"\" 200 1 \"\r\n\u009b2J\u202e""#), "{json}");
    assert!(json.contains(r#""referer":"café \\xff""#), "{json}");
    let combined = line(&AccessLogFormat::Combined, &record);
    assert!(combined.contains(r#""GET /\x1b[2J HTTP/1.1""#), "{combined}");
    let agent = r#""\x22 200 1 \x22\x0d\x0a\xc2\x9b2J\xe2\x80\xae""#;
    assert!(combined.ends_with(&format!(r#""caf\xc3\xa9 \xff" {agent}"#)), "{combined}");
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let nasty = prop::sample::select(vec![
        "\n",
        "\r",
        "\"",
        "\\",
        "\0",
        "\u{1b}[31m",
        "\u{7f}",
        "\u{9b}",
        "\u{2028}",
        "é",
        "\u{1f600}",
        "}",
        "{\"a\":1}",
        ",",
        "\\u0041",
    ]);
    let nasty = prop::collection::vec(nasty, 0..8).prop_map(|parts| parts.concat().into_bytes());
    prop_oneof![
        nasty,
        prop::collection::vec(any::<u8>(), 0..40),
        "[ -~]{0,20}".prop_map(String::into_bytes)
    ]
}

/// The text a reader gets back: bytes that are no UTF-8 appear as `\xHH`.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

proptest! {
    #[test]
    fn any_bytes_make_one_harmless_line(
        host in bytes(),
        path in bytes(),
        query in prop::option::of(bytes()),
        id in bytes(),
        agent in prop::option::of(bytes()),
        referer in prop::option::of(bytes()),
        name in "\\PC{0,10}|[\\x00-\\x1f\"]{0,5}",
    ) {
        let mut record = begun(&RecordText {
            host: &host,
            path: &path,
            query: query.as_deref(),
            request_id: &id,
            user_agent: agent.as_deref(),
            referer: referer.as_deref(),
        });
        record.route = Some(name.as_str().into());
        record.server_name = Some(name.as_str().into());

        let json = line(&AccessLogFormat::Json, &record);
        prop_assert!(!json.chars().any(char::is_control), "{:?}", json);
        let read: Value = serde_json::from_str(&json).unwrap();
        let text = |key: &str| read.get(key).map(|value| value.as_str().unwrap().to_owned());
        prop_assert_eq!(text("path").unwrap(), readable(&path));
        prop_assert_eq!(text("host"), Some(readable(&host)).filter(|host| !host.is_empty()));
        prop_assert_eq!(text("request_id"), Some(readable(&id)).filter(|id| !id.is_empty()));
        prop_assert_eq!(text("query"), query.as_deref().map(readable));
        prop_assert_eq!(text("user_agent"), agent.as_deref().map(readable));
        prop_assert_eq!(text("referer"), referer.as_deref().map(readable));
        prop_assert_eq!(text("route").unwrap(), name.clone());

        let combined = line(&AccessLogFormat::Combined, &record);
        prop_assert!(combined.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{:?}", combined);
        prop_assert_eq!(combined.matches('"').count(), 6);

        let plain = line(&template("{host}|{path}|{query}|{request_id}|{user_agent}|{referer}|{route}"), &record);
        prop_assert!(plain.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{:?}", plain);
        prop_assert!(!plain.contains('"'));
    }

    #[test]
    fn a_template_never_panics_and_shows_its_literals(text in "[ -~]{0,30}|([{}a-z]|\\{path\\}|é){0,12}") {
        if let Ok(template) = Template::parse(&text) {
            let mut out = Vec::new();
            template.write(&bare(), &mut out);
            if !text.contains(['{', '}']) {
                prop_assert_eq!(String::from_utf8(out).unwrap(), text);
            }
        }
    }

    #[test]
    fn dates_agree_with_another_calendar(seconds in 0u64..253_402_300_800) {
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        let mut ours = Vec::new();
        clock::ncsa(time, &mut ours);
        let ours = String::from_utf8(ours).unwrap();
        // `Sun, 22 Nov 2026 17:27:32 GMT`
        let theirs = httpdate::fmt_http_date(time);
        let wanted = theirs[5..].replace(' ', "/").replacen("/GMT", " +0000", 1);
        let (date, clock) = wanted.rsplit_once('/').unwrap();
        prop_assert_eq!(&ours, &format!("{date}:{clock}"));
        let mut ours = Vec::new();
        clock::rfc3339(time, &mut ours);
        let ours = String::from_utf8(ours).unwrap();
        prop_assert_eq!(&ours[..4], &theirs[12..16]);
        prop_assert_eq!(&ours[8..10], &theirs[5..7]);
        prop_assert_eq!(&ours[11..19], &theirs[17..25]);
    }
}

#[test]
fn lines_reach_their_file_in_order_and_the_log_can_be_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let metrics = Metrics::new(2);
    let log = AccessLogger::new(metrics.clone());
    assert!(!log.enabled());
    log.record(W0, numbered(999));
    assert!(log.flush(Duration::ZERO), "nothing to wait for");
    log.configure(Some(&to_file(&path))).unwrap();
    assert!(log.enabled());
    (0..1000).for_each(|number| log.record(W0, numbered(number)));
    assert!(log.flush(LIMIT));
    assert_eq!(lines(&path), (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    log.record(WorkerId(1), numbered(1000));
    log.configure(None).unwrap();
    assert!(!log.enabled());
    log.record(W0, numbered(1001));
    assert!(log.flush(LIMIT), "what was given before is still written");
    assert_eq!(lines(&path).last().unwrap(), "1000");
    assert_eq!(metric(&metrics, "portcullis_access_log_lines_total"), 1001);
    assert_eq!(metrics.control().access_log_lost(), 0);
}

#[test]
fn lines_are_written_without_anyone_asking() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLogger::new(Metrics::new(1));
    log.configure(Some(&to_file(&path))).unwrap();
    log.record(W0, numbered(1));
    until("the line", || lines(&path) == ["1"]);
}

#[test]
fn a_wrong_configuration_leaves_the_log_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLogger::new(Metrics::new(1));
    log.configure(Some(&to_file(&path))).unwrap();
    let missing = to_file(&dir.path().join("missing/access.log"));
    let error = log.configure(Some(&missing)).unwrap_err();
    assert!(error.to_string().contains("missing/access.log"), "{error}");
    let wrong = AccessLog { format: template("{nope}"), ..to_file(&path) };
    assert!(matches!(log.configure(Some(&wrong)), Err(AccessLogError::Template(_))));
    log.record(W0, numbered(1));
    assert!(log.flush(LIMIT));
    assert_eq!(lines(&path), ["1"]);
}

#[test]
fn a_file_moved_away_is_opened_again_and_no_line_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let log = AccessLogger::new(Metrics::new(1));
    log.configure(Some(&to_file(&path))).unwrap();
    log.record(W0, numbered(1));
    assert!(log.flush(LIMIT));
    std::fs::rename(&path, &moved).unwrap();
    log.record(W0, numbered(2));
    assert!(log.flush(LIMIT));
    log.reopen().unwrap();
    until("the new file", || path.exists());
    log.record(W0, numbered(3));
    assert!(log.flush(LIMIT));
    let both = [lines(&moved), lines(&path)].concat();
    assert_eq!(both, ["1", "2", "3"]);
    assert!(!lines(&path).contains(&"2".to_owned()));
}

/// A target whose writes wait until the gate is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: bool,
    written: Vec<u8>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (state, opened) = &*self.0;
        let mut state = state.lock().unwrap();
        state.waiting = true;
        let mut state = opened.wait_while(state, |state| !state.open).unwrap();
        state.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Gate {
    fn is_waiting(&self) -> bool {
        self.0.0.lock().unwrap().waiting
    }

    fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    fn lines(&self) -> Vec<String> {
        let written = self.0.0.lock().unwrap().written.clone();
        String::from_utf8(written).unwrap().lines().map(str::to_owned).collect()
    }
}

/// A log that writes to `output`.
fn log_to(metrics: &Metrics, output: impl Write + Send + 'static) -> AccessLogger {
    let log = AccessLogger::new(metrics.clone());
    let config = to_file(Path::new("in memory"));
    let format = Format::new(&config.format).unwrap();
    let current = log.start_writer(config, format, Box::new(output)).unwrap();
    log.0.target.lock().unwrap().current = Some(current);
    log
}

#[test]
fn a_blocked_target_costs_counted_lines_and_no_waiting() {
    let metrics = Metrics::new(1);
    let gate = Gate::default();
    let log = log_to(&metrics, gate.clone());
    log.record(W0, numbered(0));
    until("a write that waits", || gate.is_waiting());
    let given = 3 * queue::RECORDS as usize;
    // Returns although nothing is written: `record` cannot wait for the gate.
    (1..given).for_each(|number| log.record(W0, numbered(number)));
    let lost = metrics.control().access_log_lost();
    assert_eq!(lost, 2 * queue::RECORDS - 1, "one is being written, a queue full waits");
    assert!(!log.flush(Duration::from_millis(1)), "a flush does not outlast its limit");
    gate.open();
    assert!(log.flush(LIMIT));
    let kept = given - lost as usize;
    assert_eq!(gate.lines(), (0..kept).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(
        metric(&metrics, r#"portcullis_access_log_dropped_total{reason="queue_full"}"#),
        lost
    );
    assert_eq!(metric(&metrics, "portcullis_access_log_lines_total"), kept as u64);
}

#[test]
fn long_heads_cannot_fill_the_memory_of_a_blocked_log() {
    let metrics = Metrics::new(1);
    let gate = Gate::default();
    let log = log_to(&metrics, gate.clone());
    log.record(W0, numbered(0));
    until("a write that waits", || gate.is_waiting());
    let path = vec![b'a'; 32 * 1024];
    for _ in 0..1000 {
        log.record(W0, begun(&RecordText { path: &path, ..RecordText::default() }));
    }
    assert_eq!(metrics.control().access_log_lost(), 1000 - 128, "4 MiB wait, no more");
    gate.open();
    assert!(log.flush(LIMIT));
    assert_eq!(gate.lines().len(), 129);
}

#[test]
fn a_stuck_target_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let metrics = Metrics::new(1);
    let gate = Gate::default();
    let log = log_to(&metrics, gate.clone());
    log.record(W0, numbered(0));
    until("a write that waits", || gate.is_waiting());
    log.record(W0, numbered(1));
    log.configure(Some(&to_file(&path))).unwrap();
    log.record(W0, numbered(2));
    until("the new target's lines", || lines(&path) == ["1", "2"]);
    gate.open();
    assert!(log.flush(LIMIT));
    assert_eq!(gate.lines(), ["0"]);
}

#[test]
fn a_fifo_without_a_reader_blocks_neither_start_nor_workers() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let metrics = Metrics::new(1);
    let log = AccessLogger::new(metrics.clone());
    let (started, start) = std::sync::mpsc::channel();
    let (starting, config) = (log.clone(), to_file(&fifo));
    std::thread::spawn(move || started.send(starting.configure(Some(&config))));
    start.recv_timeout(LIMIT).expect("a start without waiting").unwrap();
    let path = vec![b'a'; 1000];
    until("lines that find no room", || {
        log.record(W0, begun(&RecordText { path: &path, ..RecordText::default() }));
        metrics.control().access_log_lost() > 0
    });
    assert!(!log.flush(Duration::from_millis(1)));
    let read = std::fs::File::open(&fifo).unwrap();
    let reader = std::thread::spawn(move || io::copy(&mut { read }, &mut io::sink()));
    assert!(log.flush(LIMIT), "a reader came and the log goes on");
    drop(log);
    reader.join().unwrap().unwrap();
}

/// A target that takes `room` bytes and then refuses until `refusals` are used up.
struct Disk {
    room: usize,
    refusals: usize,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 && self.refusals > 0 {
            self.refusals -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let room = if self.room == 0 { bytes.len() } else { self.room.min(bytes.len()) };
        self.room -= room.min(self.room);
        self.written.lock().unwrap().extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_loses_counted_lines_and_the_next_ones_are_whole() {
    for room in 1..12 {
        let metrics = Metrics::new(1);
        let written = Arc::new(Mutex::new(Vec::new()));
        let disk = Disk { room, refusals: 2, written: Arc::clone(&written) };
        let log = log_to(&metrics, disk);
        for number in 0..5 {
            log.record(W0, numbered(100 + number));
            assert!(log.flush(LIMIT));
        }
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let whole = (100..105).filter(|number| text.lines().any(|line| line == number.to_string()));
        let whole = whole.count() as u64;
        assert!((3..=4).contains(&whole), "with room for {room}: {text:?}");
        assert!(text.ends_with("\n104\n"), "with room for {room}: {text:?}");
        assert_eq!(metric(&metrics, "portcullis_access_log_lines_total"), whole, "{text:?}");
        let failed =
            metric(&metrics, r#"portcullis_access_log_dropped_total{reason="write_failed"}"#);
        assert_eq!(failed, 5 - whole, "{text:?}");
    }
}

#[test]
fn a_record_is_small_enough_for_its_queue() {
    assert!(size_of::<Record>() <= 384, "{}", size_of::<Record>());
}
