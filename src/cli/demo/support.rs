//! Support: a room people talk in over WebSocket (RFC 6455). Text goes to everyone in the room,
//! the sender too; binary messages come back to their sender as they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;

use super::ask::{Ask, Body, full};
use super::counter::Store;
use super::frame::{self, Decoder, Message, Violation};

/// The room: whoever is in it hears what is said.
pub(super) struct Room {
    said: broadcast::Sender<Arc<str>>,
    seats: Arc<Semaphore>,
    visitors: AtomicU64,
}

impl Default for Room {
    fn default() -> Self {
        let (said, _) = broadcast::channel(64);
        Self { said, seats: Arc::new(Semaphore::new(SEATS)), visitors: AtomicU64::new(0) }
    }
}

/// `GET /support`: a WebSocket where asked for, else a page that opens one.
pub(super) fn answer(store: &Store, ask: Ask) -> Response<Body> {
    if ask.below("/support") != Some("") {
        return ask.not_found();
    }
    if lists(&ask, UPGRADE, "websocket") {
        return enter(&store.support, ask);
    }
    if ask.wants_html() {
        return ask.html(StatusCode::OK, "Support", PAGE);
    }
    upgrade_required(&ask, "this is a WebSocket: ask for an upgrade")
}

fn enter(room: &Room, ask: Ask) -> Response<Body> {
    let asked = ask.method == Method::GET
        && ask.version == Version::HTTP_11
        && lists(&ask, CONNECTION, "upgrade");
    let key = ask.header(SEC_WEBSOCKET_KEY.as_str());
    if !asked || !STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        return ask.problem(StatusCode::BAD_REQUEST, "that is no WebSocket handshake");
    }
    if ask.header(SEC_WEBSOCKET_VERSION.as_str()) != "13" {
        return upgrade_required(&ask, "only version 13 of the WebSocket protocol");
    }
    let Ok(seat) = Arc::clone(&room.seats).try_acquire_owned() else {
        return ask.problem(StatusCode::SERVICE_UNAVAILABLE, "the room is full");
    };
    let Ok(accept) = HeaderValue::from_str(&accept(key)) else {
        return ask.problem(StatusCode::BAD_REQUEST, "that is no WebSocket handshake");
    };
    let visitor = Visitor {
        endpoint: Arc::clone(&ask.endpoint),
        number: room.visitors.fetch_add(1, Ordering::Relaxed) + 1,
        said: room.said.clone(),
        _seat: seat,
    };
    tokio::spawn(visitor.stay(ask.upgrade));
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn upgrade_required(ask: &Ask, message: &str) -> Response<Body> {
    let mut response = ask.problem(StatusCode::UPGRADE_REQUIRED, message);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// Whether a list header names `token`.
fn lists(ask: &Ask, name: HeaderName, token: &str) -> bool {
    let values = ask.headers.get_all(name);
    let mut tokens = values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    tokens.any(|each| each.trim().eq_ignore_ascii_case(token))
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// One open WebSocket.
struct Visitor {
    endpoint: Arc<str>,
    number: u64,
    said: broadcast::Sender<Arc<str>>,
    /// Given back when the visitor leaves.
    _seat: OwnedSemaphorePermit,
}

type Reader = ReadHalf<TokioIo<Upgraded>>;
type Writer = WriteHalf<TokioIo<Upgraded>>;

impl Visitor {
    async fn stay(self, upgrade: OnUpgrade) {
        let Ok(Ok(upgraded)) = tokio::time::timeout(WRITE_TIME, upgrade).await else { return };
        let (reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let code = self.talk(reader, &mut writer).await;
        if let Some(code) = code {
            let _ = write(&mut writer, &frame::close(code)).await;
            let _ = tokio::time::timeout(WRITE_TIME, writer.shutdown()).await;
        }
    }

    /// Talks until the end; the code to close with, `None` where the connection is gone.
    async fn talk(&self, mut reader: Reader, writer: &mut Writer) -> Option<u16> {
        let mut heard = self.said.subscribe();
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        let mut last = Instant::now();
        write(writer, &frame::text(&self.say("welcome"))).await?;
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => {
                    let count = read.ok().filter(|count| *count > 0)?;
                    last = Instant::now();
                    decoder.push(buffer.get(..count)?);
                    if let Some(code) = self.hear(&mut decoder, writer).await? {
                        return Some(code);
                    }
                }
                said = heard.recv() => match said {
                    Ok(text) => write(writer, &frame::text(&text)).await?,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Some(GOING_AWAY),
                },
                _ = ping.tick() => {
                    if last.elapsed() > SILENCE {
                        return Some(GOING_AWAY);
                    }
                    write(writer, &frame::ping()).await?;
                }
            }
        }
    }

    /// Acts on every whole message; `None` where the connection is gone, else the code to close
    /// with, if any.
    async fn hear(&self, decoder: &mut Decoder, writer: &mut Writer) -> Option<Option<u16>> {
        loop {
            match decoder.message() {
                Ok(None) => return Some(None),
                Ok(Some(Message::Binary(content))) => {
                    write(writer, &frame::binary(&content)).await?;
                }
                Ok(Some(Message::Close(code))) => return Some(Some(code.unwrap_or(NORMAL))),
                Ok(Some(Message::Ping(content))) => write(writer, &frame::pong(&content)).await?,
                Ok(Some(Message::Pong)) => {}
                Ok(Some(Message::Text(text))) => {
                    let _ = self.said.send(self.say(&text).into());
                }
                Err(violation) => return Some(Some(code(violation))),
            }
        }
    }

    fn say(&self, text: &str) -> String {
        let from = format!("visitor {}", self.number);
        json!({ "endpoint": &*self.endpoint, "from": from, "text": text }).to_string()
    }
}

fn code(violation: Violation) -> u16 {
    violation as u16
}

async fn write(writer: &mut Writer, frame: &[u8]) -> Option<()> {
    let write = async {
        writer.write_all(frame).await?;
        writer.flush().await
    };
    tokio::time::timeout(WRITE_TIME, write).await.ok()?.ok()
}

const SEATS: usize = 1024;
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);
const WRITE_TIME: Duration = Duration::from_secs(10);

const PAGE: &str = "<p>Say something; open this page twice to hear yourself elsewhere.</p>\
<ul id=\"log\"></ul><form id=\"form\"><input id=\"say\" autocomplete=\"off\" \
placeholder=\"Say it here, then press Enter\"></form>\
<script>const log=document.getElementById('log'),say=document.getElementById('say');\
const show=t=>{const li=document.createElement('li');li.textContent=t;log.append(li);\
log.scrollTop=log.scrollHeight};\
const ws=new WebSocket(location.href.replace(/^http/,'ws'));\
ws.onmessage=e=>{const m=JSON.parse(e.data);show(m.from+' via '+m.endpoint+': '+m.text)};\
ws.onclose=e=>show('closed ('+e.code+')');\
document.getElementById('form').onsubmit=e=>{e.preventDefault();\
if(say.value){ws.send(say.value);say.value=''}};</script>";
