//! Calendar months in UTC.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wall_clock::unix_ms;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// A month of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Month {
    pub year: u64,
    /// From 1 to 12.
    pub month: u8,
}

impl Month {
    /// The month by this machine's clock.
    pub(crate) fn now() -> Self {
        Self::at(unix_ms() / 1000)
    }

    /// The month at a time in seconds since 1970.
    pub(crate) fn at(unix_seconds: u64) -> Self {
        let mut days = unix_seconds / SECONDS_PER_DAY;
        // 400 years have 146,097 days.
        let mut year = 1970 + days / 146_097 * 400;
        days %= 146_097;
        while days >= days_of(year) {
            days -= days_of(year);
            year += 1;
        }
        let mut month = 1;
        while days >= days_of_month(year, month) {
            days -= days_of_month(year, month);
            month += 1;
        }
        Self { year, month }
    }

    /// The month after.
    pub(crate) fn next(self) -> Self {
        match self.month {
            12 => Self {
                year: self.year + 1,
                month: 1,
            },
            month => Self {
                month: month + 1,
                ..self
            },
        }
    }

    /// Its first day, such as `2026-12-01`.
    pub(crate) fn first_day(self) -> String {
        format!("{self}-01")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}", self.year, self.month)
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u8) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_months_of_the_calendar() {
        for (unix_seconds, month) in [
            (0, "1970-01"),
            (951_782_399, "2000-02"),
            (951_782_400, "2000-02"),
            (951_868_799, "2000-02"),
            (951_868_800, "2000-03"),
            (1_709_251_199, "2024-02"),
            (1_709_251_200, "2024-03"),
            (1_798_761_599, "2026-12"),
            (1_798_761_600, "2027-01"),
            (4_107_542_399, "2100-02"),
            (4_107_542_400, "2100-03"),
        ] {
            assert_eq!(Month::at(unix_seconds).to_string(), month, "{unix_seconds}");
        }
    }

    #[test]
    fn months_follow_one_another_without_gaps() {
        let mut month = Month::at(0);
        for day in 0..400 * 366 {
            let now = Month::at(day * SECONDS_PER_DAY);
            assert!(now == month || now == month.next(), "{now} after {month}");
            month = now;
        }
        assert_eq!(month.first_day(), format!("{month}-01"));
    }
}
