//! What a host demands of client certificates, ready to be asked for and judged.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::filter::ClientAuth;
use crate::ir::{ClientTrust, HostClientAuth, Location, Problem, VirtualHost};
use crate::tls::{CaFault, ClientDemand, TlsShared};

/// What stands before all routes of a host.
#[derive(Debug)]
pub enum ClientGate {
    /// Nobody passes, because certificates cannot be verified; why, for logs and `explain`.
    Closed(String),
    /// Whoever shows what is demanded.
    Asks {
        /// What is asked for in the handshake.
        demand: Arc<ClientDemand>,
        /// What of it lets a request in.
        auth: ClientAuth,
    },
}

impl ClientGate {
    /// What is asked for in the handshake; `None` where nobody passes anyway.
    pub fn demand(&self) -> Option<&Arc<ClientDemand>> {
        match self {
            Self::Closed(_) => None,
            Self::Asks { demand, .. } => Some(demand),
        }
    }
}

/// Why nobody passes.
struct Fault {
    why: String,
    hint: String,
    /// What is wrong stands there; `None` is the host.
    location: Option<Location>,
}

impl Fault {
    fn of(fault: &CaFault, spec: &HostClientAuth) -> Self {
        let location = match fault {
            CaFault::Crl => &spec.crl_at,
            _ => &spec.ca_at,
        };
        Self {
            why: fault.to_string(),
            hint: format!("{}; until then its requests are answered 503", fault.hint()),
            location: location.clone(),
        }
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        let hint = "its requests are answered 503 until it is mended".to_owned();
        Self { why, hint, location: None }
    }
}

/// The demands of the snapshots in use: thousands of hosts share a few.
#[derive(Default)]
pub(super) struct Demands(HashMap<ClientTrust, Weak<ClientDemand>>);

impl Demands {
    /// The gate of `host`. Cannot fail: what cannot be set up lets nobody in and is reported.
    pub fn gate(
        &mut self,
        host: &VirtualHost,
        tls: &TlsShared,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<ClientGate>> {
        let spec = host.client_auth.as_ref()?;
        let made = self.demand(spec, tls).and_then(|demand| Ok((demand, ClientAuth::new(spec)?)));
        Some(Arc::new(match made {
            Ok((demand, auth)) => ClientGate::Asks { demand, auth },
            Err(Fault { why, hint, location }) => {
                let message = format!("client certificates of host '{}': {why}", host.pattern);
                let problem = Problem::error(message).hint(hint).at(location);
                problems.push(problem.about(&host.origin));
                ClientGate::Closed(why)
            }
        }))
    }

    fn demand(
        &mut self,
        spec: &HostClientAuth,
        tls: &TlsShared,
    ) -> Result<Arc<ClientDemand>, Fault> {
        if let ClientTrust::Missing(why) = &spec.trust {
            return Err(why.clone().into());
        }
        if let Some(known) = self.0.get(&spec.trust).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let demand =
            ClientDemand::build(&spec.trust, tls).map_err(|fault| Fault::of(&fault, spec))?;
        let demand = Arc::new(demand);
        self.0.insert(spec.trust.clone(), Arc::downgrade(&demand));
        Ok(demand)
    }

    /// Forgets those that no snapshot has any more.
    pub fn tidy(&mut self) {
        self.0.retain(|_, demand| demand.strong_count() > 0);
    }
}
