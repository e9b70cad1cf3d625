//! The policies that are compared.

use portcullis::ir::{
    Balance, BalancePolicy, HashInput, HashPolicy, HashTable, LeastRequest, Origin, Outlier,
    PeakEwma, Permille, PoolOptions, PrequalPolicy, Upstream, UpstreamLimits, UpstreamProtocol,
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
    let ejecting = Some(Outlier::default());
    vec![
        policy("default", Balance::default(), ejecting.clone()),
        policy("peak_ewma", Balance::PeakEwma(PeakEwma::default()), None),
        policy("prequal", Balance::Prequal(PrequalPolicy::default()), None),
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
        balance: BalancePolicy { algorithm, ..BalancePolicy::default() },
        health: None,
        outlier,
        limits: UpstreamLimits::default(),
        protocol: UpstreamProtocol::Http1,
        tls: None,
        pool: PoolOptions::default(),
    };
    Policy { name, spec }
}
