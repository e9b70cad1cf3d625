//! Orders: what was bought.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::ask::{Ask, Body, with_location};
use super::cart::{self, Lines};
use super::counter::Store;
use super::page::money;

/// The last orders, newest last.
#[derive(Default)]
pub(super) struct Orders {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    orders: VecDeque<Order>,
    made: u64,
}

#[derive(Clone)]
struct Order {
    id: u64,
    lines: Lines,
    placed: String,
}

impl Orders {
    fn place(&self, lines: Lines) -> Order {
        let mut inner = self.lock();
        inner.made += 1;
        let placed = httpdate::fmt_http_date(SystemTime::now());
        let order = Order { id: inner.made, lines, placed };
        inner.orders.push_back(order.clone());
        if inner.orders.len() > MOST_KEPT {
            inner.orders.pop_front();
        }
        order
    }

    fn find(&self, id: u64) -> Option<Order> {
        self.lock().orders.iter().find(|order| order.id == id).cloned()
    }

    fn latest(&self) -> Vec<Order> {
        self.lock().orders.iter().rev().take(MOST_SHOWN).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /orders` buys the `lines` of a JSON object or, without a body, the visitor's cart;
/// `GET /orders` and `GET /orders/{id}`.
pub(super) fn answer(store: &Store, ask: &Ask) -> Response<Body> {
    match ask.below("/orders") {
        Some("") if ask.method == Method::POST => place(store, ask),
        Some("") => list(ask, &store.orders.latest()),
        Some(id) if ask.reads() => match id.parse().ok().and_then(|id| store.orders.find(id)) {
            Some(order) => show(ask, StatusCode::OK, &order),
            None => ask.not_found(),
        },
        Some(_) => ask.not_allowed("GET, HEAD, OPTIONS"),
        None => ask.not_found(),
    }
}

fn place(store: &Store, ask: &Ask) -> Response<Body> {
    let lines = match wanted(store, ask) {
        Ok(lines) => lines,
        Err((status, message)) => return ask.problem(status, message),
    };
    if lines.is_empty() {
        let message = "nothing to order: fill the cart, or send {\"lines\":[{\"product\":…}]}";
        return ask.problem(StatusCode::UNPROCESSABLE_ENTITY, message);
    }
    let order = store.orders.place(lines);
    let path = format!("/orders/{}", order.id);
    match ask.wants_html() {
        true => ask.see_other(&path),
        false => with_location(show(ask, StatusCode::CREATED, &order), &path),
    }
}

fn wanted(store: &Store, ask: &Ask) -> Result<Lines, (StatusCode, &'static str)> {
    if ask.body.is_empty() {
        return Ok(store.carts.take(ask));
    }
    let object = ask.object();
    let Some(list) = object.as_ref().and_then(|o| o.get("lines")).and_then(Value::as_array) else {
        return Err((StatusCode::BAD_REQUEST, "send a JSON object with \"lines\", or no body"));
    };
    let mut lines = Lines::new();
    for line in list {
        let line = cart::parse_line(line);
        let (id, quantity) = line.map_err(|message| (StatusCode::UNPROCESSABLE_ENTITY, message))?;
        let sum = lines.entry(id).or_default();
        *sum = sum.saturating_add(quantity);
    }
    Ok(lines)
}

fn list(ask: &Ask, orders: &[Order]) -> Response<Body> {
    if !ask.wants_html() {
        let orders: Vec<Value> = orders.iter().map(Order::json).collect();
        return ask.json(StatusCode::OK, json!({ "orders": orders }));
    }
    let rows: String = orders
        .iter()
        .map(|order| {
            let (id, total) = (order.id, money(cart::total(&order.lines)));
            format!("<tr><td><a href=\"/orders/{id}\">{id}</a><td>{}<td>{total}</tr>", order.placed)
        })
        .collect();
    let body = match rows.is_empty() {
        true => "<p>Nobody has ordered anything yet.</p>".to_owned(),
        false => format!("<table>{rows}</table>"),
    };
    ask.html(StatusCode::OK, "Orders", &body)
}

fn show(ask: &Ask, status: StatusCode, order: &Order) -> Response<Body> {
    if !ask.wants_html() {
        return ask.json(status, order.json());
    }
    let body = format!("<p>Placed {}.</p>{}", order.placed, cart::lines_table(&order.lines));
    ask.html(status, &format!("Order {}", order.id), &body)
}

impl Order {
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "placed": self.placed,
            "lines": cart::lines_json(&self.lines),
            "total_cents": cart::total(&self.lines),
        })
    }
}

const MOST_KEPT: usize = 500;
const MOST_SHOWN: usize = 50;
