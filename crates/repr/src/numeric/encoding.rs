//! How numeric is stored: bytes whose order is the numbers' order.
//!
//! ```text
//! positive   | head: exponent | d+1 of each base-100 digit, no trailing zeros | 0x00 | scale |
//! negative   | the same up to and including the 0x00, every bit inverted            | scale |
//! zero       | 0x80                                                                 | scale |
//! -Infinity 0x02    Infinity 0xFD    NaN 0xFF
//! ```
//!
//! The exponent counts base-100 digits before the point. -60..=60 is one byte, 0x82 + 60 + exponent; beyond, 0x81 or 0xFB and
//! four bytes big endian (biased by 2^31). The scale is one byte, or 0xFF and two bytes from 255 up. It comes last, so that
//! equal numbers of unequal scale differ only there: [`key`] cuts it off, and what is left is a number still, shown with
//! as few digits as it needs.

use super::{Decimal, Numeric};
use crate::numeric::coefficient::Coefficient;
use num_bigint::{BigInt, Sign};

const ZERO: u8 = 0x80;
const EXPONENT_SMALL: u8 = 0x81;
const EXPONENT_FIRST: u8 = 0x82;
const EXPONENT_LARGE: u8 = 0xFB;
const EXPONENT_LIMIT: i64 = 60;
const INFINITY: u8 = 0xFD;
const NAN: u8 = 0xFF;
const LONG_SCALE: u8 = 0xFF;

impl Numeric {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        self.encode_into(&mut bytes);
        bytes
    }

    /// Appends the stored form.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        let decimal = match self {
            Numeric::NegativeInfinity => return bytes.push(!INFINITY),
            Numeric::Infinity => return bytes.push(INFINITY),
            Numeric::NaN => return bytes.push(NAN),
            Numeric::Finite(decimal) => decimal,
        };
        let odd = decimal.scale % 2 == 1;
        let even_scale = decimal.scale as i64 + odd as i64;
        match &decimal.coefficient {
            Coefficient::Small(0) => bytes.push(ZERO),
            Coefficient::Small(value) => match u64::try_from(value.unsigned_abs()) {
                Ok(magnitude) if magnitude < u64::MAX / 10 => {
                    let mut rest = if odd { magnitude * 10 } else { magnitude };
                    let digits = std::iter::from_fn(|| {
                        (rest > 0).then(|| {
                            let digit = (rest % 100) as u8;
                            rest /= 100;
                            digit
                        })
                    });
                    encode_digits(digits, even_scale, *value < 0, bytes);
                }
                _ => encode_big(&BigInt::from(*value), odd, even_scale, bytes),
            },
            Coefficient::Big(value) => encode_big(value, odd, even_scale, bytes),
        }
        match u8::try_from(decimal.scale) {
            Ok(scale) if scale < LONG_SCALE => bytes.push(scale),
            _ => {
                bytes.push(LONG_SCALE);
                bytes.extend_from_slice(&decimal.scale.to_be_bytes());
            }
        }
    }

    /// Reads the stored form, or what [`key`] leaves of it. Bytes that are no number give NaN.
    pub fn decode(bytes: &[u8]) -> Numeric {
        let Some(&head) = bytes.first() else { return Numeric::NaN };
        match head {
            NAN => return Numeric::NaN,
            INFINITY => return Numeric::Infinity,
            ZERO => return Numeric::from_parts(0, decode_scale(&bytes[1..]).unwrap_or(0)),
            head if head == !INFINITY => return Numeric::NegativeInfinity,
            _ => {}
        }
        let negative = head < ZERO;
        let flip = if negative { 0xFF } else { 0 };
        let (exponent, digits_start) = match head ^ flip {
            EXPONENT_SMALL | EXPONENT_LARGE => {
                let Some(word) = bytes.get(1..5).and_then(|word| word.try_into().ok()) else { return Numeric::NaN };
                let word = u32::from_be_bytes(word) ^ if negative { u32::MAX } else { 0 };
                (word as i64 - (1 << 31), 5)
            }
            byte => (byte as i64 - EXPONENT_FIRST as i64 - EXPONENT_LIMIT, 1),
        };
        let Some(digit_count) = bytes[digits_start..].iter().position(|byte| byte ^ flip == 0) else {
            return Numeric::NaN;
        };
        let digits = &bytes[digits_start..digits_start + digit_count];
        // The digits' last place, in decimal digits after the point.
        let natural_scale = 2 * (digit_count as i64 - exponent);
        let scale = decode_scale(&bytes[digits_start + digit_count + 1..]).map_or_else(
            || {
                let last_is_tens = digits.last().is_some_and(|byte| ((byte ^ flip).wrapping_sub(1)).is_multiple_of(10));
                (natural_scale - last_is_tens as i64).max(0)
            },
            i64::from,
        );
        let coefficient = if digit_count <= 18 {
            let magnitude = if digit_count <= 9 {
                digits.iter().fold(0u64, |sum, byte| sum * 100 + (byte ^ flip).wrapping_sub(1) as u64) as i128
            } else {
                digits.iter().fold(0i128, |sum, byte| sum * 100 + (byte ^ flip).wrapping_sub(1) as i128)
            };
            Coefficient::Small(if negative { -magnitude } else { magnitude })
        } else {
            let radix: Vec<u8> = digits.iter().map(|byte| (byte ^ flip).wrapping_sub(1)).collect();
            let sign = if negative { Sign::Minus } else { Sign::Plus };
            match BigInt::from_radix_be(sign, &radix, 100) {
                Some(big) => Coefficient::from_big(big),
                None => return Numeric::NaN,
            }
        };
        let coefficient = match scale - natural_scale {
            0 => coefficient,
            shift if shift > 0 => coefficient.multiply_pow10(shift as u32),
            shift => coefficient.divide_pow10_trunc(-shift as u32),
        };
        Numeric::Finite(Decimal { coefficient, scale: scale as u16 })
    }
}

