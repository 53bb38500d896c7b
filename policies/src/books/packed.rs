//! Figures in few bytes, in RAM and in a saved file alike.

use aether_core::{Error, Result, Time};

/// Figures of one row: small, plain, and with one fixed form in a saved file.
pub(crate) trait Packed: Copy + Default + std::fmt::Debug + Send + 'static {
    /// Length of the saved form.
    const BYTES: usize;

    fn put(self, out: &mut Vec<u8>);

    /// Reads what `put` wrote.
    ///
    /// # Errors
    /// `Corrupt` when it ends early or holds a value that `put` never writes.
    fn take(input: &mut Input<'_>) -> Result<Self>;
}

impl Packed for () {
    const BYTES: usize = 0;

    fn put(self, _out: &mut Vec<u8>) {}

    fn take(_input: &mut Input<'_>) -> Result<Self> {
        Ok(())
    }
}

impl Packed for u16 {
    const BYTES: usize = 2;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        input.u16()
    }
}

/// A queue of ghosts and what is known of one in it.
impl<G: Packed> Packed for (u32, G) {
    const BYTES: usize = 4 + G::BYTES;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
        self.1.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok((input.u32()?, G::take(input)?))
    }
}

/// Bytes that are read from the front; every reading checks that there is enough.
#[derive(Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(|| {
            Error::corrupt(format!(
                "policy books: expected {len} more bytes, got {}",
                self.0.len()
            ))
        })?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| {
            Error::corrupt(format!(
                "policy books: expected {N} more bytes, got {}",
                self.0.len()
            ))
        })?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of items of at least `each` bytes: never more than the bytes that are left can hold, so that it may be
    /// allocated for.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize> {
        let count = self.u32()? as usize;
        match count.checked_mul(each.max(1)) {
            Some(bytes) if bytes <= self.0.len() => Ok(count),
            _ => Err(Error::corrupt(format!(
                "policy books: {count} items of {each} bytes expected, got {} bytes",
                self.0.len()
            ))),
        }
    }
}

/// A moment in 6 bytes: steps of 16 microseconds, up to 142 years after the memory's creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp([u16; 3]);

impl Stamp {
    pub(crate) fn of(time: Time) -> Self {
        let steps = (time.0 >> 4).min((1 << 48) - 1);
        Self([steps as u16, (steps >> 16) as u16, (steps >> 32) as u16])
    }

    fn steps(self) -> u64 {
        let [low, middle, high] = self.0.map(u64::from);
        low | middle << 16 | high << 32
    }

    /// The moment, rounded down.
    pub(crate) fn time(self) -> Time {
        Time(self.steps() << 4)
    }

    /// Seconds from this moment to `now`; 0 if it lies ahead.
    pub(crate) fn age_s(self, now: Time) -> f64 {
        now.seconds_since(self.time())
    }
}

impl Packed for Stamp {
    const BYTES: usize = 6;

    fn put(self, out: &mut Vec<u8>) {
        self.0
            .iter()
            .for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
    }

    fn take(input: &mut Input<'_>) -> Result<Self> {
        Ok(Self([input.u16()?, input.u16()?, input.u16()?]))
    }
}

/// Words for a length of time: "3 minutes".
pub(crate) fn words_of(seconds: f64) -> String {
    let (count, unit) = match seconds {
        s if s < 1.0 => return "less than a second".to_owned(),
        s if s < 120.0 => (s, "second"),
        s if s < 7_200.0 => (s / 60.0, "minute"),
        s if s < 172_800.0 => (s / 3_600.0, "hour"),
        s => (s / 86_400.0, "day"),
    };
    let count = count as u64;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_keeps_time_to_sixteen_microseconds() {
        for us in [0, 15, 16, 1 << 33, 4_000_000_000_000_000] {
            let stamp = Stamp::of(Time(us));
            assert_eq!(stamp.time().0, us & !15);
            let mut bytes = Vec::new();
            stamp.put(&mut bytes);
            assert_eq!(bytes.len(), Stamp::BYTES);
            assert_eq!(Stamp::take(&mut Input(&bytes)).unwrap(), stamp);
        }
        assert_eq!(Stamp::of(Time(u64::MAX)).age_s(Time(0)), 0.0);
        assert!(Stamp::of(Time(0)).age_s(Time(u64::MAX)).is_finite());
    }

    #[test]
    fn a_count_beyond_the_bytes_left_is_refused() {
        let bytes = [255, 255, 255, 255, 1, 2, 3];
        assert!(Input(&bytes).count(1).unwrap_err().is_corrupt());
        assert!(Input(&bytes).count(usize::MAX).is_err());
    }

    #[test]
    fn times_read_as_people_say_them() {
        let said = [0.2, 1.0, 90.0, 180.0, 7_200.0, 86_400.0 * 3.5].map(words_of);
        assert_eq!(
            said,
            [
                "less than a second",
                "1 second",
                "90 seconds",
                "3 minutes",
                "2 hours",
                "3 days"
            ]
        );
    }
}
