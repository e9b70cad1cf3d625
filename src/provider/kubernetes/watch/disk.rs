//! What is known, on disk, for a restart while the API server is away.
//!
//! It holds the Secrets that something refers to, private keys included, for without them nothing
//! could be served by TLS. So the file can be read by its owner alone, and is written only where a
//! directory is given for it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use k8s_openapi::api::core::v1::{self as core, ConfigMap, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{self as networking, IngressClass};
use serde::{Deserialize, Serialize, Serializer};

use super::kind::key_of;
use super::store::by_service;
use crate::provider::kubernetes::slice::Placed;
use crate::provider::kubernetes::{Ingress, Inputs, Key, Service};

/// The file's name.
const FILE: &str = "cluster.json";

/// The layout of the file; others are not read.
const LAYOUT: u32 = 1;

/// Keeps what is known.
pub struct Disk {
    path: PathBuf,
    writer: SyncSender<Inputs>,
}

impl Disk {
    /// Keeps it in `directory`, which is made where it is not there.
    ///
    /// # Errors
    /// If the directory cannot be made, or the thread that writes cannot be started.
    pub fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(FILE);
        let (writer, inbox) = sync_channel::<Inputs>(1);
        let target = path.clone();
        std::thread::Builder::new().name("kube-state".to_owned()).spawn(move || {
            let mut failed = false;
            while let Ok(inputs) = inbox.recv() {
                match write(&target, &inputs) {
                    Ok(()) => failed = false,
                    Err(error) if !failed => {
                        let path = target.display();
                        tracing::error!(%path, %error, "what is known cannot be written down");
                        failed = true;
                    }
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self { path, writer })
    }

    /// What was known when it was last written down; `None` where there is nothing of use.
    pub fn load(&self) -> Option<Inputs> {
        let path = self.path.display();
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%path, %error, "what was known cannot be read");
                return None;
            }
        };
        match serde_json::from_slice::<Stored>(&bytes) {
            Ok(stored) if stored.layout == LAYOUT => Some(stored.into_inputs()),
            Ok(stored) => {
                tracing::warn!(%path, layout = stored.layout, "what was known is in another layout");
                None
            }
            Err(error) => {
                // Not the error's text, which may have a part of the file in it.
                let (line, column) = (error.line(), error.column());
                tracing::warn!(%path, line, column, "what was known cannot be understood");
                None
            }
        }
    }

    /// Writes `inputs` down, soon; false where the disk is too slow to take it yet.
    pub fn keep(&mut self, inputs: &Inputs) -> bool {
        !matches!(self.writer.try_send(inputs.clone()), Err(TrySendError::Full(_)))
    }
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
struct Stored<I = networking::Ingress, V = core::Service, S = EndpointSlice> {
    layout: u32,
    ingresses: Vec<I>,
    classes: Vec<Arc<IngressClass>>,
    services: Vec<V>,
    slices: Vec<S>,
    secrets: Vec<Arc<Secret>>,
    config_maps: Vec<Arc<ConfigMap>>,
}

/// An Ingress with its key: objects are made one by one as they are written.
struct PlacedIngress<'i>((&'i Key, &'i Arc<Ingress>));

impl Serialize for PlacedIngress<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, ingress) = self.0;
        ingress.to_object(key).serialize(serializer)
    }
}

/// The same of a Service.
struct PlacedService<'i>((&'i Key, &'i Arc<Service>));

impl Serialize for PlacedService<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, service) = self.0;
        service.to_object(key).serialize(serializer)
    }
}

impl<'i> Stored<PlacedIngress<'i>, PlacedService<'i>, Placed<'i>> {
    fn new(inputs: &'i Inputs) -> Self {
        let placed = inputs.slices.iter().flat_map(|(service, slices)| {
            slices.iter().map(move |(name, slice)| Placed { service, name, slice })
        });
        Self {
            layout: LAYOUT,
            ingresses: inputs.ingresses.iter().map(PlacedIngress).collect(),
            classes: inputs.classes.values().cloned().collect(),
            services: inputs.services.iter().map(PlacedService).collect(),
            slices: placed.collect(),
            secrets: inputs.secrets.values().cloned().collect(),
            config_maps: inputs.config_maps.values().cloned().collect(),
        }
    }
}

