//! Times as the log formats write them, in UTC.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A calendar date and time of day.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u32,
}

impl Civil {
    /// The date of `time`; times before 1970 count as its begin. The algorithm is Howard
    /// Hinnant's `civil_from_days`: years begin in March, so that the leap day comes last.
    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = 400 * era + year_of_era + u64::from(month <= 2);
        Self {
            year,
            month,
            day,
            hour: second / 3_600,
            minute: second / 60 % 60,
            second: second % 60,
            millisecond: since.subsec_millis(),
        }
    }
}

/// Appends `time` as RFC 3339 with milliseconds: `2026-11-22T17:27:32.123Z`.
pub(super) fn rfc3339(time: SystemTime, out: &mut Vec<u8>) {
    let Civil { year, month, day, hour, minute, second, millisecond } = Civil::of(time);
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"
    );
}

/// Appends `time` as nginx's `$time_iso8601`: `2026-11-22T17:27:32+00:00`.
pub(super) fn iso8601(time: SystemTime, out: &mut Vec<u8>) {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(time);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00");
}

/// Appends `time` as the NCSA formats have it: `22/Nov/2026:17:27:32 +0000`.
pub(super) fn ncsa(time: SystemTime, out: &mut Vec<u8>) {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(time);
    let name = usize::try_from(month - 1).ok().and_then(|index| MONTHS.get(index)).unwrap_or(&"-");
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000");
}
