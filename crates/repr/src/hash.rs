//! Vectorised hashes of rows and keys: the identity of a row inside arrangements, and what spreads rows over workers.
//!
//! A row is (key hash, row hash), 128 bits under two seeds. The hashes are stored in checkpoints, so they are written out here
//! and never change: a 64-bit multiply folded onto itself, column by column. Rows are told apart by what can be seen of them:
//! every NaN is one NaN, -0.0 is not 0.0. Where SQL calls such values equal, the plan has a column of keys that are the same.
//! NULL has a code of its own.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;

/// Seed of the hash over key columns.
pub const KEY_SEED: u64 = 0x9E37_79B9_7F4A_7C15;
/// Seed of the hash over all columns.
pub const ROW_SEED: u64 = 0xD6E8_FEB8_6659_FD93;

const MULTIPLIER: u64 = 0xA076_1D64_78BD_642F;
const NULL_CODE: u64 = 0x5851_F42D_4C95_7F2D;

/// One hash a row over `columns`, in their order. `row_count` counts where there are no columns.
///
/// The same values give the same hash in every process and version, whatever the batch.
/// Panics on an Arrow type that stores no SQL type.
pub fn hash_columns<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>, row_count: usize, seed: u64) -> Vec<u64> {
    let mut hashes = vec![seed; row_count];
    for column in columns {
        hash_column(column, &mut hashes);
    }
    for hash in &mut hashes {
        *hash = fold(*hash ^ seed, ROW_SEED | 1) ^ hash.rotate_left(29);
    }
    hashes
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline(always)]
fn mix(hash: u64, code: u64) -> u64 {
    fold(hash ^ code, MULTIPLIER).wrapping_add(KEY_SEED)
}

#[inline(always)]
fn mix_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = hash ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = fold(hash ^ u64::from_le_bytes(word.try_into().expect("eight bytes")), MULTIPLIER);
    }
    let mut tail = 0u64;
    for (index, byte) in words.remainder().iter().enumerate() {
        tail |= (*byte as u64) << (8 * index);
    }
    fold(hash ^ tail, MULTIPLIER ^ ROW_SEED)
}

/// Calls `$mix(hash, index)` for rows with a value, mixes the NULL code for the others.
macro_rules! each_row {
    ($array:expr, $hashes:expr, |$hash:ident, $index:ident| $value:expr) => {{
        let array = $array;
        match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => {
                for ($index, slot) in $hashes.iter_mut().enumerate() {
                    let $hash = *slot;
                    *slot = $value;
                }
            }
            Some(nulls) => {
                for ($index, slot) in $hashes.iter_mut().enumerate() {
                    let $hash = *slot;
                    *slot = if nulls.is_valid($index) { $value } else { mix($hash, NULL_CODE) };
                }
            }
        }
    }};
}

macro_rules! primitive {
    ($column:expr, $hashes:expr, $type:ty, |$value:ident| $code:expr) => {{
        let array = $column.as_primitive::<$type>();
        let values = array.values();
        each_row!(array, $hashes, |hash, index| {
            let $value = values[index];
            mix(hash, $code)
        })
    }};
}

macro_rules! bytes {
    ($array:expr, $hashes:expr) => {{
        let array = $array;
        each_row!(array, $hashes, |hash, index| mix_bytes(hash, AsRef::<[u8]>::as_ref(array.value(index))))
    }};
}

fn float_code(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn hash_column(column: &ArrayRef, hashes: &mut [u64]) {
    match column.data_type() {
        DataType::Null => hashes.iter_mut().for_each(|hash| *hash = mix(*hash, NULL_CODE)),
        DataType::Boolean => {
            let array = column.as_boolean();
            each_row!(array, hashes, |hash, index| mix(hash, array.value(index) as u64))
        }
        DataType::Int16 => primitive!(column, hashes, Int16Type, |value| value as i64 as u64),
        DataType::Int32 => primitive!(column, hashes, Int32Type, |value| value as i64 as u64),
        DataType::Int64 => primitive!(column, hashes, Int64Type, |value| value as u64),
        DataType::UInt8 => primitive!(column, hashes, UInt8Type, |value| value as u64),
        DataType::UInt16 => primitive!(column, hashes, UInt16Type, |value| value as u64),
        DataType::UInt32 => primitive!(column, hashes, UInt32Type, |value| value as u64),
        DataType::UInt64 => primitive!(column, hashes, UInt64Type, |value| value),
        DataType::Float32 => primitive!(column, hashes, Float32Type, |value| float_code(value as f64)),
        DataType::Float64 => primitive!(column, hashes, Float64Type, |value| float_code(value)),
        DataType::Date32 => primitive!(column, hashes, Date32Type, |value| value as i64 as u64),
        DataType::Time64(_) => primitive!(column, hashes, Time64MicrosecondType, |value| value as u64),
        DataType::Timestamp(_, _) => primitive!(column, hashes, TimestampMicrosecondType, |value| value as u64),
        DataType::Interval(_) => primitive!(column, hashes, IntervalMonthDayNanoType, |value| {
            mix(mix(value.months as i64 as u64, value.days as i64 as u64), value.nanoseconds as u64)
        }),
        DataType::Decimal128(_, _) => {
            primitive!(column, hashes, Decimal128Type, |value| mix(value as u64, (value >> 64) as u64))
        }
        DataType::Utf8 => bytes!(column.as_string::<i32>(), hashes),
        DataType::LargeUtf8 => bytes!(column.as_string::<i64>(), hashes),
        DataType::Utf8View => bytes!(column.as_string_view(), hashes),
        DataType::Binary => bytes!(column.as_binary::<i32>(), hashes),
        DataType::LargeBinary => bytes!(column.as_binary::<i64>(), hashes),
        DataType::FixedSizeBinary(_) => bytes!(column.as_fixed_size_binary(), hashes),
        DataType::List(_) => {
            let array = column.as_list::<i32>();
            each_row!(array, hashes, |hash, index| {
                let elements = array.value(index);
                let element_hashes = hash_columns([&elements], elements.len(), KEY_SEED);
                element_hashes.into_iter().fold(mix(hash, elements.len() as u64), mix)
            })
        }
        other => unreachable!("no SQL type is stored as {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn equal_rows_hash_alike_in_any_batch() {
        let long: ArrayRef = Arc::new(StringArray::from(vec![Some("ash"), None, Some("oak and beech")]));
        let part = long.slice(2, 1);
        let whole = hash_columns([&long], 3, KEY_SEED);
        assert_eq!(hash_columns([&part], 1, KEY_SEED)[0], whole[2]);
        assert_ne!(whole[0], whole[1]);
    }

    #[test]
    fn what_looks_alike_hashes_alike() {
        let floats: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), None, Some(f64::NAN), Some(-f64::NAN)]));
        let hashes = hash_columns([&floats], 5, ROW_SEED);
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
        assert_eq!(hashes[3], hashes[4]);
    }

    #[test]
    fn the_stored_hash_never_changes() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, -1]));
        assert_eq!(hash_columns([&numbers], 2, KEY_SEED), PINNED);
    }

    const PINNED: [u64; 2] = [14_093_528_982_937_662_343, 8_561_617_488_128_206_938];
}
