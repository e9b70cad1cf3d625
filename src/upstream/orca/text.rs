//! Reports as text: `cpu_utilization=0.3,named_metrics.queue=5`, with `=` or, as servers wrote
//! it for older proxies, `:` between name and value. A metric stands in it once, as Envoy has it.

use super::parse::{Checked, MAX_METRICS, Malformed, Map, Metric};

pub(super) fn parse(value: &[u8], note: &mut Checked<'_, '_>) -> Result<(), Malformed> {
    let value = std::str::from_utf8(value).map_err(|_| Malformed::Name)?;
    if value.split(',').count() > MAX_METRICS {
        return Err(Malformed::TooLarge);
    }
    for (index, pair) in value.split(',').enumerate() {
        let (name, number) = split(pair)?;
        if value.split(',').take(index).any(|other| split(other).is_ok_and(|(n, _)| n == name)) {
            return Err(Malformed::Duplicate);
        }
        let number = number.parse().map_err(|_| Malformed::Value)?;
        note.take(metric(name)?, number)?;
    }
    Ok(())
}

fn split(pair: &str) -> Result<(&str, &str), Malformed> {
    let (name, number) = pair.split_once(['=', ':']).ok_or(Malformed::Value)?;
    Ok((name.trim_ascii(), number.trim_ascii()))
}

fn metric(name: &str) -> Result<Metric<'_>, Malformed> {
    match name {
        "application_utilization" => Ok(Metric::Application),
        "cpu_utilization" => Ok(Metric::Cpu),
        "eps" => Ok(Metric::Eps),
        "mem_utilization" => Ok(Metric::Memory),
        "rps" => Ok(Metric::RpsWhole),
        "rps_fractional" => Ok(Metric::Rps),
        _ => match name.split_once('.') {
            Some(("named_metrics", key)) => Ok(Map::Named.entry(key)),
            Some(("request_cost", key)) => Ok(Map::RequestCost.entry(key)),
            Some(("utilization", key)) => Ok(Map::Utilization.entry(key)),
            _ => Err(Malformed::Name),
        },
    }
}
