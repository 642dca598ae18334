//! A column of rows that stay: as Arrow has it, or packed so that any value of it can still be read alone.
//!
//! Shared rows are the bulk of what a server with wide relations keeps. Texts of a column resemble each other, and
//! integers of one source lie near each other, so both are kept in fewer bytes: texts as codes of a symbol table (FSST,
//! where a code stands for up to eight bytes), integers as small differences from the least of them. Neither needs
//! anything but the value's own bytes to read it, unlike blocks of a general compressor, of which a lookup would unpack
//! thousands of rows for one.
//!
//! Making a symbol table takes about a millisecond, and the tables for packing with it 160 KiB. So a source takes over
//! the symbols of the one before it as long as they fit, and only the last few packers of a thread are kept.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, NullBufferBuilder, PrimitiveArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use fsst::{Compressor, CompressorParts, Decompressor};

use crate::compare::compare_values;

/// Texts that are shorter on average are left as they are: their offsets are the most of them.
const TEXT_BYTES_MIN: usize = 8;
/// More are not packed: where a text ends is counted in 32 bits, and a byte may take two codes.
const TEXT_BYTES_MAX: usize = u32::MAX as usize / 2;
/// Symbols that come out worse than they did at first by more than this factor are chosen anew.
const RATIO_SLACK: f64 = 1.25;
/// .. from sources of at least so many rows.
const CHOICE_ROWS_MIN: usize = 8192;
/// Packers, and packed columns, that a thread remembers.
const REMEMBERED: usize = 32;

/// A column of a source.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    Plain(ArrayRef),
    Packed(Arc<Packed>),
}

/// What is kept instead of an array.
#[derive(Debug)]
pub(crate) struct Packed {
    data_type: DataType,
    nulls: Option<NullBuffer>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Texts(Texts),
    Integers(Integers),
}

/// Texts, or bytes, as codes.
#[derive(Debug)]
struct Texts {
    symbols: Arc<Symbols>,
    codes: Box<[u8]>,
    /// Where the codes of each text end.
    ends: Box<[u32]>,
}

/// What codes stand for.
struct Symbols {
    parts: CompressorParts,
    /// Bytes of codes by bytes of text, of the texts that the symbols were chosen for.
    ratio: f64,
}

/// Codes, and where those of each text end.
type Codes = (Vec<u8>, Vec<u64>);

/// Integers, dates or times as differences from the least.
#[derive(Debug)]
struct Integers {
    least: i64,
    above: Above,
}

/// How far each integer is above the least.
#[derive(Debug)]
enum Above {
    /// Not at all.
    Equal,
    Bytes(Box<[u8]>),
    Shorts(Box<[u16]>),
    Words(Box<[u32]>),
}

