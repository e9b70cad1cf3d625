//! The storefront: one page made of what the other departments know.

use http::{Response, StatusCode};

use super::ask::{Ask, Body};
use super::catalog::PRODUCTS;
use super::counter::Store;
use super::page::{Accent, escape, money, stars};

/// `/`, in the colours of the current storefront or of the next one.
pub(super) fn answer(store: &Store, ask: &Ask, next: bool) -> Response<Body> {
    if ask.path != "/" {
        return ask.not_found();
    }
    let in_cart: u32 = store.carts.lines(ask).values().sum();
    let greeting = match next {
        true => "<p><span class=\"badge\">the new storefront</span> One visit in ten comes here.",
        false => "<p>Everything for the gate: keys, chains, lanterns.",
    };
    let cards: String = PRODUCTS
        .iter()
        .map(|product| {
            let rating = match store.reviews.rating(product.id) {
                Some(rating) => stars(rating),
                None => "not rated yet".to_owned(),
            };
            format!(
                "<section class=\"card\"><h2><a href=\"/products/{id}\">{name}</a></h2>\
                 <p>{about}</p><p><span class=\"price\">{price}</span> \
                 <span class=\"rating\">{rating}</span></p>{button}</section>\n",
                id = product.id,
                name = escape(product.name),
                about = escape(product.about),
                price = money(product.cents),
                button = product.buy_button(),
            )
        })
        .collect();
    let body = format!(
        "{greeting} Your cart holds {in_cart}. <a href=\"/reviews/live\">Reviews as they \
         come</a>.</p>\n<div class=\"grid\">{cards}</div>"
    );
    let accent = if next { Accent::Next } else { Accent::Current };
    ask.accented(StatusCode::OK, "Welcome", &body, accent)
}