impl Stored {
    fn into_inputs(self) -> Inputs {
        let named = |class: Arc<IngressClass>| {
            let name: Arc<str> = class.metadata.name.as_deref()?.into();
            Some((name, class))
        };
        Inputs {
            ingresses: kept(self.ingresses, |object| key_of(&object.metadata)),
            classes: self.classes.into_iter().filter_map(named).collect(),
            services: kept(self.services, |object| key_of(&object.metadata)),
            slices: by_service(self.slices),
            secrets: keyed(self.secrets, |object| key_of(&object.metadata)),
            config_maps: keyed(self.config_maps, |object| key_of(&object.metadata)),
        }
    }
}

/// Objects as they are kept.
fn kept<O, T: From<O>>(
    objects: Vec<O>,
    key: impl Fn(&O) -> Option<Key>,
) -> std::collections::BTreeMap<Key, Arc<T>> {
    let kept = |object: O| Some((key(&object)?, Arc::new(object.into())));
    objects.into_iter().filter_map(kept).collect()
}

fn keyed<T>(
    objects: Vec<Arc<T>>,
    key: impl Fn(&T) -> Option<Key>,
) -> std::collections::BTreeMap<Key, Arc<T>> {
    objects.into_iter().filter_map(|object| Some((key(&object)?, object))).collect()
}

/// Writes the file as a whole: whoever reads it finds the one before or this one.
fn write(path: &Path, inputs: &Inputs) -> io::Result<()> {
    let aside = path.with_extension("new");
    // One that a process left that was killed may be readable by others.
    let _ = std::fs::remove_file(&aside);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let mut buffered = io::BufWriter::new(file);
    serde_json::to_writer(&mut buffered, &Stored::new(inputs))?;
    buffered.flush()?;
    buffered.get_ref().sync_all()?;
    std::fs::rename(&aside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;
    use crate::provider::kubernetes::slice::SERVICE_NAME;

    #[test]
    fn what_was_written_down_is_read_again_and_nobody_else_can() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("state");
        let disk = Disk::open(&directory).unwrap();
        assert!(disk.load().is_none(), "nothing yet");
        let metadata = json!({ "name": "a", "namespace": "x" });
        let slice = json!({
            "metadata": { "name": "s", "namespace": "x", "labels": { SERVICE_NAME: "a" } },
            "addressType": "IPv4", "endpoints": [],
        });
        let stored = json!({
            "layout": LAYOUT,
            "ingresses": [{ "metadata": metadata, "spec": { "ingressClassName": "c" } }],
            "classes": [{ "metadata": { "name": "c" } }],
            "services": [{ "metadata": metadata }],
            "slices": [slice],
            "secrets": [{ "metadata": metadata, "data": { "tls.key": "aGk=" } }],
            "config_maps": [{ "metadata": metadata }],
        });
        let inputs = serde_json::from_value::<Stored>(stored).unwrap().into_inputs();
        write(&disk.path, &inputs).unwrap();
        write(&disk.path, &inputs).unwrap();
        let mode = std::fs::metadata(&disk.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = disk.load().unwrap();
        assert_eq!(read.ingresses, inputs.ingresses);
        assert_eq!(read.slices.keys().map(Key::to_string).collect::<Vec<_>>(), ["x/a"]);
        assert_eq!(read.secrets, inputs.secrets);
        assert_eq!((read.classes.len(), read.services.len(), read.config_maps.len()), (1, 1, 1));
    }

    #[test]
    fn what_is_no_such_file_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path()).unwrap();
        for text in ["", "{}", "{\"layout\":99,\"ingresses\":[]}"] {
            std::fs::write(&disk.path, text).unwrap();
            assert!(disk.load().is_none(), "{text}");
        }
    }
}
