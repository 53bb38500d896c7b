//! Sizes such as `"512MiB"` and durations such as `"250ms"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const SPAN_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// A number of bytes, written `"512MiB"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time, written `"250ms"`; resolution one microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Splits `"1.5GiB"` and multiplies exactly; `None` when it is not of that form or does not fit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.ends_with('.') || fraction.len() > 6 || fraction.contains('.') {
        return None;
    }
    let mut total = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if !fraction.is_empty() {
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
        total = total.checked_add(u64::try_from(part / 10u128.pow(fraction.len() as u32)).ok()?)?;
    }
    Some(total)
}

fn print(value: u64, units: &[(&'static str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits =
        |(_, factor): &&(&str, u64)| value.is_multiple_of(*factor) && (value > 0 || *factor == 1);
    let (name, factor) = units
        .iter()
        .filter(fits)
        .max_by_key(|u| u.1)
        .unwrap_or(&units[0]);
    write!(f, "{}{name}", value / factor)
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, SIZE_UNITS).map(Self).ok_or_else(|| {
            format!(
                "expected a size such as \"512MiB\" (units B, KiB, MiB, GiB, TiB, kB, MB, GB, TB), got {text:?}"
            )
        })
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, SPAN_UNITS).map(|us| Self(Duration::from_micros(us))).ok_or_else(|| {
            format!("expected a duration such as \"250ms\" (units us, ms, s, min, h, d), got {text:?}")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, &SIZE_UNITS[..5], f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(
            u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX),
            SPAN_UNITS,
            f,
        )
    }
}

/// Reads a quoted text through `FromStr`; a bare number gets a message that tells to add a unit.
struct Quoted<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Quoted<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a quoted value with a unit, such as {}", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Quoted("\"512MiB\"", std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let span: Self = d.deserialize_str(Quoted("\"250ms\"", std::marker::PhantomData))?;
        if span.0 > Duration::from_secs(100 * 366 * 86_400) {
            return Err(D::Error::custom("expected at most 100 years"));
        }
        Ok(span)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_read_as_written() {
        assert_eq!("512MiB".parse(), Ok(ByteSize(512 << 20)));
        assert_eq!("1.5 GiB".parse(), Ok(ByteSize(3 << 29)));
        assert_eq!("0B".parse(), Ok(ByteSize(0)));
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("0.5d".parse(), Ok(Span(Duration::from_secs(43_200))));
        for bad in [
            "",
            "12",
            "MiB",
            "-1B",
            "1.B",
            "1..2B",
            "1mib",
            "99999999999TiB",
            "1.1234567s",
        ] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn printing_then_reading_gives_the_same() {
        for n in [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, u64::MAX] {
            assert_eq!(ByteSize(n).to_string().parse(), Ok(ByteSize(n)));
        }
        for us in [0, 1, 1_000, 90_000_000, 86_400_000_000] {
            let span = Span(Duration::from_micros(us));
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
