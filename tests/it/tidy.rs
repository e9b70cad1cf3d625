//! Reads the sources and keeps the house rules that a compiler does not: the direction of
//! imports, the fences around crates, file lengths, and words that have no place in them.

mod packaging;
mod source;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use self::source::{rust_files, text_files};

/// What each room may import beside itself. Rooms that are missing here do not exist.
const LAYERS: &[(&str, &[&str])] = &[
    ("util", &[]),
    ("ir", &["util"]),
    ("telemetry", &["util", "ir"]),
    ("error", &["util", "ir", "telemetry"]),
    ("tls", &["util", "ir", "telemetry", "error"]),
    ("filter", &["util", "ir", "telemetry", "error"]),
    ("http2", &[]),
    ("upstream", &["util", "ir", "telemetry", "error", "tls", "http2"]),
    ("snapshot", &["util", "ir", "telemetry", "error", "tls", "filter", "upstream"]),
    (
        "proxy",
        &["util", "ir", "telemetry", "error", "tls", "filter", "http2", "upstream", "snapshot"],
    ),
    (
        "server",
        &[
            "util",
            "ir",
            "telemetry",
            "error",
            "tls",
            "filter",
            "http2",
            "upstream",
            "snapshot",
            "proxy",
        ],
    ),
    ("provider", &["util", "ir", "telemetry"]),
    ("control", &["util", "ir", "telemetry", "error", "upstream", "snapshot"]),
];

/// The rooms that see all others, and one another; nothing else imports them.
const TOP: &[&str] = &["app", "admin", "cli"];

/// Crates and the folders or files that alone may name them.
const FENCES: &[(&[&str], &[&str])] = &[
    (&["kube", "k8s_openapi", "gateway_api"], &["provider/kubernetes"]),
    (&["rustls", "tokio_rustls"], &["tls", "server", "upstream/pool"]),
    (&["matchit"], &["snapshot"]),
    (&["prometheus"], &["telemetry"]),
];

/// Where bad input must never become a panic.
const DATA_PATH: &[&str] = &["proxy", "server", "upstream", "filter", "http2", "snapshot", "tls"];

/// The one file that passes sockets to a new binary.
const UNSAFE_ALLOWED: &str = "server/handover.rs";

/// Lines of a file beside its tests.
const LONGEST: usize = 600;

