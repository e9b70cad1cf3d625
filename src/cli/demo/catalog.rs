//! The catalog: what there is to buy.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::ask::{Ask, Body};
use super::page::{escape, money};

/// Something to buy.
pub(super) struct Product {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) cents: u64,
    pub(super) about: &'static str,
}

/// The product of that id.
pub(super) fn product(id: &str) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.id == id)
}

/// `/products` (all, or those whose name or text contains `q`) and `/products/{id}`.
pub(super) fn answer(ask: &Ask) -> Response<Body> {
    match ask.below("/products") {
        Some("") => list(ask),
        Some(id) => match product(id) {
            Some(product) => detail(ask, product),
            None => ask.not_found(),
        },
        None => ask.not_found(),
    }
}

fn list(ask: &Ask) -> Response<Body> {
    let wanted = ask.query("q").unwrap_or_default().to_lowercase();
    let found = PRODUCTS.iter().filter(|product| {
        product.name.to_lowercase().contains(&wanted) || product.about.contains(&wanted)
    });
    if !ask.wants_html() {
        let products: Vec<Value> = found.map(Product::json).collect();
        return ask.json(StatusCode::OK, json!({ "products": products }));
    }
    let rows: String = found
        .map(|product| {
            let Product { id, name, cents, about } = product;
            let price = money(*cents);
            format!("<tr><td><a href=\"/products/{id}\">{name}</a><td>{about}<td>{price}</tr>")
        })
        .collect();
    ask.html(StatusCode::OK, "Products", &format!("<table>{rows}</table>"))
}

fn detail(ask: &Ask, product: &Product) -> Response<Body> {
    if !ask.wants_html() {
        return ask.json(StatusCode::OK, product.json());
    }
    let body = format!(
        "<p>{}</p><p class=\"price\">{}</p>{}<p><a href=\"/reviews?product={}\">Reviews</a></p>",
        escape(product.about),
        money(product.cents),
        product.buy_button(),
        product.id,
    );
    ask.html(StatusCode::OK, product.name, &body)
}

impl Product {
    fn json(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "price_cents": self.cents, "about": self.about,
        })
    }

    /// The form that puts one into the cart.
    pub(super) fn buy_button(&self) -> String {
        format!(
            "<form method=\"post\" action=\"/cart\"><input type=\"hidden\" name=\"product\" \
             value=\"{}\"><button>Add to cart</button></form>",
            self.id
        )
    }
}

pub(super) const PRODUCTS: [Product; 8] = [
    Product {
        id: "brass-key",
        name: "Brass key",
        cents: 1250,
        about: "opens most of the doors sold here",
    },
    Product {
        id: "oak-door",
        name: "Oak door",
        cents: 34900,
        about: "two leaves, iron studs, opinionated about visitors",
    },
    Product {
        id: "drawbridge-chain",
        name: "Drawbridge chain",
        cents: 8900,
        about: "twelve metres; sold in pairs",
    },
    Product {
        id: "storm-lantern",
        name: "Storm lantern",
        cents: 4200,
        about: "burns through any outage",
    },
    Product {
        id: "watchmans-horn",
        name: "Watchman's horn",
        cents: 2750,
        about: "one note, heard for three miles",
    },
    Product {
        id: "moat-gauge",
        name: "Moat gauge",
        cents: 1990,
        about: "enamel scale with a red line you hope never to need",
    },
    Product {
        id: "visitors-book",
        name: "Visitors' book",
        cents: 1600,
        about: "four hundred ruled pages: who came, when, and how long it took",
    },
    Product {
        id: "heraldic-banner",
        name: "Heraldic banner",
        cents: 5600,
        about: "your arms on linen; a portcullis if you have none",
    },
];
