//! nginx: one worker, upstream keep-alive, which needs HTTP/1.1 and an empty `Connection`.

use std::io;

use super::Setting;
use crate::certificate::HOST;
use crate::machine::file_limit;

pub(super) fn arguments(setting: &Setting<'_>) -> io::Result<Vec<String>> {
    let dir = setting.dir.display();
    let Setting { plain, tls, admin, ground, .. } = setting;
    let backend = ground.backend;
    let (chain, key) = (ground.certificate.chain.display(), ground.certificate.key.display());
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let buffers = if ground.tuned {
        "proxy_buffer_size 16k; proxy_buffers 16 32k; proxy_busy_buffers_size 256k;"
    } else {
        ""
    };
    let master = if ground.single_process { "master_process off;" } else { "" };
    let connections = file_limit().min(40_000) - 200;
    let text = format!(
        "{user} {master}
worker_processes 1;
daemon off;
pid {dir}/pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  keepalive_requests 100000000;
  tcp_nodelay on;
  upstream backend {{
    server {backend};
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  proxy_http_version 1.1;
  proxy_max_temp_file_size 0;
  {buffers}
  proxy_set_header Connection \"\";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Request-ID $request_id;
  server {{
    listen {plain} backlog=4096;
    listen {tls} ssl http2 backlog=4096;
    server_name {HOST};
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ proxy_pass http://backend; }}
  }}
  server {{ listen {admin}; location /status {{ stub_status; }} }}
}}
"
    );
    let path = setting.write("nginx.conf", &text)?;
    Ok(vec![
        "-p".into(),
        dir.to_string(),
        "-e".into(),
        "stderr".into(),
        "-c".into(),
        path.display().to_string(),
    ])
}