#[test]
fn imports_run_one_way() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for source in rust_files("src") {
        let room = source.room();
        if room == "lib" || room == "main" || TOP.contains(&room.as_str()) {
            continue;
        }
        let Some(allowed) = layers.get(room.as_str()) else {
            faults.push(format!("{}: {room:?} is no room of the house", source.path));
            continue;
        };
        for (line, import) in source.imports_of_own_crate() {
            if import != room && !allowed.contains(&import.as_str()) {
                faults.push(format!("{}:{line}: {room} imports {import}", source.path));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn the_table_of_rooms_has_every_room() {
    let rooms = LAYERS.iter().map(|(room, _)| *room).chain(TOP.iter().copied());
    for (_, text) in text_files(&["ARCHITECTURE.md"]) {
        for room in rooms.clone() {
            let mut rows = text.lines().filter(|line| line.starts_with("| `"));
            assert!(rows.any(|row| row.contains(&format!("`{room}`"))), "no row for {room}");
        }
    }
}

#[test]
fn crates_stay_behind_their_fences() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        for (crates, homes) in FENCES {
            if homes.iter().any(|home| source.is_in(home)) {
                continue;
            }
            for name in *crates {
                for line in source.uses_of_crate(name) {
                    faults.push(format!("{}:{line}: names the crate {name}", source.path));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn files_fit_in_a_head() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        let lines = source.code_lines();
        if lines > LONGEST && !source.has_excuse() {
            faults.push(format!("{}: {lines} lines beside its tests", source.path));
        }
    }
    assert_none(&faults);
}

#[test]
fn the_data_path_does_not_panic_on_purpose() {
    let words = [
        ".unwrap()",
        ".expect(",
        "panic!(",
        "unreachable!(",
        "todo!(",
        "unimplemented!(",
        ".unwrap_err()",
        ".expect_err(",
    ];
    let mut faults = Vec::new();
    for source in rust_files("src") {
        if !DATA_PATH.contains(&source.room().as_str()) {
            continue;
        }
        for (line, code) in source.code() {
            if let Some(word) = words.iter().find(|word| code.contains(*word))
                && !source.is_excused(line)
            {
                faults.push(format!("{}:{line}: {word}", source.path));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn unsafe_stands_in_one_file_only() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        if source.is_in(UNSAFE_ALLOWED) {
            continue;
        }
        for (line, code) in source.code() {
            if source::has_word(code, "unsafe") {
                faults.push(format!("{}:{line}", source.path));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_module_says_what_it_owns() {
    let mut faults = Vec::new();
    for source in rust_files("src") {
        if !source.is_test() && !source.text().starts_with("//! ") {
            faults.push(format!("{}: does not begin with //!", source.path));
        }
    }
    assert_none(&faults);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let places = [concat!("/wo", "rk/"), concat!("/tmp/", "wt"), concat!("/ro", "ot/")];
    let mut faults = Vec::new();
    for (path, text) in text_files(&[
        "src",
        "tests",
        "benches",
        "fuzz",
        "config",
        "deploy",
        ".ci",
        "Cargo.toml",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Dockerfile",
        "deny.toml",
        "clippy.toml",
    ]) {
        for (number, line) in text.lines().enumerate() {
            let word = words.iter().find(|word| source::has_word(line, word));
            let place = places.iter().find(|place| line.contains(*place));
            if let Some(found) = word.or(place) {
                faults.push(format!("{path}:{}: {found}", number + 1));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn tests_wait_for_conditions_and_none_is_ignored() {
    let mut faults = Vec::new();
    for source in rust_files("src").into_iter().chain(rust_files("tests")) {
        let harness = source.path.starts_with("tests/it/harness/");
        for (line, code) in source.test_code() {
            let sleeps = source::has_word(code, "thread::sleep")
                || (source.path.starts_with("tests/")
                    && !harness
                    && source::has_word(code, "time::sleep"));
            if sleeps {
                faults.push(format!("{}:{line}: sleeps", source.path));
            }
            if code.trim_start().starts_with("#[ignore") {
                faults.push(format!("{}:{line}: an ignored test", source.path));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn the_dependencies_keep_their_floors_and_bans() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    let floors = [("h2", [0, 4, 20]), ("http", [1, 5, 0]), ("hyper", [1, 12, 0])];
    let mut faults = Vec::new();
    for (name, floor) in floors {
        let found: Vec<_> = versions(&lock, name).collect();
        assert!(!found.is_empty(), "{name} is in Cargo.lock");
        for version in found.into_iter().filter(|version| *version < floor) {
            faults.push(format!("{name} {version:?} is older than {floor:?}"));
        }
    }
    for name in ["openssl", "openssl-sys", "native-tls"] {
        if versions(&lock, name).next().is_some() {
            faults.push(format!("{name} is in Cargo.lock"));
        }
    }
    // The lock file also lists what only an unused feature would bring; the tree does not.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "all", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.lines().any(|line| line.starts_with("aws-lc-rs v")), "the tree was read");
    if let Some(line) = tree.lines().find(|line| line.starts_with("ring v")) {
        faults.push(format!("{line} is in the tree"));
    }
    assert_none(&faults);
}

fn versions<'a>(lock: &'a str, name: &'a str) -> impl Iterator<Item = [u32; 3]> + 'a {
    lock.split("[[package]]").filter_map(move |package| {
        let field = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_start_matches(" = \"").trim_end_matches('"'))
        };
        if field("name") != Some(name) {
            return None;
        }
        let version = field("version")?.split(['-', '+']).next()?;
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        Some([parts.next()?, parts.next()?, parts.next()?])
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
