//! What flags and the environment say over the configuration files.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::ir::{Fragment, Problem, Settings};

/// The listener whose port `PORT` sets.
const WEB: &str = "web";

/// Settings that stand above those of the files; `None` leaves the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The admin listener.
    pub admin: Option<AdminBind>,
    /// Worker threads.
    pub workers: Option<usize>,
    /// The zone of this process.
    pub zone: Option<Arc<str>>,
    /// The port of the listener called `web`.
    pub port: Option<u16>,
}

/// Where the admin listener is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminBind {
    /// There.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for AdminBind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wrong = || "write an address and port such as 127.0.0.1:9900, or `off`".to_owned();
        text.parse().map(Self::At).map_err(|_| wrong())
    }
}

impl Overrides {
    /// `fragment` with these settings.
    pub fn apply(&self, fragment: Arc<Fragment>) -> Arc<Fragment> {
        if *self == Self::default() {
            return fragment;
        }
        let mut fragment = Arc::unwrap_or_clone(fragment);
        let settings = fragment.settings.get_or_insert_with(Settings::default);
        match self.admin {
            Some(AdminBind::At(address)) => settings.admin.bind = Some(address),
            Some(AdminBind::Off) => settings.admin.bind = None,
            None => {}
        }
        if self.workers.is_some() {
            settings.workers = self.workers;
        }
        if self.zone.is_some() {
            settings.zone = self.zone.clone();
        }
        if let Some(port) = self.port
            && let Some(listener) = fragment.listeners.get_mut(WEB)
        {
            Arc::make_mut(listener).bind.set_port(port);
        }
        Arc::new(fragment)
    }

    /// Whether a listener has the port that was asked for, or gets it.
    pub fn has_the_port(&self, fragment: &Fragment) -> bool {
        self.port.is_none_or(|port| {
            let mut listeners = fragment.listeners.iter();
            listeners.any(|(name, listener)| name.as_str() == WEB || listener.bind.port() == port)
        })
    }

    /// What of these settings has no effect on `fragment`.
    pub fn problem(&self, fragment: &Fragment) -> Option<Problem> {
        let port = self.port.filter(|_| !self.has_the_port(fragment))?;
        let message = format!("PORT is {port}, and there is no listener called `{WEB}` to get it");
        let hint = format!("call one of them `{WEB}`, or write `bind: \":${{PORT}}\"`");
        Some(Problem::warning(message).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::file::{Inputs, translate};

    const FILE: &str = "
admin: { bind: 127.0.0.1:1 }
workers: 1
zone: eu-1a
listeners: { web: { bind: \"127.0.0.1:2\" }, other: { bind: \"127.0.0.1:3\" } }
";

    fn with(overrides: &Overrides) -> Fragment {
        let inputs = Inputs::from_text("x.yaml", FILE, Default::default());
        Arc::unwrap_or_clone(overrides.apply(Arc::new(translate(&inputs).fragment)))
    }

    #[test]
    fn what_is_not_overridden_stays_as_the_file_has_it() {
        let fragment = with(&Overrides::default());
        let settings = fragment.settings.unwrap();
        assert_eq!((settings.admin.bind, settings.workers), ("127.0.0.1:1".parse().ok(), Some(1)));
        assert_eq!(settings.zone.as_deref(), Some("eu-1a"));
    }

    #[test]
    fn overrides_stand_above_the_file() {
        let fragment = with(&Overrides {
            admin: "0.0.0.0:9".parse().ok(),
            workers: Some(7),
            zone: Some("eu-1b".into()),
            port: Some(80),
        });
        let settings = fragment.settings.unwrap();
        assert_eq!(settings.zone.as_deref(), Some("eu-1b"));
        assert_eq!((settings.admin.bind, settings.workers), ("0.0.0.0:9".parse().ok(), Some(7)));
        let ports: Vec<_> = fragment.listeners.values().map(|l| l.bind.port()).collect();
        assert_eq!(ports, [3, 80]);
    }

    #[test]
    fn a_port_that_no_listener_gets_is_told_of() {
        for (name, port, expected) in
            [("web", "2", true), ("main", "80", true), ("main", "2", false)]
        {
            let text = format!("listeners: {{ {name}: {{ bind: \"127.0.0.1:{port}\" }} }}");
            let inputs = Inputs::from_text("x.yaml", &text, Default::default());
            let fragment = translate(&inputs).fragment;
            let overrides = Overrides { port: Some(80), ..Overrides::default() };
            assert_eq!(overrides.has_the_port(&fragment), expected, "{text}");
            assert_eq!(overrides.problem(&fragment).is_none(), expected, "{text}");
            assert_eq!(Overrides::default().problem(&fragment), None, "{text}");
        }
    }

    #[test]
    fn the_admin_listener_can_be_turned_off() {
        let fragment = with(&Overrides { admin: "off".parse().ok(), ..Overrides::default() });
        assert_eq!(fragment.settings.unwrap().admin.bind, None);
        assert!("nowhere".parse::<AdminBind>().is_err());
    }
}
