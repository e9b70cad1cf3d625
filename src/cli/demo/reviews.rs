//! Reviews: what people think of the goods, and a stream of it as it is written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Either;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;

use super::ask::{Ask, Body, Events, full, with_location};
use super::catalog::product;
use super::counter::Store;
use super::page::{escape, stars};

/// The last reviews, newest last, and whoever listens for more.
pub(super) struct Reviews {
    inner: Mutex<Inner>,
    live: broadcast::Sender<Review>,
}

struct Inner {
    reviews: VecDeque<Review>,
    made: u64,
}

#[derive(Clone)]
struct Review {
    id: u64,
    product: &'static str,
    stars: u8,
    text: String,
}

impl Default for Reviews {
    fn default() -> Self {
        let (live, _) = broadcast::channel(64);
        let reviews: VecDeque<Review> = (1..)
            .zip(FIRST)
            .map(|(id, (product, stars, text))| Review { id, product, stars, text: text.into() })
            .collect();
        let made = reviews.len() as u64;
        Self { inner: Mutex::new(Inner { reviews, made }), live }
    }
}

impl Reviews {
    /// The mean of a product's stars.
    pub(super) fn rating(&self, product: &str) -> Option<f64> {
        let inner = self.lock();
        let stars = inner.reviews.iter().filter(|r| r.product == product).map(|r| r.stars);
        let (sum, count) = stars.fold((0.0, 0.0), |(s, n), star| (s + f64::from(star), n + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    fn write(&self, product: &'static str, stars: u8, text: String) -> Review {
        let mut inner = self.lock();
        inner.made += 1;
        let review = Review { id: inner.made, product, stars, text };
        inner.reviews.push_back(review.clone());
        if inner.reviews.len() > MOST_KEPT {
            inner.reviews.pop_front();
        }
        drop(inner);
        // Nobody may be listening.
        let _ = self.live.send(review.clone());
        review
    }

    fn latest(&self, product: Option<&str>) -> Vec<Review> {
        let inner = self.lock();
        let wanted = |review: &&Review| product.is_none_or(|product| product == review.product);
        inner.reviews.iter().rev().filter(wanted).take(MOST_SHOWN).cloned().collect()
    }

    fn find(&self, id: u64) -> Option<Review> {
        self.lock().reviews.iter().find(|review| review.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /reviews` (all or one `product`'s), `POST /reviews`, `GET /reviews/{id}` and
/// `GET /reviews/live`, a stream of server-sent events.
pub(super) fn answer(store: &Store, ask: &Ask) -> Response<Body> {
    match ask.below("/reviews") {
        Some("") if ask.method == Method::POST => write(store, ask),
        Some("") => list(ask, &store.reviews.latest(ask.query("product").as_deref())),
        Some(_) if !ask.reads() => ask.not_allowed("GET, HEAD, OPTIONS"),
        Some("live") => live(store, ask),
        Some(id) => match id.parse().ok().and_then(|id| store.reviews.find(id)) {
            Some(review) => ask.json(StatusCode::OK, review.json()),
            None => ask.not_found(),
        },
        None => ask.not_found(),
    }
}

fn write(store: &Store, ask: &Ask) -> Response<Body> {
    let Some(object) = ask.object() else {
        let message = "send a form or a JSON object with \"product\", \"stars\" and \"text\"";
        return ask.problem(StatusCode::BAD_REQUEST, message);
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let stars = match object.get("stars") {
        Some(Value::String(text)) => text.parse().ok(),
        value => value.and_then(Value::as_u64),
    };
    let stars = stars.and_then(|stars| u8::try_from(stars).ok()).filter(|n| (1..=5).contains(n));
    let unfit = |message| ask.problem(StatusCode::UNPROCESSABLE_ENTITY, message);
    let Some(product) = product(text("product")) else { return unfit("no such product") };
    let Some(stars) = stars else { return unfit("\"stars\" is a number from 1 to 5") };
    if text("text").trim().is_empty() || text("text").len() > LONGEST {
        return unfit("\"text\" has 1 to 500 bytes");
    }
    let review = store.reviews.write(product.id, stars, text("text").trim().to_owned());
    match ask.wants_html() {
        true => ask.see_other("/reviews"),
        false => {
            let path = format!("/reviews/{}", review.id);
            with_location(ask.json(StatusCode::CREATED, review.json()), &path)
        }
    }
}

fn list(ask: &Ask, reviews: &[Review]) -> Response<Body> {
    if !ask.wants_html() {
        let reviews: Vec<Value> = reviews.iter().map(Review::json).collect();
        return ask.json(StatusCode::OK, json!({ "reviews": reviews }));
    }
    let rows: String = reviews
        .iter()
        .map(|review| {
            let stars = stars(f64::from(review.stars));
            let text = escape(&review.text);
            format!("<tr><td>{}<td class=\"rating\">{stars}<td>{text}</tr>", review.product)
        })
        .collect();
    ask.html(StatusCode::OK, "Reviews", &format!("<table>{rows}</table>"))
}

fn live(store: &Store, ask: &Ask) -> Response<Body> {
    let body = match ask.method == Method::HEAD {
        true => full(""),
        false => {
            let (sender, receiver) = mpsc::channel(4);
            let known = store.reviews.latest(None);
            let live = store.reviews.live.subscribe();
            tokio::spawn(tell(Arc::clone(&ask.endpoint), known, live, sender));
            Either::Right(Events(receiver))
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends new reviews as they are written and, each second, an older one, until nobody reads.
async fn tell(
    endpoint: Arc<str>,
    known: Vec<Review>,
    mut live: broadcast::Receiver<Review>,
    sender: mpsc::Sender<Bytes>,
) {
    let mut older = known.iter().rev().cycle();
    let mut tick = tokio::time::interval(BETWEEN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (kind, review) = tokio::select! {
            () = sender.closed() => return,
            _ = tick.tick() => match older.next() {
                Some(review) => ("again", review.clone()),
                None => return,
            },
            review = live.recv() => match review {
                Ok(review) => ("new", review),
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
        };
        let mut data = review.json();
        if let Value::Object(fields) = &mut data {
            fields.insert("endpoint".to_owned(), json!(&*endpoint));
        }
        let event = format!("event: {kind}\nid: {}\ndata: {data}\n\n", review.id);
        if sender.send(event.into()).await.is_err() {
            return;
        }
    }
}

impl Review {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "product": self.product, "stars": self.stars, "text": self.text,
        })
    }
}

const FIRST: [(&str, u8, &str); 8] = [
    ("brass-key", 5, "Opened the gate, the cellar and, by surprise, the neighbour's gate."),
    ("oak-door", 4, "Holds. Creaks politely."),
    ("drawbridge-chain", 3, "Sold in pairs, delivered in halves."),
    ("storm-lantern", 5, "Was lit through the whole migration."),
    ("watchmans-horn", 2, "Three miles is too far at 3 a.m."),
    ("moat-gauge", 4, "Accurate. The moat disagrees."),
    ("visitors-book", 5, "I read it every morning; nobody was lost."),
    ("brass-key", 4, "Shiny."),
];
const MOST_KEPT: usize = 500;
const MOST_SHOWN: usize = 50;
const LONGEST: usize = 500;
const BETWEEN: Duration = Duration::from_secs(1);
