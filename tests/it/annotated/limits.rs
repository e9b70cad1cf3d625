//! How much one client gets.

use super::objects::at;
use super::{Expect::*, Family, World, row};
use crate::harness::*;

const MANY: usize = 20;

pub const FAMILY: Family = Family {
    ingresses: &[
        at("rps.example", &[("limit-rps", "1")]),
        at("burst.example", &[("limit-rps", "1"), ("limit-burst-multiplier", "50")]),
        at("rpm.example", &[("limit-rpm", "2")]),
        at("exempt.example", &[("limit-rpm", "1"), ("limit-allowlist", "10.0.0.0/8")]),
        at("exempt2.example", &[("limit-rpm", "1"), ("limit-whitelist", "10.0.0.0/8")]),
        at("parallel.example", &[("limit-connections", "1")]),
        at(
            "ahead.example",
            &[
                ("proxy-buffering", "on"),
                ("proxy-buffer-size", "16k"),
                ("proxy-buffers-number", "8"),
                ("proxy-max-temp-file-size", "0"),
            ],
        ),
    ],
    // That a slow client sets its back end free is in `buffering`, how much is read in the golden files.
    rows: &[row(
        &[
            "proxy-buffering",
            "proxy-buffer-size",
            "proxy-buffers-number",
            "proxy-max-temp-file-size",
        ],
        "ahead.example",
        "GET /?header=X-Accel-Buffering:no",
        "",
        &[Status(200), NoHeader("x-accel-buffering")],
    )],
    checked: &[
        "limit-rps",
        "limit-burst-multiplier",
        "limit-rpm",
        "limit-allowlist",
        "limit-whitelist",
        "limit-connections",
    ],
};

pub async fn check(world: &World<'_>) {
    // Five times the rate at once, and one more; time goes on meanwhile.
    let served = burst(world, "rps.example").await;
    assert!((6..MANY).contains(&served), "{served}");
    assert_eq!(burst(world, "burst.example").await, MANY);
    let served = burst(world, "rpm.example").await;
    assert!((11..MANY).contains(&served), "{served}");
    assert_eq!(burst(world, "exempt.example").await, MANY);
    assert_eq!(burst(world, "exempt2.example").await, MANY);

    let mut first = world.cluster.connect(world.controller.http).await;
    let host = "parallel.example";
    // Its body comes in two parts, between which the second request is sent.
    first.send(format!("GET /?chunks=2&every=2s HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(first.head().await.status, 200);
    assert_eq!(world.ask(host, "GET /", "").await.status, 503);
    while !first.chunk().await.expect("the rest").is_empty() {}
    let free = async || world.ask(host, "GET /", "").await.status == 200;
    eventually(STEP, "the place is free again", free).await;
}

/// How many of many requests on one connection are served. The others are refused as busy.
async fn burst(world: &World<'_>, host: &str) -> usize {
    let mut client = world.cluster.connect(world.controller.http).await;
    let mut served = 0;
    for _ in 0..MANY {
        let response = world.ask_over(&mut client, host, "GET /", "").await;
        assert!(matches!(response.status, 200 | 503), "{host}: {response}");
        served += usize::from(response.status == 200);
    }
    served
}
