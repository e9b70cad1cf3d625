//! A watch as it comes in: lines of JSON, each an event.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use serde::Deserialize;

use super::api::{ApiStatus, Fault};
use super::kind::{Object, Watched, keep, key_of};
use crate::provider::kubernetes::Key;

/// The longest line that is taken for an event.
const LONGEST_LINE: usize = 32 << 20;

/// What a watch tells.
pub enum Event {
    /// The object is there, as it is now.
    Set(Key, Object),
    /// The object is gone.
    Gone(Key),
    /// The object cannot be understood: the reason. What was known of it stays.
    Odd(String, String),
    /// Nothing happened up to here.
    Bookmark,
    /// The watch cannot go on.
    Failed(Fault),
}

/// An event and the version after it.
pub struct Step {
    /// What happened.
    pub event: Event,
    /// Where a watch that follows begins; `None` where the event does not tell.
    pub version: Option<String>,
}

/// The events of one watch.
pub struct Events {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer holds no line end.
    searched: usize,
}

impl Events {
    /// The events in `body`.
    pub fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next event; `None` at the end of the watch, which may be in the middle of a line: what
    /// was begun is told again by the next watch.
    ///
    /// Nothing is lost when this is dropped before it is ready.
    pub async fn next<T: Watched>(&mut self) -> Result<Option<Step>, Fault> {
        loop {
            if let Some(line) = self.line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return read::<T>(&line).map(Some);
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(Fault::Malformed("an event without an end".to_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Fault::Unreachable(error.to_string())),
                None => return Ok(None),
            }
        }
    }

    fn line(&mut self) -> Option<BytesMut> {
        let unseen = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end);
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

/// An event with an object of the kind that is watched.
#[derive(Deserialize)]
struct Line<T> {
    #[serde(rename = "type")]
    kind: String,
    object: T,
}

/// The least that an object has.
#[derive(Deserialize)]
struct Bare {
    #[serde(default)]
    metadata: ObjectMeta,
}

fn read<T: Watched>(line: &[u8]) -> Result<Step, Fault> {
    let read = serde_json::from_slice::<Line<serde::de::IgnoredAny>>(line);
    let kind = read.map_err(|error| Fault::Malformed(error.to_string()))?.kind;
    match kind.as_str() {
        "ADDED" | "MODIFIED" | "DELETED" => {}
        "BOOKMARK" => {
            let version = bare(line).and_then(|bare| bare.metadata.resource_version);
            return Ok(Step { event: Event::Bookmark, version });
        }
        "ERROR" => {
            let said = serde_json::from_slice::<Line<ApiStatus>>(line);
            let said = said.map(|line| line.object).unwrap_or_default();
            let event = Event::Failed(Fault::of_status(&said));
            return Ok(Step { event, version: None });
        }
        other => return Err(Fault::Malformed(format!("an event of type {other:?}"))),
    }
    let error = match serde_json::from_slice::<Line<T>>(line) {
        Ok(line) => match keep(line.object) {
            Some((key, version, object)) => {
                let gone = kind == "DELETED";
                let event = if gone { Event::Gone(key) } else { Event::Set(key, object) };
                return Ok(Step { event, version });
            }
            None => "it has no name".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    let metadata = bare(line).map(|bare| bare.metadata).unwrap_or_default();
    let name = key_of(&metadata).map_or_else(|| "?".to_owned(), |key| key.to_string());
    Ok(Step { event: Event::Odd(name, error), version: metadata.resource_version })
}

fn bare(line: &[u8]) -> Option<Bare> {
    serde_json::from_slice::<Line<Bare>>(line).ok().map(|line| line.object)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::Ingress;

    use super::*;

    fn events(parts: &[&str]) -> Vec<String> {
        let bytes: Vec<u8> = parts.concat().into_bytes();
        let mut said = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut events = Events::new(Body::from(bytes));
        loop {
            match runtime.block_on(events.next::<Ingress>()) {
                Ok(None) => return said,
                Err(error) => {
                    said.push(format!("fault {error}"));
                    return said;
                }
                Ok(Some(Step { event, version })) => {
                    let event = match event {
                        Event::Set(key, _) => format!("set {key}"),
                        Event::Gone(key) => format!("gone {key}"),
                        Event::Odd(name, _) => format!("odd {name}"),
                        Event::Bookmark => "bookmark".to_owned(),
                        Event::Failed(fault) => format!("failed {}", fault.status()),
                    };
                    said.push(format!("{event} {}", version.unwrap_or_default()));
                }
            }
        }
    }

    #[test]
    fn every_line_is_an_event_and_a_broken_off_one_is_none() {
        let said = events(&[
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"x","resourceVersion":"1"}}}"#,
            "\n\n",
            r#"{"type":"MODIFIED","object":{"metadata":{"name":"a","namespace":"x","resourceVersion":"2"},"spec":{"rules":7}}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
            "\n",
            r#"{"type":"DELETED","object":{"metadata":{"name":"a","namespace":"x","resourceVersion":"10"}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#,
            "\n",
            r#"{"type":"ADDED","object":{"meta"#,
        ]);
        assert_eq!(said, ["set x/a 1", "odd x/a 2", "bookmark 9", "gone x/a 10", "failed 410 "]);
    }

    #[test]
    fn what_is_no_event_ends_the_watch() {
        for text in ["<html>\n", "{\"type\":\"RENAMED\",\"object\":{}}\n", "[]\n"] {
            let said = events(&[text]);
            assert!(said[0].starts_with("fault"), "{text}: {said:?}");
        }
    }
}
