//! A configuration out of files, compiled as `run` would, without sockets and DNS. Files that are
//! Kubernetes manifests count as a cluster that has these objects, or stand over those of a real one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Failure, output};
use crate::control::merge;
use crate::ir::{EndpointAddress, EndpointSpec, Fragment, Name, Problem, Severity, Upstream};
use crate::provider::file::{self, Inputs};
use crate::provider::kubernetes::{self, Access, Manifests, Options, Translation};
use crate::snapshot::{Compiler, Snapshot};
use crate::telemetry::Metrics;
use crate::tls::TlsShared;
use crate::upstream::{Environment, Registry, Target};

/// What files say and come to.
pub struct Offline {
    /// What was read.
    inputs: Inputs,
    /// The objects of Kubernetes, and what they mean.
    pub manifests: Option<(Manifests, Translation)>,
    /// Everything that is wrong or odd.
    pub problems: Vec<Problem>,
    /// What would be served; `None` where the files are of no use as they are.
    pub snapshot: Option<Snapshot>,
}

impl Offline {
    /// Loads and compiles `paths`, files and directories.
    ///
    /// # Errors
    /// Only if TLS cannot be set up; what is wrong with the files is in the problems.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Failure> {
        Self::load_with(paths, Options::offline(), None)
    }

    /// The same with what `options` say of manifests, and beside the objects of a `cluster`.
    ///
    /// # Errors
    /// If TLS cannot be set up, or the cluster cannot be read.
    pub fn load_with(
        paths: &[PathBuf],
        options: Options,
        cluster: Option<Access>,
    ) -> Result<Self, Failure> {
        let inputs = file::load(paths, &file::environment());
        let mut configuration = inputs.clone();
        let manifests = objects(&mut configuration, options, cluster)?;
        let translation = file::translate(&configuration);
        let mut problems = translation.problems;
        let mut fragments = vec![Arc::new(translation.fragment)];
        let mut known = Default::default();
        if let Some((manifests, translation)) = &manifests {
            let located = translation.problems.iter().cloned().map(|p| manifests.locate(p));
            problems.extend(manifests.problems.iter().cloned().chain(located));
            fragments.push(Arc::new(translation.fragment.clone()));
            known = Arc::clone(&translation.endpoints);
        }
        let nothing = |fragment: &Arc<Fragment>| fragment.listeners.is_empty();
        if translation.usable && fragments.iter().all(nothing) {
            let problem = Problem::warning("there is no listener, so nothing is served");
            problems.push(problem.hint("add `listeners: { web: { bind: \":8080\" } }`"));
        }
        if !translation.usable {
            return Ok(Self { inputs, manifests, problems, snapshot: None });
        }
        let (config, mut conflicts) = merge(&fragments);
        problems.append(&mut conflicts);
        let metrics = Metrics::new(1);
        let zone = config.settings.zone.clone();
        let environment = Environment::new(1, 0).in_zone(zone);
        let registry = Arc::new(Registry::new(metrics.clone(), environment));
        let tls = TlsShared::new().map_err(Failure::runtime)?;
        let mut compiler = Compiler::new(metrics, registry, tls, 1);
        let targets = |name: &Name, upstream: &Upstream| {
            targets(known.get(name).map_or(&upstream.endpoints, |list| &**list))
        };
        let snapshot = compiler.compile(Arc::new(config), None, targets);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let validity = snapshot.validity(now.as_secs().cast_signed());
        for problem in snapshot.problems.iter().chain(&validity) {
            let problem = match &manifests {
                Some((manifests, _)) => manifests.locate(problem.clone()),
                None => problem.clone(),
            };
            // The provider may have said the same of the same thing.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        Ok(Self { inputs, manifests, problems, snapshot: Some(snapshot) })
    }

    /// As [`Offline::load_with`] of files alone, for those who need the snapshot: what is wrong is
    /// told on standard error.
    ///
    /// # Errors
    /// If the configuration cannot be served at all.
    pub fn compiled(paths: &[PathBuf], options: Options) -> Result<Snapshot, Failure> {
        let offline = Self::load_with(paths, options, None)?;
        let report = offline.report(output::colored(&std::io::stderr()));
        match offline.snapshot {
            Some(snapshot) => {
                eprint!("{report}");
                Ok(snapshot)
            }
            None => Err(Failure::config(report)),
        }
    }

    /// Whether nothing is wrong; oddities are fine.
    pub fn is_valid(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }

    /// The same without what is told of each Ingress.
    pub fn report_beside_ingresses(&self, color: bool) -> String {
        let told = |problem: &&Problem| {
            problem.origin.as_ref().is_some_and(|origin| {
                origin.kind.as_str() == "Ingress" && origin.rule.as_str().is_empty()
            })
        };
        let others: Vec<_> = self.problems.iter().filter(|p| !told(p)).cloned().collect();
        file::render(&others, &self.inputs, color)
    }

    /// The problems with excerpts; empty where there are none.
    pub fn report(&self, color: bool) -> String {
        file::render(&self.problems, &self.inputs, color)
    }
}

/// Takes the manifests out of `inputs`, if there are any, and translates them, over the objects of
/// the cluster where there is one.
fn objects(
    inputs: &mut Inputs,
    mut options: Options,
    cluster: Option<Access>,
) -> Result<Option<(Manifests, Translation)>, Failure> {
    let files = inputs.take_out(kubernetes::is_manifest);
    if files.is_empty() && cluster.is_none() {
        return Ok(None);
    }
    let mut manifests = Manifests::default();
    for (file, text) in &files {
        manifests.add(file, text);
    }
    if let Some(access) = cluster {
        let seen = kubernetes::look(access, &manifests.inputs, &options);
        let seen = seen.map_err(Failure::runtime)?;
        manifests.inputs = seen.inputs;
        manifests.problems.extend(seen.problems);
        options.unread = seen.unread;
    }
    let translation = kubernetes::translate(&manifests.inputs, &options);
    Ok(Some((manifests, translation)))
}

/// Endpoints by address; names stay unresolved.
fn targets(endpoints: &[EndpointSpec]) -> Vec<Target> {
    let targets = endpoints.iter().filter_map(|endpoint| match endpoint.address {
        EndpointAddress::Socket(address) => Some(Target::new(address, None, endpoint)),
        EndpointAddress::Dns { .. } | EndpointAddress::Srv(_) => None,
    });
    targets.collect()
}