/// Calls `$call!(type)` with the Arrow type of a column of integers, or evaluates `$other`.
macro_rules! for_integers {
    ($data_type:expr, $call:ident, $other:expr) => {
        match $data_type {
            DataType::Int16 => $call!(Int16Type),
            DataType::Int32 => $call!(Int32Type),
            DataType::Int64 => $call!(Int64Type),
            DataType::UInt32 => $call!(UInt32Type),
            DataType::Date32 => $call!(Date32Type),
            DataType::Time64(TimeUnit::Microsecond) => $call!(Time64MicrosecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => $call!(TimestampMicrosecondType),
            _ => $other,
        }
    };
}

/// The same for a column of texts or bytes.
macro_rules! for_texts {
    ($data_type:expr, $call:ident, $other:expr) => {
        match $data_type {
            DataType::Utf8 => $call!(Utf8Type),
            DataType::LargeUtf8 => $call!(LargeUtf8Type),
            DataType::Binary => $call!(BinaryType),
            DataType::LargeBinary => $call!(LargeBinaryType),
            _ => $other,
        }
    };
}

impl Column {
    /// Keeps the column in fewer bytes if that is worth it, with the symbols of `like` if they fit. An array that was
    /// just packed for another arrangement is not packed again. What did not pay off for the texts of `like` is tried
    /// only if `retries`.
    pub(crate) fn pack(&mut self, like: Option<&Column>, retries: bool) {
        let Column::Plain(array) = self else { return };
        if let Some(packed) = recall(array).or_else(|| Packed::new(array, like, retries)) {
            *self = Column::Packed(packed);
        }
    }

    /// The array, if it is one.
    pub(crate) fn plain(&self) -> Option<&ArrayRef> {
        if let Column::Plain(array) = self { Some(array) } else { None }
    }

    /// `len` rows from `start` on.
    pub(crate) fn slice(&self, start: usize, len: usize) -> ArrayRef {
        match self {
            Column::Plain(array) if (start, len) == (0, array.len()) => array.clone(),
            Column::Plain(array) => array.slice(start, len),
            Column::Packed(_) => {
                let rows: Vec<(usize, usize)> = (start..start + len).map(|row| (0, row)).collect();
                gather_packed(&[self], &rows)
            }
        }
    }

    /// Memory of its own values.
    pub(crate) fn byte_count(&self) -> usize {
        match self {
            Column::Plain(array) => array.to_data().get_slice_memory_size().unwrap_or(0),
            Column::Packed(packed) => packed.byte_count(),
        }
    }

    /// Memory of its buffers.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Column::Plain(array) => array.get_array_memory_size(),
            Column::Packed(packed) => packed.byte_count(),
        }
    }

    /// Value `row` as an array of one.
    pub(crate) fn single(&self, row: usize) -> ArrayRef {
        self.slice(row, 1)
    }

    /// Orders value `row` and value `other_row` of `other`, as [`compare_values`] does.
    pub(crate) fn compare(
        &self,
        row: usize,
        other: &Column,
        other_row: usize,
        descending: bool,
        nulls_first: bool,
    ) -> Ordering {
        if let (Column::Plain(left), Column::Plain(right)) = (self, other) {
            return compare_values(left, row, right, other_row, descending, nulls_first);
        }
        if let (Some(left), Some(right)) = (self.codes(row), other.codes(other_row))
            && left == right
        {
            return Ordering::Equal;
        }
        if let (Some(left), Some(right)) = (self.integer(row), other.integer(other_row)) {
            return if descending { right.cmp(&left) } else { left.cmp(&right) };
        }
        compare_values(&self.single(row), 0, &other.single(other_row), 0, descending, nulls_first)
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Column::Plain(array) => array.nulls(),
            Column::Packed(packed) => packed.nulls.as_ref(),
        }
    }

    /// Whether value `row` is NULL.
    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The codes of text `row`, and what they mean: where both are the same, so are the texts.
    fn codes(&self, row: usize) -> Option<(*const Symbols, &[u8])> {
        match self {
            Column::Packed(packed) if !self.is_null(row) => match &packed.values {
                Values::Texts(texts) => Some((Arc::as_ptr(&texts.symbols), texts.codes(row))),
                Values::Integers(_) => None,
            },
            _ => None,
        }
    }

    /// The integer at `row`, if it is one and not NULL.
    fn integer(&self, row: usize) -> Option<i64> {
        if self.is_null(row) {
            return None;
        }
        match self {
            Column::Packed(packed) => match &packed.values {
                Values::Integers(integers) => Some(integers.value(row)),
                Values::Texts(_) => None,
            },
            Column::Plain(array) => {
                macro_rules! value {
                    ($type:ty) => {
                        Some(i64::from(array.as_primitive::<$type>().value(row)))
                    };
                }
                for_integers!(array.data_type(), value, None)
            }
        }
    }
}

impl Packed {
    /// `None` if the array is better as it is.
    fn new(array: &ArrayRef, like: Option<&Column>, retries: bool) -> Option<Arc<Packed>> {
        macro_rules! texts {
            ($type:ty) => {
                Texts::pack::<$type>(array.as_bytes(), like, retries).map(Values::Texts)
            };
        }
        macro_rules! integers {
            ($type:ty) => {
                Integers::pack::<$type>(array.as_primitive()).map(Values::Integers)
            };
        }
        let values = for_texts!(array.data_type(), texts, for_integers!(array.data_type(), integers, None))?;
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        let packed = Arc::new(Packed { data_type: array.data_type().clone(), nulls, values });
        remember(array, &packed);
        Some(packed)
    }

