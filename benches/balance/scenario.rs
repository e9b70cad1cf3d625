//! The worlds that are simulated.

use std::time::Duration;

use portcullis::util::random::Random;

use super::server::Behaviour;
use super::sim::{Change, Scenario};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// All of them.
pub fn all() -> Vec<Scenario> {
    vec![
        mixed(),
        slow(),
        fail_fast(),
        rolling_restart(),
        scale_up(),
        antagonists(),
        pauses(),
        errors(),
    ]
}

/// Twenty servers of four speeds at about 60 % of what they can do.
pub fn mixed() -> Scenario {
    let servers = (0..20).map(|n| (MS * [10, 15, 20, 30][n % 4], 16)).collect();
    Scenario {
        name: "mixed speeds",
        about: "20 servers that take 10, 15, 20 and 30 ms, at 60 % load",
        rate: 11_000.0,
        spread: (0..20).collect(),
        ..base(servers)
    }
}

/// One of ten answers after two seconds for half a minute.
pub fn slow() -> Scenario {
    Scenario {
        name: "slow replica",
        about: "10 servers of 20 ms; for 30 s one answers after 2 s; clients wait 1 s",
        rate: 1000.0,
        changes: vec![
            (SECOND * 10, Change::Behave(0, Behaviour::Stuck(SECOND * 2))),
            (SECOND * 40, Change::Behave(0, Behaviour::Serve)),
        ],
        length: SECOND * 50,
        window: (SECOND * 10, SECOND * 40),
        ..base(vec![(MS * 20, 8); 10])
    }
}

/// One of ten answers 503 in a millisecond.
pub fn fail_fast() -> Scenario {
    Scenario {
        name: "fast failure",
        about: "10 servers of 20 ms; for 30 s one answers 503 after 1 ms",
        rate: 1000.0,
        changes: vec![
            (SECOND * 10, Change::Behave(0, Behaviour::FailFast(MS))),
            (SECOND * 40, Change::Behave(0, Behaviour::Serve)),
        ],
        length: SECOND * 50,
        window: (SECOND * 10, SECOND * 40),
        ..base(vec![(MS * 20, 8); 10])
    }
}

/// Each of ten in turn refuses connections for two seconds and then is slow to warm up.
pub fn rolling_restart() -> Scenario {
    let mut changes = Vec::new();
    for server in 0..10 {
        let begin = SECOND * (5 + 4 * server as u32);
        changes.push((begin, Change::Behave(server, Behaviour::Refuse)));
        changes.push((begin + SECOND * 2, Change::Behave(server, Behaviour::Serve)));
        changes.push((begin + SECOND * 2, Change::Slow(server, 4.0)));
        changes.push((begin + SECOND * 4, Change::Slow(server, 1.0)));
    }
    Scenario {
        name: "rolling restart",
        about: "10 servers of 20 ms restart one by one: 2 s refused, then 2 s at a quarter of the speed",
        rate: 1500.0,
        changes,
        length: SECOND * 50,
        window: (SECOND * 5, SECOND * 47),
        ..base(vec![(MS * 20, 8); 10])
    }
}

/// Five cold servers join ten that are busy.
pub fn scale_up() -> Scenario {
    let mut changes = vec![(SECOND * 10, Change::Members(0, 15))];
    for server in 10..15 {
        changes.push((SECOND * 10, Change::Slow(server, 4.0)));
        changes.push((SECOND * 15, Change::Slow(server, 1.0)));
    }
    Scenario {
        name: "scale-up",
        about: "5 servers join 10 at 80 % load; they need 5 s to warm up",
        rate: 3200.0,
        members: 10,
        changes,
        length: SECOND * 30,
        window: (SECOND * 10, SECOND * 25),
        spread: (0..15).collect(),
        ..base(vec![(MS * 20, 8); 15])
    }
}

/// Neighbours steal capacity for a while, now here, now there, at 75 % load.
pub fn antagonists() -> Scenario {
    let mut random = Random::new(7);
    let mut changes = Vec::new();
    for server in 0..20 {
        let mut at = Duration::ZERO;
        while at < SECOND * 60 {
            at += Duration::from_secs_f64(2.0 + 6.0 * random.unit());
            changes.push((at, Change::Slow(server, 1.5 + 2.5 * random.unit())));
            at += Duration::from_secs_f64(0.5 + 2.0 * random.unit());
            changes.push((at, Change::Slow(server, 1.0)));
        }
    }
    Scenario {
        name: "antagonists",
        about: "20 servers of 20 ms at 70 %; neighbours slow each 1.5 to 4 times for a while, now and then",
        rate: 5600.0,
        changes,
        length: SECOND * 60,
        window: (SECOND * 5, SECOND * 60),
        spread: (0..20).collect(),
        ..base(vec![(MS * 20, 8); 20])
    }
}

/// Now and then a server stops for a moment, as with a garbage collector, at 70 % load.
pub fn pauses() -> Scenario {
    let mut random = Random::new(11);
    let mut changes = Vec::new();
    for server in 0..20 {
        let mut at = Duration::from_secs_f64(20.0 * random.unit());
        while at < SECOND * 60 {
            changes.push((at, Change::Behave(server, Behaviour::Pause)));
            at += Duration::from_secs_f64(0.2 + 0.3 * random.unit());
            changes.push((at, Change::Behave(server, Behaviour::Serve)));
            at += Duration::from_secs_f64(10.0 + 20.0 * random.unit());
        }
    }
    Scenario {
        name: "pauses",
        about: "20 servers of 20 ms at 70 %; each stops for 0.2 to 0.5 s every 10 to 30 s",
        rate: 5600.0,
        changes,
        length: SECOND * 60,
        window: (SECOND * 5, SECOND * 60),
        spread: (0..20).collect(),
        ..base(vec![(MS * 20, 8); 20])
    }
}

/// A request now and then fails for reasons of its own.
pub fn errors() -> Scenario {
    Scenario {
        name: "errors",
        about: "20 servers of 20 ms at 70 %; one request in a thousand is answered 500 wherever it goes",
        rate: 5600.0,
        errors: 0.001,
        length: SECOND * 60,
        window: (SECOND * 5, SECOND * 60),
        spread: (0..20).collect(),
        ..base(vec![(MS * 20, 8); 20])
    }
}

fn base(servers: Vec<(Duration, usize)>) -> Scenario {
    Scenario {
        name: "",
        about: "",
        members: servers.len(),
        spread: (0..servers.len()).collect(),
        servers,
        rate: 1000.0,
        length: SECOND * 30,
        patience: SECOND,
        changes: Vec::new(),
        errors: 0.0,
        window: (SECOND * 5, SECOND * 30),
    }
}
