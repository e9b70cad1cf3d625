//! Single look-ups: a name's addresses, a service's servers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::{Found, Question};
use crate::ir::{AddressFamily, ResolverOptions};

/// Records and how long they are good for.
pub(super) type Answer<T> = Result<(BTreeSet<T>, Instant), Failure>;

/// Why there are no records.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Name servers say so.
    #[error("{0}: no such name, or no records of this type")]
    NotFound(Arc<str>),
    /// No usable answer.
    #[error("{0}: {1}")]
    Failed(Arc<str>, NetError),
}

/// Asks about one question again and again; remembers what it heard of each name and family, for
/// the times when only a part of the answer can be had.
pub(super) struct Lookup {
    client: TokioResolver,
    family: AddressFamily,
    known: HashMap<(Arc<str>, RecordType), BTreeSet<IpAddr>>,
}

/// A client that asks as `options` say.
///
/// # Errors
/// If `/etc/resolv.conf` is needed and of no use.
pub(super) fn client(options: &ResolverOptions) -> Result<TokioResolver, NetError> {
    let mut builder = if options.nameservers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = options.nameservers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|way| way.port = address.port());
            server
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    if let Some(timeout) = options.timeout {
        builder.options_mut().timeout = timeout;
    }
    builder.build()
}

impl Lookup {
    pub(super) fn new(client: TokioResolver, family: AddressFamily) -> Self {
        Self { client, family, known: HashMap::new() }
    }

    /// The servers that `question` leads to.
    pub(super) async fn ask(&mut self, question: &Question) -> Answer<Found> {
        // Whoever asks here has waited for as long as the answer was good; the client's own cache
        // would keep "no such name" for as long as the zone likes, which can be hours.
        self.client.clear_cache();
        match question {
            Question::Addresses(name) => {
                let (addresses, until) = self.addresses(name, &[]).await?;
                let host: Arc<str> = name.trim_end_matches('.').into();
                let place = |ip| (SocketAddr::new(ip, 0), host.clone(), 1);
                Ok((addresses.into_iter().map(place).collect(), until))
            }
            Question::Service(name) => self.service(name).await,
        }
    }

    /// The servers of the lowest priority that has addresses (RFC 2782); weight 0, a small chance
    /// there, counts as 1.
    async fn service(&mut self, name: &Arc<str>) -> Answer<Found> {
        let answer = self.client.lookup(&**name, RecordType::SRV).await;
        let answer = answer.map_err(|error| Failure::of(name, error))?;
        let mut until = answer.valid_until();
        let mut priorities: BTreeMap<u16, Vec<(Arc<str>, &SRV)>> = BTreeMap::new();
        for record in answer.answers() {
            // A target "." is "decidedly not available".
            if let RData::SRV(srv) = &record.data
                && !srv.target.is_root()
            {
                let target = srv.target.to_string().into();
                priorities.entry(srv.priority).or_default().push((target, srv));
            }
        }
        let named = |known: &Arc<str>| priorities.values().flatten().any(|(name, _)| name == known);
        self.known.retain(|(target, _), _| named(target));
        let mut failure = None;
        for servers in priorities.values() {
            let mut found = BTreeSet::new();
            for (target, srv) in servers {
                let host: Arc<str> = target.trim_end_matches('.').into();
                let weight = u32::from(srv.weight).max(1);
                let place = |ip| (SocketAddr::new(ip, srv.port), host.clone(), weight);
                match self.addresses(target, answer.additionals()).await {
                    Ok((addresses, good)) => {
                        until = until.min(good);
                        found.extend(addresses.into_iter().map(place));
                    }
                    // One target's trouble is not the others'.
                    Err(error) => {
                        tracing::debug!(service = %name, %error, "a target cannot be resolved");
                        let kept = match error {
                            Failure::NotFound(_) => BTreeSet::new(),
                            Failure::Failed(..) => self.last_known(target),
                        };
                        found.extend(kept.into_iter().map(place));
                        until = until.min(Instant::now());
                        failure = Some(error);
                    }
                }
            }
            if !found.is_empty() {
                return Ok((found, until));
            }
        }
        failure.map_or(Ok((BTreeSet::new(), until)), Err)
    }

    /// The addresses of `name` that the family asks for; `extra` may have them already.
    async fn addresses(&mut self, name: &Arc<str>, extra: &[Record]) -> Answer<IpAddr> {
        match self.family {
            AddressFamily::Ipv4 => self.records(name, RecordType::A, extra).await,
            AddressFamily::Ipv6 => self.records(name, RecordType::AAAA, extra).await,
            AddressFamily::Auto => match self.records(name, RecordType::A, extra).await {
                Err(Failure::NotFound(_)) => self.records(name, RecordType::AAAA, extra).await,
                // No answer about A does not mean that there is no A.
                other => other,
            },
            AddressFamily::Both => {
                let v4 = self.records(name, RecordType::A, extra).await;
                let v6 = self.records(name, RecordType::AAAA, extra).await;
                match (v4, v6) {
                    (Ok((mut v4, v4_until)), Ok((v6, v6_until))) => {
                        v4.extend(v6);
                        Ok((v4, v4_until.min(v6_until)))
                    }
                    (Ok(found), Err(Failure::NotFound(_)))
                    | (Err(Failure::NotFound(_)), Ok(found)) => Ok(found),
                    // What failed stays as it was.
                    (Ok((found, until)), Err(_)) | (Err(_), Ok((found, until))) => {
                        Ok((&found | &self.last_known(name), until))
                    }
                    (Err(Failure::NotFound(_)), Err(error)) | (Err(error), Err(_)) => Err(error),
                }
            }
        }
    }

    async fn records(
        &mut self,
        name: &Arc<str>,
        kind: RecordType,
        extra: &[Record],
    ) -> Answer<IpAddr> {
        let answer = match additional(name, kind, extra) {
            Some(answer) => Ok(answer),
            None => match self.client.lookup(&**name, kind).await {
                Ok(answer) => {
                    let addresses = answer.answers().iter().filter_map(address).collect();
                    Ok((addresses, answer.valid_until()))
                }
                Err(error) => Err(Failure::of(name, error)),
            },
        };
        let key = (name.clone(), kind);
        match &answer {
            Ok((addresses, _)) => {
                self.known.insert(key, addresses.clone());
            }
            Err(Failure::NotFound(_)) => {
                self.known.remove(&key);
            }
            Err(Failure::Failed(..)) => {}
        }
        answer
    }

    fn last_known(&self, name: &Arc<str>) -> BTreeSet<IpAddr> {
        let of = |kind| self.known.get(&(name.clone(), kind)).into_iter().flatten().copied();
        of(RecordType::A).chain(of(RecordType::AAAA)).collect()
    }
}

impl Failure {
    fn of(name: &Arc<str>, error: NetError) -> Self {
        if error.is_no_records_found() {
            Self::NotFound(name.clone())
        } else {
            Self::Failed(name.clone(), error)
        }
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    record.data.ip_addr()
}

/// What the additional section of an SRV answer has on `name`, if anything.
fn additional(
    name: &str,
    kind: RecordType,
    extra: &[Record],
) -> Option<(BTreeSet<IpAddr>, Instant)> {
    let name = Name::from_ascii(name).ok()?;
    let of_name = |record: &&Record| record.record_type() == kind && record.name == name;
    let ttl = extra.iter().filter(of_name).map(|record| record.ttl).min()?;
    let addresses = extra.iter().filter(of_name).filter_map(address).collect();
    Some((addresses, Instant::now() + Duration::from_secs(ttl.into())))
}
