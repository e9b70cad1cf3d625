//! HAProxy: one thread, server connections reused always, a UUID as request id, its exporter on.

use std::io;

use super::Setting;
use crate::machine::file_limit;

pub(super) fn arguments(setting: &Setting<'_>) -> io::Result<Vec<String>> {
    let Setting { plain, tls, admin, ground, .. } = setting;
    let backend = ground.backend;
    let pem = ground.certificate.both.display();
    // It counts two files for each connection and pipe and refuses to start beyond the limit.
    let connections = (file_limit().min(40_000) - 1200) / 2;
    let splice = if ground.tuned { "\n  option splice-auto" } else { "" };
    let text = format!(
        "global
  nbthread 1
  maxconn {connections}
  maxpipes 250
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout http-keep-alive 75s
  option http-keep-alive{splice}
frontend web
  bind {plain} backlog 4096
  bind {tls} ssl crt {pem} alpn h2,http/1.1 backlog 4096
  unique-id-format %[uuid()]
  unique-id-header X-Request-ID
  option forwardfor
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-IP %[src]
  default_backend backend
frontend stats
  bind {admin}
  http-request use-service prometheus-exporter if {{ path /metrics }}
backend backend
  http-reuse always
  server one {backend}
"
    );
    let path = setting.write("haproxy.cfg", &text)?;
    Ok(vec!["-db".into(), "-f".into(), path.display().to_string()])
}
