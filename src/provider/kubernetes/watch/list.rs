//! Lists, page by page.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use serde::Deserialize;
use serde_json::Value;

use super::api::{Api, Fault};
use super::kind::{Object, Watched, keep, key_of};
use crate::provider::kubernetes::Key;

/// Objects on one page.
const PAGE: usize = 500;

/// All objects of a kind at one moment.
pub struct List {
    /// The objects.
    pub objects: Vec<(Key, Object)>,
    /// Those that are there and could not be understood, by name, and why.
    pub odd: Vec<(Option<Key>, String)>,
    /// Where a watch that follows begins.
    pub version: String,
}

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Option::default")]
    items: Option<Vec<T>>,
}

/// The list at `path`, complete, or nothing. `query` narrows it.
pub async fn list<T: Watched>(api: &Api, path: &str, query: &str) -> Result<List, Fault> {
    let mut limit = Some(PAGE);
    loop {
        match pages::<T>(api, path, query, limit).await {
            // The pages were read too slowly: their moment is past. The second time all is asked
            // for at once.
            Err(fault) if fault.status() == 410 && limit.is_some() => limit = None,
            other => return other,
        }
    }
}

async fn pages<T: Watched>(
    api: &Api,
    path: &str,
    query: &str,
    limit: Option<usize>,
) -> Result<List, Fault> {
    let mut all = List { objects: Vec::new(), odd: Vec::new(), version: String::new() };
    let mut next = String::new();
    loop {
        let asked = page_query(limit, &next, query);
        let body = api.ask(http::Method::GET, &format!("{path}?{asked}"), None).await?;
        let metadata = match serde_json::from_slice::<Page<T>>(&body) {
            Ok(page) => {
                for object in page.items.unwrap_or_default() {
                    match keep(object) {
                        Some((key, _, object)) => all.objects.push((key, object)),
                        None => all.odd.push((None, "it has no name".to_owned())),
                    }
                }
                page.metadata
            }
            Err(_) => one_by_one::<T>(&body, &mut all)?,
        };
        all.version = metadata.resource_version.unwrap_or_default();
        next = metadata.continue_.unwrap_or_default();
        if next.is_empty() {
            return Ok(all);
        }
    }
}

fn page_query(limit: Option<usize>, next: &str, selector: &str) -> String {
    let mut asked = form_urlencoded::Serializer::new(String::new());
    if let Some(limit) = limit {
        asked.append_pair("limit", &limit.to_string());
    }
    for (name, value) in [("continue", next), ("fieldSelector", selector)] {
        if !value.is_empty() {
            asked.append_pair(name, value);
        }
    }
    asked.finish()
}

/// A page with an object on it that cannot be understood: the others can.
fn one_by_one<T: Watched>(body: &[u8], all: &mut List) -> Result<ListMeta, Fault> {
    let page = serde_json::from_slice::<Page<Value>>(body);
    let page = page.map_err(|error| Fault::Malformed(error.to_string()))?;
    for item in page.items.unwrap_or_default() {
        let metadata = item.get("metadata").cloned().unwrap_or_default();
        match serde_json::from_value::<T>(item).map(keep) {
            Ok(Some((key, _, object))) => all.objects.push((key, object)),
            Ok(None) => all.odd.push((None, "it has no name".to_owned())),
            Err(error) => {
                let metadata = serde_json::from_value::<ObjectMeta>(metadata).unwrap_or_default();
                all.odd.push((key_of(&metadata), error.to_string()));
            }
        }
    }
    Ok(page.metadata)
}
