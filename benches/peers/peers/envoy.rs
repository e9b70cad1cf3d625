//! Envoy: one worker, the router filter only, its own request id, statistics and admin on.

use std::io;
use std::net::SocketAddr;

use super::Setting;

pub(super) fn arguments(setting: &Setting<'_>) -> io::Result<Vec<String>> {
    let certificate = &setting.ground.certificate;
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    let transport = format!(
        "transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{ filename: \"{chain}\" }}
              private_key: {{ filename: \"{key}\" }}"
    );
    let text = format!(
        "admin: {{ address: {admin} }}
static_resources:
  listeners:
  - name: web
    address: {plain}
    filter_chains:
    - filters: [{manager}]
  - name: websecure
    address: {tls}
    filter_chains:
    - filters: [{manager}]
      {transport}
  clusters:
  - name: backend
    connect_timeout: 5s
    type: STATIC
    circuit_breakers: {{ thresholds: [{{ max_connections: 20000, max_pending_requests: 20000, max_requests: 20000 }}] }}
    load_assignment:
      cluster_name: backend
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {backend} }} }}] }}]
",
        admin = address(setting.admin),
        plain = address(setting.plain),
        tls = address(setting.tls),
        backend = address(setting.ground.backend),
        manager = connection_manager(),
    );
    let path = setting.write("envoy.yaml", &text)?;
    let mut arguments = vec!["-c".to_owned(), path.display().to_string()];
    arguments
        .extend(["--concurrency", "1", "--disable-hot-restart", "-l", "error"].map(str::to_owned));
    Ok(arguments)
}

/// The HTTP connection manager in flow style, so that it fits wherever it is put.
fn connection_manager() -> String {
    let header = |name: &str, value: &str| {
        format!(
            "{{ header: {{ key: {name}, value: \"{value}\" }}, append_action: OVERWRITE_IF_EXISTS_OR_ADD }}"
        )
    };
    let added = [
        header("x-forwarded-host", "%REQ(:AUTHORITY)%"),
        header("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ]
    .join(", ");
    let router = "{ name: envoy.filters.http.router, typed_config: { \"@type\": \
                  type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }";
    format!(
        "{{ name: envoy.filters.network.http_connection_manager, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: web, codec_type: AUTO, use_remote_address: true, append_x_forwarded_port: true, \
         http_filters: [{router}], \
         route_config: {{ name: web, request_headers_to_add: [{added}], \
         virtual_hosts: [{{ name: web, domains: [\"*\"], \
         routes: [{{ match: {{ prefix: \"/\" }}, route: {{ cluster: backend }} }}] }}] }} }} }}"
    )
}

fn address(address: SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
}
