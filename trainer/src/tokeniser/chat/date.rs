//! Python's `strftime`.

const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time in seconds since 1970 (UTC), in the format of Python's `strftime`. Unknown codes stay.
pub(super) fn strftime(format: &str, seconds: u64) -> String {
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    // 1 January 1970 was a Thursday.
    let week_day = DAYS
        .get(((days + 3) % 7) as usize)
        .copied()
        .unwrap_or_default();
    let month_name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => text.push_str(&format!("{day:02}")),
            Some('m') => text.push_str(&format!("{month:02}")),
            Some('y') => text.push_str(&format!("{:02}", year % 100)),
            Some('Y') => text.push_str(&year.to_string()),
            Some('b') => text.push_str(&short(month_name)),
            Some('B') => text.push_str(month_name),
            Some('a') => text.push_str(&short(week_day)),
            Some('A') => text.push_str(week_day),
            Some('H') => text.push_str(&format!("{:02}", clock / 3600)),
            Some('M') => text.push_str(&format!("{:02}", clock / 60 % 60)),
            Some('S') => text.push_str(&format!("{:02}", clock % 60)),
            Some('%') => text.push('%'),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

/// Year, month and day of a day since 1970 (Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        // date -u -d @1721952000
        let time = 1_721_952_000 + 3_661;
        assert_eq!(strftime("%d %b %Y", time), "26 Jul 2024");
        assert_eq!(
            strftime("%A, %B %d, %y-%m %H:%M:%S %% %q", time),
            "Friday, July 26, 24-07 01:01:01 % %q"
        );
        assert_eq!(strftime("%Y-%m-%d %a", 951_782_400), "2000-02-29 Tue");
        assert_eq!(strftime("%d %b %Y%", 0), "01 Jan 1970%");
    }
}
