//! The one entry of EXIF data that matters here: which way up a picture is.

/// The orientation, 1 to 8, where the data hold one (EXIF 2.32, tag 0x0112).
pub(super) fn orientation(data: &[u8]) -> Option<u8> {
    let is_little = match data.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *data.get(at..)?.first_chunk()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let u32_at = |at: usize| {
        let bytes = *data.get(at..)?.first_chunk()?;
        Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let start = usize::try_from(u32_at(4)?).ok()?;
    let n_entries = usize::from(u16_at(start)?);
    (0..n_entries).map(|k| start.saturating_add(2 + 12 * k)).find_map(|entry| {
        const SHORT: u16 = 3;
        let is_it = u16_at(entry)? == 0x0112 && u16_at(entry + 2)? == SHORT;
        let value = u16_at(entry.checked_add(8)?)?;
        (is_it && (1..=8).contains(&value)).then_some(value as u8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_are_read_and_rubbish_is_passed_over() {
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0";
        assert_eq!(orientation(little), Some(6));
        assert_eq!(orientation(big), Some(8));
        for length in 0..20 {
            assert_eq!(orientation(&little[..length]), None, "{length}");
        }
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff\x01\0"), None);
        let mut wrong = *little;
        wrong[18] = 9;
        assert_eq!(orientation(&wrong), None);
    }
}
