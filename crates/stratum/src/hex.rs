//! Strict hexadecimal: no prefix, no spaces, no sign. `const_hex` does the conversion, but it also
//! accepts a `0x` prefix, which no Stratum field has. So the text is checked here first.

/// Says whether `text` consists of hex digits only. That is true of empty text.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Decodes `text` into `out`. Returns `None` unless `text` has exactly two hex digits for each
/// byte.
pub(crate) fn fill(text: &str, out: &mut [u8]) -> Option<()> {
    (text.len() == out.len() * 2 && is_hex(text)).then_some(())?;
    const_hex::decode_to_slice(text, out).ok()
}

/// Decodes an even number of hex digits into at most `max` bytes.
pub(crate) fn bytes(text: &str, max: usize) -> Option<Vec<u8>> {
    (text.len().is_multiple_of(2) && text.len() / 2 <= max).then_some(())?;
    let mut out = vec![0; text.len() / 2];
    fill(text, &mut out)?;
    Some(out)
}

/// Returns the value of one to eight digits, most significant first.
pub(crate) fn word(text: &str) -> Option<u32> {
    (matches!(text.len(), 1..=8) && is_hex(text)).then(|| u32::from_str_radix(text, 16).ok())?
}

/// Appends `bytes` as lower-case digits.
pub(crate) fn push(bytes: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + bytes.len() * 2, 0);
    const_hex::encode_to_slice(bytes, &mut out[from..]).expect("the room was made two lines above");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_signs_and_spaces_are_refused() {
        for bad in ["0x12", "0X12", "+123", " 123", "123 ", "12\n3", "zz12", "1２"] {
            assert_eq!(bytes(bad, 10), None, "{bad}");
            assert_eq!(word(bad), None, "{bad}");
        }
        assert_eq!(bytes("0x", 10), None);
        assert_eq!(bytes("abc", 10), None);
        assert_eq!(bytes("aBcD", 2), Some(vec![0xab, 0xcd]));
        assert_eq!(bytes("aBcD", 1), None);
    }

    #[test]
    fn short_words_are_zero_padded_and_long_ones_refused() {
        assert_eq!(word("1"), Some(1));
        assert_eq!(word("fFffffff"), Some(u32::MAX));
        assert_eq!(word("000000001"), None);
        assert_eq!(word(""), None);
    }
}
