//! Until when an answer is worth something.

use std::time::Duration;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// For a client that states no deadline.
const DEFAULT: Duration = Duration::from_secs(30);
/// Our answer says more than the client's own "deadline exceeded", so it leaves this much earlier.
const MARGIN: Duration = Duration::from_millis(500);

/// The moment by which a call has to be answered.
pub(super) fn of(metadata: &MetadataMap) -> Instant {
    let header = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok());
    Instant::now()
        + header.and_then(parse).map_or(DEFAULT, |timeout| timeout.saturating_sub(MARGIN.min(timeout / 10)))
}

/// gRPC over HTTP/2: at most eight digits and a unit.
fn parse(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_hours(number)),
        "M" => Some(Duration::from_mins(number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_in_all_its_units() {
        for (header, expected) in [
            ("10S", Some(Duration::from_secs(10))),
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("250m", Some(Duration::from_millis(250))),
            ("9999999u", Some(Duration::from_micros(9_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("", None),
            ("S", None),
            ("10", None),
            ("10X", None),
            ("-1S", None),
            ("123456789S", None),
            ("1é", None),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_leaves_a_little_before_the_client_gives_up() {
        let mut metadata = MetadataMap::new();
        assert_eq!(of(&metadata) - Instant::now(), DEFAULT);
        metadata.insert("grpc-timeout", "10S".parse().unwrap());
        assert_eq!(of(&metadata) - Instant::now(), Duration::from_millis(9_500));
        metadata.insert("grpc-timeout", "1S".parse().unwrap());
        assert_eq!(of(&metadata) - Instant::now(), Duration::from_millis(900));
    }
}