/// The stored form without the display scale: equal bytes exactly where the numbers are equal, still decodable.
pub fn key(bytes: &[u8]) -> &[u8] {
    let Some(&head) = bytes.first() else { return bytes };
    let flip = match head {
        ZERO | NAN | INFINITY => return &bytes[..1],
        head if head == !INFINITY => return &bytes[..1],
        head if head < ZERO => 0xFF,
        _ => 0,
    };
    let start = if matches!(head ^ flip, EXPONENT_SMALL | EXPONENT_LARGE) { 5 } else { 1 };
    match bytes.iter().skip(start).position(|byte| byte ^ flip == 0) {
        Some(length) => &bytes[..start + length + 1],
        None => bytes,
    }
}

fn decode_scale(suffix: &[u8]) -> Option<u16> {
    match suffix {
        [LONG_SCALE, high, low] => Some(u16::from_be_bytes([*high, *low])),
        [scale, ..] => Some(*scale as u16),
        [] => None,
    }
}

fn encode_big(value: &BigInt, odd: bool, even_scale: i64, bytes: &mut Vec<u8>) {
    let digits = if odd { (value * 10u8).to_radix_le(100) } else { value.to_radix_le(100) };
    encode_digits(digits.1.into_iter(), even_scale, value.sign() == Sign::Minus, bytes);
}

/// `digits` are base 100, the lowest first; the last of them is not zero.
fn encode_digits(digits: impl Iterator<Item = u8>, even_scale: i64, negative: bool, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    // The lowest digit comes first, so the number is written backwards and reversed.
    let mut digit_count = 0i64;
    bytes.push(0);
    for digit in digits {
        digit_count += 1;
        if digit != 0 || bytes.len() > start + 1 {
            bytes.push(digit + 1);
        }
    }
    let exponent = digit_count - even_scale / 2;
    if (-EXPONENT_LIMIT..=EXPONENT_LIMIT).contains(&exponent) {
        bytes.push((EXPONENT_FIRST as i64 + EXPONENT_LIMIT + exponent) as u8);
    } else {
        let word = (exponent + (1 << 31)) as u32;
        bytes.extend_from_slice(&word.to_le_bytes());
        bytes.push(if exponent < 0 { EXPONENT_SMALL } else { EXPONENT_LARGE });
    }
    bytes[start..].reverse();
    if negative {
        bytes[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASCENDING: &[&str] = &[
        "-Infinity",
        "-1e300",
        "-12345678901234567890123456789.5",
        "-1000",
        "-100.5",
        "-100",
        "-99.99",
        "-1.5",
        "-1.01",
        "-1",
        "-0.5",
        "-0.01",
        "-0.0001",
        "-1e-200",
        "0",
        "1e-200",
        "0.0001",
        "0.01",
        "0.011",
        "0.1",
        "0.5",
        "1",
        "1.001",
        "1.01",
        "1.1",
        "9",
        "10",
        "11",
        "99",
        "99.5",
        "100",
        "101",
        "12345.678",
        "1e38",
        "170141183460469231731687303715884105727",
        "170141183460469231731687303715884105728",
        "1e39",
        "1e300",
        "Infinity",
        "NaN",
    ];

    #[test]
    fn bytes_are_ordered_as_numbers() {
        let encoded: Vec<Vec<u8>> = ASCENDING.iter().map(|text| Numeric::parse(text).unwrap().encode()).collect();
        for (index, pair) in encoded.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{} < {}", ASCENDING[index], ASCENDING[index + 1]);
        }
    }

    #[test]
    fn decodes_what_it_encodes() {
        let more = [
            "0.00",
            "1.0",
            "1.00",
            "-1.500",
            "100.000",
            "0.010",
            "123456789012345678.9",
            "1200",
            "1e130000",
            "-1e-16000",
        ];
        for text in ASCENDING.iter().chain(&more) {
            let number = Numeric::parse(text).unwrap();
            assert_eq!(Numeric::decode(&number.encode()).to_string(), number.to_string());
        }
    }

    #[test]
    fn keys_ignore_the_scale_and_decode_without_it() {
        let key_of = |text: &str| key(&Numeric::parse(text).unwrap().encode()).to_vec();
        assert_eq!(key_of("1.0"), key_of("1.000"));
        assert_eq!(key_of("0"), key_of("0.00"));
        assert_ne!(key_of("1.0"), key_of("1.01"));
        for (text, shortest) in [("1.50", "1.5"), ("-100.00", "-100"), ("0.00", "0"), ("0.010", "0.01"), ("20", "20")] {
            assert_eq!(Numeric::decode(&key_of(text)).to_string(), shortest);
            assert_eq!(key(&key_of(text)), key_of(text));
        }
    }

    #[test]
    fn rubbish_is_nan_and_no_panic() {
        for bytes in [&[][..], &[0x90], &[0x81, 0], &[0xFB, 1, 2, 3, 4], &[3], &[0x83, 0, 1]] {
            let _ = Numeric::decode(bytes).to_string();
            let _ = key(bytes);
        }
    }
}
