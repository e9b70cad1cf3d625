//! The options of `portcullis demo`, and the back ends on their own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::ir::SecretBytes;

use super::config::DemoListeners;
use super::guide::backends_table;
use super::shop::{Shop, ShopError, ShopOptions};

/// Options of `portcullis demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// HTTP port
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub http: u16,
    /// HTTPS port
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub https: u16,
    /// Admin listener
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9900")]
    pub admin: SocketAddr,
    /// Run only the shop's back ends, on ports from 9010 up, for a proxy started elsewhere
    #[arg(long)]
    pub backends_only: bool,
}

impl DemoArgs {
    /// What these options make of the proxy's listeners, with a certificate chain and key as PEM.
    pub fn listeners(&self, chain: impl Into<Arc<str>>, key: SecretBytes) -> DemoListeners {
        DemoListeners {
            address: self.address,
            http: self.http,
            https: self.https,
            admin: Some(self.admin),
            chain: chain.into(),
            key,
        }
    }
}

/// The first port of `demo --backends-only`, as `deploy/shop/portcullis.yaml` has it.
pub(super) const FIRST_PORT: u16 = 9010;

/// `portcullis demo --backends-only`: serves the shop on `address` at fixed ports, says where,
/// and returns on SIGINT or SIGTERM.
pub fn run_backends(address: IpAddr, out: &mut dyn io::Write) -> Result<(), ShopError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // Before the first line is printed: who reads it may send a signal at once.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shop = Shop::start(ShopOptions { address, first_port: Some(FIRST_PORT) })?;
        write!(out, "The shop's back ends:\n{}", backends_table(&shop))?;
        out.flush()?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
