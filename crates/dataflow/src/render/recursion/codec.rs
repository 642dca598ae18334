//! Rows of a loop as bytes, in Arrow's row format: comparing bytes compares rows.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Int32Array, PrimitiveArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float32Type, Float64Type, IntervalMonthDayNanoType, Schema};
use arrow::row::{RowConverter, SortField};
use plan::dataflow_plan::{SortKey, positional_schema};
use repr::PgError;
use smallvec::SmallVec;

use crate::DataflowError;
use crate::compare::interval_length;

/// A row in Arrow's row format, or the columns of a key. Two integers lie in place: rows are compared and copied all the time.
pub(super) type Encoded = SmallVec<[u8; 24]>;

/// Between columns and encoded rows. Rows that can be told apart have different encodings, as they have different hashes elsewhere.
#[derive(Clone)]
pub(super) struct Codec {
    converter: Rc<RowConverter>,
    width: usize,
}

impl Codec {
    /// Errors: `0A000` for a column type that has no encoding.
    pub(super) fn new(schema: &Schema) -> Result<Codec, DataflowError> {
        let fields: Vec<SortField> =
            schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let unsupported = || {
            let types: Vec<String> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
            DataflowError::Plan(PgError::unsupported(format!("columns of types {} in a recursion", types.join(", "))))
        };
        let converter = RowConverter::new(fields).map_err(|_| unsupported())?;
        Ok(Codec { converter: Rc::new(converter), width: schema.fields().len() })
    }

    pub(super) fn encode(&self, columns: &[ArrayRef], row_count: usize) -> Vec<Encoded> {
        if self.width == 0 {
            return vec![Encoded::new(); row_count];
        }
        let columns: Vec<ArrayRef> = columns.iter().map(|column| canonical(column, Zeros::Two)).collect();
        encoded(&self.converter, &columns)
    }

    pub(super) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        if self.width == 0 {
            return Vec::new();
        }
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.map(|row| parser.parse(row))).expect("rows that the codec's kind encoded")
    }
}

/// Some columns of rows, encoded alone.
#[derive(Clone)]
pub(super) struct KeyCodec {
    codec: Codec,
    key: Vec<usize>,
}

impl KeyCodec {
    /// The columns `key` of rows of `schema`. Errors: as [`Codec::new`].
    pub(super) fn new(schema: &Schema, key: &[usize]) -> Result<KeyCodec, DataflowError> {
        let types = key.iter().map(|column| schema.field(*column).data_type().clone());
        Ok(KeyCodec { codec: Codec::new(&positional_schema(types))?, key: key.to_vec() })
    }

    /// The key's columns among all.
    pub(super) fn columns(&self, columns: &[ArrayRef]) -> Vec<ArrayRef> {
        self.key.iter().map(|column| columns[*column].clone()).collect()
    }

    /// Keys from the key's columns.
    pub(super) fn encode(&self, columns: &[ArrayRef], row_count: usize) -> Vec<Encoded> {
        self.codec.encode(columns, row_count)
    }

    /// The key's columns.
    pub(super) fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        self.codec.decode(keys)
    }
}

/// Rows as bytes whose order is the order of a top-k: its sort columns, then all other columns ascending, NULLs last.
pub(super) struct OrderCodec {
    converter: RowConverter,
    /// The columns, each with how it is ordered.
    order: Vec<(usize, SortOptions)>,
}

impl OrderCodec {
    /// An order within groups by `key`, whose columns therefore order nothing.
    pub(super) fn new(schema: &Schema, key: &[usize], order: &[SortKey]) -> Result<OrderCodec, DataflowError> {
        let named = order.iter().map(|sort| {
            let options = SortOptions { descending: sort.descending, nulls_first: sort.nulls_first };
            (sort.column, options)
        });
        let mut order: Vec<(usize, SortOptions)> = named.collect();
        for column in (0..schema.fields().len()).filter(|column| !key.contains(column)) {
            if !order.iter().any(|(other, _)| *other == column) {
                order.push((column, SortOptions { descending: false, nulls_first: false }));
            }
        }
        let fields = order.iter().flat_map(|(column, options)| match schema.field(*column).data_type() {
            DataType::Interval(_) => interval_fields(*options),
            other => vec![SortField::new_with_options(other.clone(), *options)],
        });
        let converter = RowConverter::new(fields.collect());
        let converter = converter.map_err(|error| DataflowError::InvalidPlan(error.to_string()))?;
        Ok(OrderCodec { converter, order })
    }

    /// The rows of `columns`, of which there are `row_count`.
    pub(super) fn encode(&self, columns: &[ArrayRef], row_count: usize) -> Vec<Encoded> {
        if self.order.is_empty() {
            return vec![Encoded::new(); row_count];
        }
        let columns: Vec<ArrayRef> = self.order.iter().flat_map(|(column, _)| comparable(&columns[*column])).collect();
        encoded(&self.converter, &columns)
    }
}

fn encoded(converter: &RowConverter, columns: &[ArrayRef]) -> Vec<Encoded> {
    let rows = converter.convert_columns(columns).expect("columns of the types that the codec was made for");
    rows.iter().map(|row| Encoded::from_slice(row.as_ref())).collect()
}

/// Columns that Arrow orders as SQL orders `column`.
fn comparable(column: &ArrayRef) -> Vec<ArrayRef> {
    match column.data_type() {
        DataType::Interval(_) => {
            let values = column.as_primitive::<IntervalMonthDayNanoType>();
            let lengths: Decimal128Array = values.iter().map(|value| value.map(interval_length)).collect();
            let months: Int32Array = values.iter().map(|value| value.map(|value| !value.months)).collect();
            let days: Int32Array = values.iter().map(|value| value.map(|value| !value.days)).collect();
            vec![Arc::new(lengths), Arc::new(months), Arc::new(days)]
        }
        _ => vec![canonical(column, Zeros::One)],
    }
}

/// Of [`comparable`] for an interval: equal ones have more months first, then more days.
fn interval_fields(options: SortOptions) -> Vec<SortField> {
    let types = [DataType::Decimal128(38, 10), DataType::Int32, DataType::Int32];
    types.map(|data_type| SortField::new_with_options(data_type, options)).to_vec()
}

/// How many zeros there are among floats.
#[derive(Clone, Copy, PartialEq)]
enum Zeros {
    One,
    Two,
}

/// One NaN, and perhaps one zero.
fn canonical(column: &ArrayRef, zeros: Zeros) -> ArrayRef {
    fn each<T: ArrowPrimitiveType>(column: &ArrayRef, value: impl Fn(T::Native) -> T::Native) -> ArrayRef {
        let values: PrimitiveArray<T> = column.as_primitive::<T>().unary(value);
        Arc::new(values)
    }
    macro_rules! floats {
        ($type:ty, $nan:expr) => {
            each::<$type>(column, |value| match zeros {
                _ if value.is_nan() => $nan,
                Zeros::One => value + 0.0,
                Zeros::Two => value,
            })
        };
    }
    match column.data_type() {
        DataType::Float32 => floats!(Float32Type, f32::NAN),
        DataType::Float64 => floats!(Float64Type, f64::NAN),
        _ => column.clone(),
    }
}
