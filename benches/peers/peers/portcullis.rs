//! Portcullis: one worker, metrics and request ids as shipped, and a thousand routes: ten hosts of
//! a hundred path prefixes, each with an upstream of its own host's.

use std::fmt::Write;
use std::io;

use super::Setting;

pub(super) fn arguments(setting: &Setting<'_>) -> io::Result<Vec<String>> {
    let Setting { plain, tls, admin, ground, .. } = setting;
    let backend = ground.backend;
    let (chain, key) = (ground.certificate.chain.display(), ground.certificate.key.display());
    let mut text = format!(
        "workers: 1
drain: {{ grace: 0s }}
admin: {{ bind: \"{admin}\" }}
listeners:
  web: {{ bind: \"{plain}\" }}
  websecure:
    bind: \"{tls}\"
    tls: {{ certificates: [ {{ cert: \"{chain}\", key: \"{key}\" }} ] }}
upstreams:
"
    );
    for host in 0..10 {
        let _ = writeln!(
            text,
            "  u{host}: {{ endpoints: [\"{backend}\"], pool: {{ max_idle: 1024 }} }}"
        );
    }
    text.push_str("hosts:\n");
    for host in 0..10 {
        let _ = writeln!(text, "  h{host}.bench.test:\n    routes:");
        for route in 0..100 {
            let _ = writeln!(text, "      - {{ path: /r/{route}, upstream: u{host} }}");
        }
    }
    let path = setting.write("portcullis.yaml", &text)?;
    Ok(vec!["run".into(), "--config".into(), path.display().to_string()])
}
