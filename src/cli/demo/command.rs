//! `portcullis demo` itself: the shop behind the real proxy.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::{DemoArgs, Shop, ShopOptions, fragment, greeting, run_backends};
use crate::app::{self, Exit, Provider};
use crate::control::Feed;
use crate::telemetry::tracing::{LogOptions, init};
use crate::tls::self_signed;

/// Starts the shop and serves it until told to stop.
pub fn run(args: &DemoArgs) -> ExitCode {
    if args.backends_only {
        return match run_backends(args.address, &mut std::io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    // Requests are shown on standard output; the operations log would stand between them.
    let options = LogOptions { filter: Some("warn".to_owned()), ..LogOptions::default() };
    let _log = match init(&options) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    let address = args.address.to_string();
    let (chain, key) = match self_signed(&["localhost", address.as_str()]) {
        Ok(pair) => pair,
        Err(error) => return failed(&error),
    };
    let shop = match Shop::start(ShopOptions::default()) {
        Ok(shop) => shop,
        Err(error) => return failed(&error),
    };
    let listeners = args.listeners(chain, key);
    let feed = Feed {
        fragment: Some(Arc::new(fragment(&shop, &listeners))),
        accepted: true,
        ..Feed::default()
    };
    let (_keep, said) = watch::channel(feed);
    let provider = app::watch_provider(said, |_| true, |feed| feed);
    let greet = |_: &_| println!("{}", greeting(&shop, &listeners));
    let exit = app::run(vec![Provider::Prompt(provider)], Arc::new(Notify::new()), greet);
    // Someone who tries things out and presses Ctrl-C wants no lecture about the drain.
    if exit == Exit::Deadline { ExitCode::SUCCESS } else { exit.into() }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("portcullis: {error}");
    ExitCode::FAILURE
}