    fn byte_count(&self) -> usize {
        let values = match &self.values {
            Values::Texts(texts) => texts.codes.len() + texts.ends.len() * 4,
            Values::Integers(integers) => integers.above.byte_count(),
        };
        values + self.nulls.as_ref().map_or(0, |nulls| nulls.len() / 8)
    }
}

impl Texts {
    /// `None` if they do not lose a quarter of their bytes, or did not before.
    fn pack<T: ByteArrayType>(array: &GenericByteArray<T>, like: Option<&Column>, retries: bool) -> Option<Texts> {
        let known = match like {
            Some(Column::Packed(packed)) => match &packed.values {
                Values::Texts(texts) => Some(&texts.symbols),
                Values::Integers(_) => None,
            },
            Some(Column::Plain(_)) if !retries => return None,
            _ => None,
        };
        let values: Vec<&[u8]> = (0..array.len()).map(|row| array.value(row).as_ref()).collect();
        let byte_count: usize = values.iter().map(|value| value.len()).sum();
        if byte_count < array.len() * TEXT_BYTES_MIN || byte_count > TEXT_BYTES_MAX {
            return None;
        }
        let packed = known.and_then(|symbols| {
            let codes = symbols.pack(&values);
            let fits = codes.0.len() as f64 <= byte_count as f64 * symbols.ratio * RATIO_SLACK;
            (fits || array.len() < CHOICE_ROWS_MIN).then(|| (codes, symbols.clone()))
        });
        let ((codes, ends), symbols) = packed.unwrap_or_else(|| Symbols::chosen_for(&values, byte_count));
        let is_smaller = codes.len() <= byte_count / 4 * 3;
        let ends = ends.into_iter().map(|end| end as u32).collect();
        is_smaller.then(|| Texts { symbols, codes: codes.into_boxed_slice(), ends })
    }

    #[inline]
    fn codes(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.codes[start..self.ends[row] as usize]
    }

    /// Appends text `row` to `bytes`.
    #[inline]
    fn unpack(&self, row: usize, bytes: &mut Vec<u8>) {
        let parts = &self.symbols.parts;
        let (unpacker, codes) = (Decompressor::new(&parts.symbols, &parts.lengths), self.codes(row));
        bytes.reserve(unpacker.max_decompression_capacity(codes));
        let len = unpacker.decompress_into(codes, bytes.spare_capacity_mut());
        // SAFETY: that many bytes behind the end have just been written.
        unsafe { bytes.set_len(bytes.len() + len) };
    }
}

impl fmt::Debug for Symbols {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Symbols of ratio {}", self.ratio)
    }
}

impl Symbols {
    /// Symbols for these texts, of that many bytes, and the codes of the texts.
    fn chosen_for(values: &Vec<&[u8]>, byte_count: usize) -> (Codes, Arc<Symbols>) {
        let packer = Compressor::train(values);
        let codes = pack(&packer, values);
        let ratio = codes.0.len() as f64 / byte_count.max(1) as f64;
        let symbols = Arc::new(Symbols { parts: packer.clone().into_parts(), ratio });
        PACKERS.with_borrow_mut(|packers| push_recent(packers, (Arc::downgrade(&symbols), packer)));
        (codes, symbols)
    }

    fn pack(self: &Arc<Symbols>, values: &[&[u8]]) -> Codes {
        PACKERS.with_borrow_mut(|packers| {
            let found = packers.iter().position(|(symbols, _)| std::ptr::eq(symbols.as_ptr(), Arc::as_ptr(self)));
            let packer = found.and_then(|at| packers.remove(at)).unwrap_or_else(|| {
                let used = ..self.parts.n_symbols as usize;
                let packer = Compressor::rebuild_from(&self.parts.symbols[used], &self.parts.lengths[used]);
                (Arc::downgrade(self), packer)
            });
            let codes = pack(&packer.1, values);
            push_recent(packers, packer);
            codes
        })
    }
}

fn pack(packer: &Compressor, values: &[&[u8]]) -> Codes {
    let (mut codes, mut ends) = (Vec::new(), Vec::new());
    packer.compress_bulk_into::<{ Compressor::DEFAULT_BULK_LANES }>(values, &mut codes, &mut ends);
    (codes, ends)
}

