//! The cart: what a visitor, known by a cookie, wants to buy.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::SET_COOKIE;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::ask::{Ask, Body, full};
use super::catalog::product;
use super::counter::Store;
use super::page::{escape, money};

/// Product ids and how many of each.
pub(super) type Lines = BTreeMap<&'static str, u32>;

/// All carts, the oldest forgotten first.
#[derive(Default)]
pub(super) struct Carts {
    inner: Mutex<Inner>,
    random: RandomState,
}

#[derive(Default)]
struct Inner {
    carts: HashMap<String, Lines>,
    oldest: VecDeque<String>,
    made: u64,
}

impl Carts {
    /// What the visitor's cart holds.
    pub(super) fn lines(&self, ask: &Ask) -> Lines {
        let inner = self.lock();
        ask.cookie(COOKIE_NAME).and_then(|id| inner.carts.get(id)).cloned().unwrap_or_default()
    }

    /// Empties the visitor's cart and hands over what it held.
    pub(super) fn take(&self, ask: &Ask) -> Lines {
        let mut inner = self.lock();
        let cart = ask.cookie(COOKIE_NAME).and_then(|id| inner.carts.get_mut(id));
        cart.map(std::mem::take).unwrap_or_default()
    }

    /// Adds to the visitor's cart; the id of a new cart where there was none.
    fn add(&self, ask: &Ask, id: &'static str, quantity: u32) -> Option<String> {
        let mut inner = self.lock();
        let known = ask.cookie(COOKIE_NAME).filter(|cookie| inner.carts.contains_key(*cookie));
        // An id the shop did not make is not taken over: a visitor cannot choose one for another.
        let (cookie, new) = match known {
            Some(cookie) => (cookie.to_owned(), None),
            None => {
                inner.made += 1;
                let halves = [0, 1].map(|half| self.random.hash_one((inner.made, half)));
                let cookie = format!("{:016x}{:016x}", halves[0], halves[1]);
                inner.oldest.push_back(cookie.clone());
                (cookie.clone(), Some(cookie))
            }
        };
        let line = inner.carts.entry(cookie).or_default().entry(id).or_default();
        *line = line.saturating_add(quantity).min(MOST_OF_ONE);
        if inner.oldest.len() > MOST_CARTS
            && let Some(oldest) = inner.oldest.pop_front()
        {
            inner.carts.remove(&oldest);
        }
        new
    }

    fn remove(&self, ask: &Ask, id: &str) -> bool {
        let mut inner = self.lock();
        let cart = ask.cookie(COOKIE_NAME).and_then(|cookie| inner.carts.get_mut(cookie));
        cart.is_some_and(|lines| lines.remove(id).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /cart`; `POST /cart` adds `product` (and `quantity`); `DELETE /cart` empties it,
/// `DELETE /cart/{product}` takes one product out.
pub(super) fn answer(store: &Store, ask: &Ask) -> Response<Body> {
    match ask.below("/cart") {
        Some("") if ask.reads() => show(ask, StatusCode::OK, &store.carts.lines(ask)),
        Some("") if ask.method == Method::POST => add(store, ask),
        Some("") => {
            store.carts.take(ask);
            no_content()
        }
        Some(id) if ask.method == Method::DELETE => match store.carts.remove(ask, id) {
            true => no_content(),
            false => ask.not_found(),
        },
        Some(_) => ask.not_allowed("DELETE, OPTIONS"),
        None => ask.not_found(),
    }
}

fn add(store: &Store, ask: &Ask) -> Response<Body> {
    let Some(line) = ask.object() else {
        let message = "send a form or a JSON object with \"product\" and perhaps \"quantity\"";
        return ask.problem(StatusCode::BAD_REQUEST, message);
    };
    let (id, quantity) = match parse_line(&line) {
        Ok(line) => line,
        Err(message) => return ask.problem(StatusCode::UNPROCESSABLE_ENTITY, message),
    };
    let new = store.carts.add(ask, id, quantity);
    let mut response = match ask.wants_html() {
        true => ask.see_other("/cart"),
        false => match &new {
            // The request's cookie does not name the new cart yet.
            Some(_) => show(ask, StatusCode::OK, &Lines::from([(id, quantity)])),
            None => show(ask, StatusCode::OK, &store.carts.lines(ask)),
        },
    };
    if let Some(id) = new {
        let cookie = format!("{COOKIE_NAME}={id}; Path=/; HttpOnly; SameSite=Lax; Max-Age=86400");
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(SET_COOKIE, value);
        }
    }
    response
}

/// A product id and a quantity (1 where none is given) out of a JSON object or a form.
pub(super) fn parse_line(line: &Value) -> Result<(&'static str, u32), &'static str> {
    let id = line.get("product").and_then(Value::as_str).ok_or("which \"product\"?")?;
    let product = product(id).ok_or("no such product; see /products")?;
    let quantity = match line.get("quantity") {
        None => Some(1),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().and_then(|n| u32::try_from(n).ok()),
    };
    match quantity {
        Some(n @ 1..=MOST_OF_ONE) => Ok((product.id, n)),
        _ => Err("\"quantity\" is a number from 1 to 99"),
    }
}

/// The lines as JSON.
pub(super) fn lines_json(lines: &Lines) -> Value {
    lines.iter().map(|(id, quantity)| json!({ "product": id, "quantity": quantity })).collect()
}

/// What the lines cost.
pub(super) fn total(lines: &Lines) -> u64 {
    let cents = |id: &str| product(id).map_or(0, |product| product.cents);
    lines.iter().map(|(id, quantity)| cents(id) * u64::from(*quantity)).sum()
}

/// The lines as an HTML table.
pub(super) fn lines_table(lines: &Lines) -> String {
    let rows: String = lines
        .iter()
        .filter_map(|(id, quantity)| Some((product(id)?, quantity)))
        .map(|(product, quantity)| {
            let price = money(product.cents * u64::from(*quantity));
            format!("<tr><td>{}<td>{quantity}<td>{price}</tr>", escape(product.name))
        })
        .collect();
    format!("<table>{rows}<tr><th>Total<th><th>{}</tr></table>", money(total(lines)))
}

fn show(ask: &Ask, status: StatusCode, lines: &Lines) -> Response<Body> {
    if !ask.wants_html() {
        let fields = json!({ "lines": lines_json(lines), "total_cents": total(lines) });
        return ask.json(status, fields);
    }
    let body = match lines.is_empty() {
        true => "<p>Your cart is empty.</p>".to_owned(),
        false => format!(
            "{}<form method=\"post\" action=\"/orders\"><button>Order</button></form>",
            lines_table(lines)
        ),
    };
    ask.html(status, "Cart", &body)
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

const COOKIE_NAME: &str = "shop_cart";
const MOST_CARTS: usize = 1000;
const MOST_OF_ONE: u32 = 99;
