//! Puts what is of a route into its templates.

use std::sync::Arc;

use super::{
    Action, Filter, HeaderEdit, LocationEdit, RedirectTo, Reply, ResponseEdit, Rewrite, Route,
    Rule, Site, Step,
};

/// What stands for a part of a route.
pub type Text<'t> = dyn Fn(Site) -> Arc<str> + 't;

impl Route {
    /// Puts `text` into all of its templates that can have parts of a route in them.
    pub fn bind(&mut self, text: &Text<'_>) {
        self.filters.iter_mut().for_each(|filter| filter.bind(text));
        self.rules.iter_mut().for_each(|rule| rule.bind(text));
        if let Action::RedirectTo(RedirectTo { to, .. }) = &mut self.action {
            *to = to.bind(text);
        }
    }
}

impl Rule {
    /// The same.
    pub fn bind(&mut self, text: &Text<'_>) {
        for condition in &mut self.when {
            condition.value = condition.value.bind(text);
        }
        for step in &mut self.then {
            match step {
                Step::Filter(filter) => filter.bind(text),
                Step::Rewrite(Rewrite { path: template, .. })
                | Step::Respond(Reply { body: template, .. })
                | Step::Redirect(RedirectTo { to: template, .. }) => {
                    *template = template.bind(text);
                }
                Step::Stop => {}
            }
        }
    }
}

impl Filter {
    fn bind(&mut self, text: &Text<'_>) {
        match self {
            Self::RequestHeaders(edit) | Self::ResponseHeaders(ResponseEdit { edit, .. }) => {
                edit.bind(text)
            }
            Self::ResponseLocation(LocationEdit { to: template, .. })
            | Self::RewriteHostFrom(template) => *template = template.bind(text),
            Self::ResponseCookies(_) | Self::RewriteHost(_) | Self::RewritePath(_) => {}
        }
    }
}

impl HeaderEdit {
    fn bind(&mut self, text: &Text<'_>) {
        for field in self.set_from.iter_mut().chain(&mut self.add_from) {
            field.template = field.template.bind(text);
        }
    }
}