impl Integers {
    /// `None` if they lie too far apart.
    fn pack<T>(array: &PrimitiveArray<T>) -> Option<Integers>
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for value in array.iter().flatten() {
            let value = value.into();
            (least, most) = (least.min(value), most.max(value));
        }
        if least > most {
            return None;
        }
        // What lies under a NULL may be anything.
        let above = array.values().iter().map(|value| (*value).into().wrapping_sub(least));
        let above = match most.checked_sub(least)? {
            0 => Above::Equal,
            1..=0xff => Above::Bytes(above.map(|value| value as u8).collect()),
            0x100..=0xffff => Above::Shorts(above.map(|value| value as u16).collect()),
            0x1_0000..=0xffff_ffff => Above::Words(above.map(|value| value as u32).collect()),
            _ => return None,
        };
        let is_smaller = above.byte_count() < array.len() * size_of::<T::Native>();
        is_smaller.then_some(Integers { least, above })
    }

    #[inline(always)]
    fn value(&self, row: usize) -> i64 {
        let above = match &self.above {
            Above::Equal => 0,
            Above::Bytes(values) => values[row] as i64,
            Above::Shorts(values) => values[row] as i64,
            Above::Words(values) => values[row] as i64,
        };
        // Wraps only under a NULL.
        self.least.wrapping_add(above)
    }
}

impl Above {
    fn byte_count(&self) -> usize {
        match self {
            Above::Equal => 0,
            Above::Bytes(values) => values.len(),
            Above::Shorts(values) => values.len() * 2,
            Above::Words(values) => values.len() * 4,
        }
    }
}

/// Rows `(column, row)` of columns of one type, of which at least one is packed.
pub(crate) fn gather_packed(columns: &[&Column], rows: &[(usize, usize)]) -> ArrayRef {
    let packed = columns.iter().find_map(|column| match column {
        Column::Packed(packed) => Some(packed),
        Column::Plain(_) => None,
    });
    let data_type = &packed.expect("a packed column").data_type;
    macro_rules! texts {
        ($type:ty) => {
            Arc::new(gather_texts::<$type>(columns, rows))
        };
    }
    macro_rules! integers {
        ($type:ty) => {
            Arc::new(gather_integers::<$type>(columns, rows, |value| value as _).with_data_type(data_type.clone()))
        };
    }
    for_texts!(data_type, texts, for_integers!(data_type, integers, unreachable!("{data_type} is not packed")))
}

fn gather_nulls(columns: &[&Column], rows: &[(usize, usize)]) -> Option<NullBuffer> {
    if columns.iter().all(|column| column.nulls().is_none()) {
        return None;
    }
    let mut nulls = NullBufferBuilder::new(rows.len());
    rows.iter().for_each(|(column, row)| nulls.append(!columns[*column].is_null(*row)));
    nulls.finish()
}

fn gather_integers<T: ArrowPrimitiveType>(
    columns: &[&Column],
    rows: &[(usize, usize)],
    narrow: impl Fn(i64) -> T::Native,
) -> PrimitiveArray<T> {
    enum Part<'a, N> {
        Plain(&'a [N]),
        Packed(&'a Integers),
    }
    let parts: Vec<Part<'_, T::Native>> = columns
        .iter()
        .map(|column| match column {
            Column::Plain(array) => Part::Plain(array.as_primitive::<T>().values()),
            Column::Packed(packed) => match &packed.values {
                Values::Integers(integers) => Part::Packed(integers),
                Values::Texts(_) => unreachable!("columns of one type"),
            },
        })
        .collect();
    let values: ScalarBuffer<T::Native> = rows
        .iter()
        .map(|(column, row)| match &parts[*column] {
            Part::Plain(values) => values[*row],
            Part::Packed(integers) => narrow(integers.value(*row)),
        })
        .collect();
    PrimitiveArray::new(values, gather_nulls(columns, rows))
}

fn gather_texts<T: ByteArrayType>(columns: &[&Column], rows: &[(usize, usize)]) -> GenericByteArray<T> {
    enum Part<'a, T: ByteArrayType> {
        Plain(&'a GenericByteArray<T>),
        Packed(&'a Texts),
    }
    let parts: Vec<Part<'_, T>> = columns
        .iter()
        .map(|column| match column {
            Column::Plain(array) => Part::Plain(array.as_bytes()),
            Column::Packed(packed) => match &packed.values {
                Values::Texts(texts) => Part::Packed(texts),
                Values::Integers(_) => unreachable!("columns of one type"),
            },
        })
        .collect();
    let mut offsets: Vec<T::Offset> = Vec::with_capacity(rows.len() + 1);
    offsets.push(T::Offset::usize_as(0));
    let mut bytes = Vec::new();
    for (column, row) in rows {
        match &parts[*column] {
            Part::Plain(array) => bytes.extend_from_slice(array.value(*row).as_ref()),
            Part::Packed(texts) => texts.unpack(*row, &mut bytes),
        }
        offsets.push(T::Offset::from_usize(bytes.len()).expect("texts of one gather within their type's offsets"));
    }
    // What grew by doubling would look like a slice of something larger.
    bytes.shrink_to_fit();
    GenericByteArray::new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes), gather_nulls(columns, rows))
}

