//! Services as they are kept: what is read of them, and nothing else of the objects, which take
//! eight times as much memory.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

use super::Key;

/// The type of a Service that stands for a name outside.
const EXTERNAL: &str = "ExternalName";

/// What one Service says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "api::Service")]
pub struct Service {
    /// Whether it stands for a name outside.
    pub is_external: bool,
    /// That name.
    pub external_name: Option<Box<str>>,
    /// Its own address in the cluster; `None` for one that is headless.
    pub cluster_ip: Option<IpAddr>,
    /// Its TCP ports.
    pub ports: Box<[Port]>,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; `None` where it has none.
    pub name: Option<Box<str>>,
    /// Its number, whatever it is.
    pub number: i32,
    /// The port of pods that it leads to; `None` where nothing is said.
    pub target: Option<PortTarget>,
}

/// The port of pods that a port of a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortTarget {
    /// By its name.
    Name(Box<str>),
    /// By its number; 0 stands for the number of the Service's port.
    Number(i32),
}

impl From<api::Service> for Service {
    fn from(object: api::Service) -> Self {
        let api::ServiceSpec { ports, type_, external_name, cluster_ip, .. } =
            object.spec.unwrap_or_default();
        Self {
            is_external: type_.as_deref() == Some(EXTERNAL),
            external_name: external_name.map(Into::into),
            cluster_ip: cluster_ip.and_then(|text| text.parse().ok()),
            ports: ports.into_iter().flatten().filter_map(Port::of).collect(),
        }
    }
}

impl Port {
    /// `None` for one that no request can be sent to.
    fn of(port: api::ServicePort) -> Option<Self> {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            return None;
        }
        let target = port.target_port.map(|target| match target {
            IntOrString::Int(number) => PortTarget::Number(number),
            IntOrString::String(name) => PortTarget::Name(name.into()),
        });
        Some(Self { name: port.name.map(Into::into), number: port.port, target })
    }

    fn to_object(&self) -> api::ServicePort {
        let target = self.target.as_ref().map(|target| match target {
            PortTarget::Name(name) => IntOrString::String(name.to_string()),
            PortTarget::Number(number) => IntOrString::Int(*number),
        });
        api::ServicePort {
            name: self.name.as_deref().map(str::to_owned),
            port: self.number,
            target_port: target,
            ..api::ServicePort::default()
        }
    }
}

impl Service {
    /// An object that says the same; for the disk.
    pub fn to_object(&self, key: &Key) -> api::Service {
        api::Service {
            metadata: ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                ..ObjectMeta::default()
            },
            spec: Some(api::ServiceSpec {
                type_: self.is_external.then(|| EXTERNAL.to_owned()),
                external_name: self.external_name.as_deref().map(str::to_owned),
                cluster_ip: self.cluster_ip.map(|ip| ip.to_string()),
                ports: Some(self.ports.iter().map(Port::to_object).collect()),
                ..api::ServiceSpec::default()
            }),
            status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_made_of_a_service_says_the_same() {
        let object = json!({
            "metadata": { "name": "web", "namespace": "x", "labels": { "a": "b" } },
            "spec": {
                "type": "ExternalName", "externalName": "a.example", "clusterIP": "10.96.0.7",
                "ports": [
                    { "port": 53, "protocol": "UDP" }, { "port": 80, "protocol": "TCP" },
                    { "name": "http", "port": 8080, "targetPort": "web" },
                    { "port": 70_000, "targetPort": 0 },
                ],
            },
        });
        let service: Service = serde_json::from_value(object).unwrap();
        assert_eq!(Service::from(service.to_object(&Key::new("x", "web"))), service);
        assert_eq!(
            service.ports.iter().map(|port| port.number).collect::<Vec<_>>(),
            [80, 8080, 70_000]
        );
        assert!(service.is_external && service.cluster_ip.is_some());
        let headless = json!({ "spec": { "clusterIP": "None" } });
        let service: Service = serde_json::from_value(headless).unwrap();
        assert_eq!(service, Service::default());
    }
}
