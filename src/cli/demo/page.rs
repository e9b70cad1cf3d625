//! The shop's HTML: one frame for every page, nothing loaded from elsewhere.

use super::ask::Ask;

/// Whose colours a page wears; the two storefronts differ so that a split can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accent {
    Current,
    Next,
}

/// A whole page; `body` is HTML, `title` is text.
pub(super) fn page(ask: &Ask, title: &str, body: &str, accent: Accent) -> String {
    let scheme = match ask.header("x-forwarded-proto") {
        "" => "directly",
        proto => proto,
    };
    let request_id = match ask.header("x-request-id") {
        "" => String::new(),
        id => format!(" · request <code>{}</code>", escape(id)),
    };
    let (light, dark) = match accent {
        Accent::Current => ("#8a4b16", "#e8a262"),
        Accent::Next => ("#13636e", "#5cc5d3"),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <link rel=\"icon\" href=\"data:,\">\
         <title>{title} · The Gatehouse</title><style>{STYLE}\
         :root{{--accent:{light}}}\
         @media(prefers-color-scheme:dark){{:root{{--accent:{dark}}}}}</style></head>\n\
         <body><header><a class=\"name\" href=\"/\">The Gatehouse</a><nav>\
         <a href=\"/products\">Products</a><a href=\"/cart\">Cart</a>\
         <a href=\"/orders\">Orders</a><a href=\"/reviews\">Reviews</a>\
         <a href=\"/support\">Support</a></nav></header>\n\
         <main><h1>{title}</h1>\n{body}\n</main>\n\
         <footer>answered by <code>{endpoint}</code> · over {scheme}{request_id}</footer>\
         </body></html>\n",
        title = escape(title),
        endpoint = escape(&ask.endpoint),
        scheme = escape(scheme),
    )
}

/// Text as HTML text or attribute value.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// An amount of cents as people write it.
pub(super) fn money(cents: u64) -> String {
    format!("€ {}.{:02}", cents / 100, cents % 100)
}

/// Five stars, of which `stars` (rounded) are full.
pub(super) fn stars(stars: f64) -> String {
    let full = (1..=5).filter(|n| f64::from(*n) - 0.5 <= stars).count();
    "★".repeat(full) + &"☆".repeat(5 - full)
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#22201c;--paper:#faf7f2;--card:#fff;--line:#ddd4c6}\
@media(prefers-color-scheme:dark){:root{--ink:#ece7df;--paper:#191713;--card:#24211c;--line:#3d372e}}\
*{box-sizing:border-box}body{margin:0;font:16px/1.5 system-ui,sans-serif;color:var(--ink);\
background:var(--paper)}header,main,footer{max-width:60rem;margin:0 auto;padding:1rem}\
header{display:flex;flex-wrap:wrap;gap:1rem;align-items:baseline;border-bottom:1px solid var(--line)}\
.name{font-weight:700;font-size:1.2rem}nav{display:flex;flex-wrap:wrap;gap:1rem}\
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}\
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));padding:0}\
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem}\
.card h2{margin:0;font-size:1.05rem}.price{font-weight:700}.rating{color:var(--accent)}\
button{font:inherit;color:var(--paper);background:var(--accent);border:0;border-radius:.4rem;\
padding:.35rem .8rem;cursor:pointer}input{font:inherit;padding:.3rem;width:100%}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem;\
border-bottom:1px solid var(--line)}footer{font-size:.85rem;opacity:.8}\
.badge{border:1px solid var(--accent);color:var(--accent);border-radius:1rem;padding:0 .6rem}\
#log{height:16rem;overflow:auto;list-style:none;padding:.5rem;border:1px solid var(--line)}";