thread_local! {
    /// The last packers, the last used first: large tables that symbols are looked up in.
    static PACKERS: RefCell<VecDeque<(Weak<Symbols>, Compressor)>> = const { RefCell::new(VecDeque::new()) };
    /// The last arrays that were packed: relations that are arranged in several ways come here once for each.
    static PACKED: RefCell<VecDeque<(Weak<dyn Array>, Weak<Packed>)>> = const { RefCell::new(VecDeque::new()) };
}

/// What `array` was packed to, if that is still there.
fn recall(array: &ArrayRef) -> Option<Arc<Packed>> {
    PACKED.with_borrow(|packed| {
        let known = packed.iter().find(|(known, _)| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(array)));
        known.and_then(|(_, packed)| packed.upgrade())
    })
}

fn remember(array: &ArrayRef, column: &Arc<Packed>) {
    PACKED.with_borrow_mut(|packed| push_recent(packed, (Arc::downgrade(array), Arc::downgrade(column))));
}

fn push_recent<X>(recent: &mut VecDeque<X>, item: X) {
    recent.push_front(item);
    recent.truncate(REMEMBERED);
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, Float64Array, Int64Array, LargeStringArray, StringArray, TimestampMicrosecondArray,
    };
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn packed(array: &ArrayRef) -> Column {
        let mut column = Column::Plain(array.clone());
        column.pack(None, true);
        column
    }

    fn address(random: &mut StdRng) -> String {
        format!("https://www.example.org/{}/item?channel={}&ümlaut=ß", random.random::<u16>(), random.random::<u8>())
    }

    /// Columns of each type, with NULLs, that are worth packing.
    fn arrays(random: &mut StdRng, rows: usize) -> Vec<ArrayRef> {
        let mut texts = |_| (random.random_range(0..10) > 0).then(|| address(random));
        let texts: Vec<Option<String>> = (0..rows).map(&mut texts).collect();
        let bytes: Vec<Option<&[u8]>> = texts.iter().map(|text| text.as_ref().map(|text| text.as_bytes())).collect();
        let mut number =
            |least: i64, most: i64| (random.random_range(0..10) > 0).then(|| random.random_range(least..most));
        vec![
            Arc::new(StringArray::from(texts.clone())),
            Arc::new(LargeStringArray::from(texts.clone())),
            Arc::new(BinaryArray::from(bytes)),
            Arc::new((0..rows).map(|_| number(-5, 200)).collect::<Int64Array>()),
            Arc::new((0..rows).map(|_| number(i64::MIN, i64::MIN + 60_000)).collect::<Int64Array>()),
            Arc::new((0..rows).map(|_| number(i64::MAX - 4_000_000_000, i64::MAX)).collect::<Int64Array>()),
            Arc::new((0..rows).map(|_| number(7, 8)).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        ]
    }

    #[test]
    fn any_rows_come_back_as_they_were() {
        let mut random = StdRng::seed_from_u64(1);
        for (left, right) in arrays(&mut random, 3000).into_iter().zip(arrays(&mut random, 50)) {
            let (small, plain) = (packed(&left), Column::Plain(right.clone()));
            assert!(small.plain().is_none() && small.byte_count() * 3 < left.get_array_memory_size() * 2);
            assert_eq!(&small.slice(0, 3000), &left);
            assert_eq!(&small.slice(17, 1000), &left.slice(17, 1000));
            let rows: Vec<(usize, usize)> =
                (0..500)
                    .map(|_| {
                        if random.random() {
                            (0, random.random_range(0..3000))
                        } else {
                            (1, random.random_range(0..50))
                        }
                    })
                    .collect();
            let expected = arrow::compute::interleave(&[&left, &right], &rows).unwrap();
            assert_eq!(gather_packed(&[&small, &plain], &rows).as_ref(), expected.as_ref());
            assert_eq!(gather_packed(&[&small], &[]).len(), 0);
        }
    }

    #[test]
    fn values_are_ordered_like_those_of_arrays() {
        let mut random = StdRng::seed_from_u64(2);
        for array in arrays(&mut random, 2000) {
            let (small, plain) = (packed(&array), Column::Plain(array.clone()));
            for _ in 0..500 {
                let (i, j) = (random.random_range(0..2000), random.random_range(0..2000));
                let (descending, nulls_first) = (random.random(), random.random());
                let expected = compare_values(&array, i, &array, j, descending, nulls_first);
                for (left, right) in [(&small, &small), (&small, &plain), (&plain, &small)] {
                    assert_eq!(left.compare(i, right, j, descending, nulls_first), expected);
                }
                assert_eq!(small.compare(i, &small, i, descending, nulls_first), Ordering::Equal);
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_come_back() {
        let mut random = StdRng::seed_from_u64(6);
        let alphabet = [0, 0, 1, 7, 0xff, 0xff, b'a'];
        for longest in [24, 40, 200] {
            let mut value = || -> Vec<u8> {
                let length = random.random_range(0..=longest);
                (0..length).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect()
            };
            let array: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..5000).map(|_| value())));
            let column = packed(&array);
            assert!(column.plain().is_none());
            assert_eq!(&column.slice(0, 5000), &array);
            assert!((0..200).all(|row| column.single(row).as_ref() == array.slice(row, 1).as_ref()));
        }
    }

    #[test]
    fn an_array_is_packed_once() {
        let array = arrays(&mut StdRng::seed_from_u64(3), 2000).swap_remove(0);
        let (Column::Packed(first), Column::Packed(second)) = (packed(&array), packed(&array)) else {
            panic!("packed")
        };
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn symbols_are_taken_over_while_they_fit() {
        let mut random = StdRng::seed_from_u64(4);
        let symbols = |column: &Column| match column {
            Column::Packed(packed) => match &packed.values {
                Values::Texts(texts) => Arc::clone(&texts.symbols),
                Values::Integers(_) => panic!("texts"),
            },
            Column::Plain(_) => panic!("packed"),
        };
        let like = packed(&arrays(&mut random, 10_000).swap_remove(0));
        let mut next = Column::Plain(arrays(&mut random, 10_000).swap_remove(0));
        next.pack(Some(&like), false);
        assert!(Arc::ptr_eq(&symbols(&like), &symbols(&next)));
        let others: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..10_000).map(|n| format!("{n} GRÖSSERE WERTE"))));
        let mut other = Column::Plain(others.clone());
        other.pack(Some(&like), false);
        assert!(!Arc::ptr_eq(&symbols(&like), &symbols(&other)));
        assert_eq!(&other.slice(0, 10_000), &others);
    }

    #[test]
    fn what_does_not_get_smaller_stays() {
        let mut random = StdRng::seed_from_u64(5);
        let noise: Vec<Vec<u8>> = (0..2000).map(|_| (0..40).map(|_| random.random()).collect()).collect();
        let far: Int64Array = (0..2000).map(|n| Some(if n % 2 == 0 { i64::MIN } else { i64::MAX })).collect();
        let columns: [ArrayRef; 5] = [
            Arc::new(BinaryArray::from_iter_values(noise)),
            Arc::new(far),
            Arc::new(StringArray::from_iter_values((0..2000).map(|n| (n % 10).to_string()))),
            Arc::new(Float64Array::from_iter_values((0..2000).map(f64::from))),
            Arc::new(Int64Array::new_null(2000)),
        ];
        assert!(columns.iter().all(|column| packed(column).plain().is_some()));
    }
}
