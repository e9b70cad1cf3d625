//! Times, printed.

use std::time::{Duration, Instant};

/// How long changes took to be served.
#[derive(Default)]
pub struct Times {
    /// From the API server's answer.
    answered: Vec<Duration>,
    /// From when it was asked.
    asked: Vec<Duration>,
}

impl Times {
    /// One that is served now.
    pub fn add(&mut self, asked: Instant, answered: Instant) {
        self.asked.push(asked.elapsed());
        self.answered.push(answered.elapsed());
    }

    pub fn print(mut self, what: &str) {
        self.answered.sort();
        self.asked.sort();
        let line = |times: &[Duration]| {
            let [p50, p99] = [50, 99].map(|of| millis(times, times.len() * of / 100));
            let most = millis(times, times.len().saturating_sub(1));
            format!("p50 {p50:.1} ms, p99 {p99:.1}, most {most:.1}")
        };
        let (answered, asked) = (line(&self.answered), line(&self.asked));
        println!("  {what:<26} {} times: {answered} ({asked})", self.answered.len());
    }
}

fn millis(times: &[Duration], at: usize) -> f64 {
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// What the proxy's page of metrics says of it.
pub fn propagation(page: &str) {
    const NAME: &str = "portcullis_config_propagation_seconds";
    for change in ["configuration", "endpoints"] {
        let label = format!("change=\"{change}\"");
        let of = |kind: &str, label: &str| {
            let name = format!("{NAME}_{kind}");
            let mut lines = page.lines().filter(|line| line.starts_with(&name));
            let line = lines.find(|line| line.contains(label))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        let (count, sum) = (of("count", &label), of("sum", &label));
        let (Some(count), Some(sum)) = (count, sum) else { continue };
        let within: Vec<String> = page
            .lines()
            .filter(|line| line.starts_with(&format!("{NAME}_bucket")) && line.contains(&label))
            .filter_map(|line| {
                let (_, bound) = line.split_once("le=\"")?;
                let (bound, rest) = bound.split_once('"')?;
                let (bound, below) = (bound.parse::<f64>().ok()?, rest.rsplit(' ').next()?);
                (bound.is_finite() && bound <= 0.1)
                    .then(|| format!("{below} in {} ms", bound * 1e3))
            })
            .collect();
        println!(
            "  {change:<14} {count} times: mean {:.1} ms; {}",
            sum / count * 1e3,
            within.join(", ")
        );
    }
}
