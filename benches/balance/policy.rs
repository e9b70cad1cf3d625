//! The policies that are compared.

use std::time::Duration;

use portcullis::ir::{
    Balance, BalancePolicy, HashInput, HashPolicy, HashTable, LeastRequest, OrcaPolicy, Origin,
    Outlier, PeakEwma, Permille, PoolOptions, PrequalPolicy, Upstream, UpstreamLimits,
    UpstreamProtocol, WeightedByLoad,
};

/// A policy and the name it has in the table.
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    /// The upstream with this policy.
    pub spec: Upstream,
}

/// The default first.
pub fn all() -> Vec<Policy> {
    let hash = |bounded_load| {
        let on = vec![HashInput::ClientIp];
        Balance::Hash(HashPolicy { on, table: HashTable::default(), bounded_load })
    };
    // Known before anything happens.
    let by_load = WeightedByLoad { blackout: Duration::from_secs(2), ..WeightedByLoad::default() };
    let ejecting = Some(Outlier::default());
    vec![
        policy("default", Balance::default(), ejecting.clone()),
        policy("peak_ewma", Balance::PeakEwma(PeakEwma::default()), None),
        policy("prequal", Balance::Prequal(PrequalPolicy::default()), None),
        policy(
            "prequal 600",
            Balance::Prequal(PrequalPolicy { hot: Permille(600), ..PrequalPolicy::default() }),
            None,
        ),
        policy("least_utilization", Balance::LeastUtilization(OrcaPolicy::default()), None),
        policy("weighted_by_load", Balance::WeightedByLoad(by_load), None),
        policy("least_request", Balance::LeastRequest(LeastRequest::default()), None),
        policy("round_robin", Balance::RoundRobin, None),
        policy("round_robin + outlier", Balance::RoundRobin, ejecting),
        policy("random", Balance::Random, None),
        policy("hash, maglev", hash(None), None),
        policy("hash, bounded 1.25", hash(Some(Permille(1250))), None),
    ]
}

fn policy(name: &'static str, algorithm: Balance, outlier: Option<Outlier>) -> Policy {
    let spec = Upstream {
        origin: Origin::default(),
        endpoints: Vec::new(),
        discovered: false,
        balance: BalancePolicy { algorithm, ..BalancePolicy::default() }.into(),
        health: None,
        outlier: outlier.map(Into::into),
        limits: UpstreamLimits::default().into(),
        protocol: UpstreamProtocol::Http1,
        tls: None,
        pool: PoolOptions::default(),
    };
    Policy { name, spec }
}
