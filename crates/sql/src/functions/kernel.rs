//! How our scalar functions run: a body over the arguments of a batch, wrapped as a DataFusion `ScalarUDF`.
//!
//! The wrapper does what every function needs alike: constants stay constants (a call of constants only gives a constant), NULL
//! in gives NULL out for strict functions, and a [`PgError`] leaves boxed as `DataFusionError::External`. A body sees rows
//! by index and never cares whether an argument is a column or a constant.
//!
//! Functions are interned, process-wide: two calls of one function are equal expressions.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use repr::PgError;
use repr::numeric::Numeric;
use repr::text::interval::Interval;

/// Computes a result array of `call.rows()` rows.
pub(crate) type Body = fn(&Call) -> Result<ArrayRef, PgError>;

/// What a function does with NULL arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Nulls {
    /// Any NULL gives NULL, without the body being asked.
    Strict,
    /// The body sees them.
    Seen,
}

struct Kernel {
    name: String,
    result: DataType,
    nulls: Nulls,
    signature: Signature,
    body: Body,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

// The body is a function of the name and the types, and function pointers do not compare reliably.
impl PartialEq for Kernel {
    fn eq(&self, other: &Kernel) -> bool {
        self.name == other.name && self.signature == other.signature && self.result == other.result
    }
}

impl Eq for Kernel {}

impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.signature.hash(state);
    }
}

/// Makes a PgError what DataFusion's kernels may return.
pub(crate) fn external(error: PgError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl ScalarUDFImpl for Kernel {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> datafusion::error::Result<DataType> {
        Ok(self.result.clone())
    }

    fn is_strict(&self) -> bool {
        self.nulls == Nulls::Strict
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> datafusion::error::Result<ColumnarValue> {
        let constant = arguments.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { arguments.number_rows };
        let mut nulls: Option<NullBuffer> = None;
        let mut columns = Vec::with_capacity(arguments.args.len());
        for value in arguments.args {
            match value {
                ColumnarValue::Scalar(scalar) => {
                    if self.nulls == Nulls::Strict && scalar.is_null() {
                        return Ok(ColumnarValue::Scalar(ScalarValue::try_from(&self.result)?));
                    }
                    columns.push(Argument { array: scalar.to_array_of_size(1)?, mask: 0 });
                }
                ColumnarValue::Array(array) => {
                    if self.nulls == Nulls::Strict {
                        nulls = NullBuffer::union(nulls.as_ref(), array.logical_nulls().as_ref());
                    }
                    columns.push(Argument { array, mask: usize::MAX });
                }
            }
        }
        let call = Call { arguments: columns, rows, nulls, result: &self.result };
        let result = (self.body)(&call).map_err(external)?;
        debug_assert_eq!(result.data_type(), &self.result, "{}", self.name);
        debug_assert_eq!(result.len(), rows, "{}", self.name);
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

type Interned = HashMap<(String, Vec<DataType>, DataType), Arc<ScalarUDF>>;

/// The one `ScalarUDF` of this name and these types. `body` must be the same whenever they are.
pub(crate) fn kernel(
    name: &str,
    arguments: Vec<DataType>,
    result: DataType,
    nulls: Nulls,
    body: Body,
) -> Arc<ScalarUDF> {
    static INTERNED: LazyLock<Mutex<Interned>> = LazyLock::new(Mutex::default);
    // A panic elsewhere cannot have left the map half written.
    let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (name.to_string(), arguments, result);
    if let Some(found) = interned.get(&key) {
        return Arc::clone(found);
    }
    let (name, arguments, result) = key.clone();
    let signature = match arguments.is_empty() {
        true => Signature::nullary(Volatility::Immutable),
        false => Signature::exact(arguments, Volatility::Immutable),
    };
    let udf = Arc::new(ScalarUDF::new_from_impl(Kernel { name, result, nulls, signature, body }));
    interned.insert(key, Arc::clone(&udf));
    udf
}

/// A call of a strict kernel over arguments of these Arrow types.
pub(crate) fn call_strict(name: &str, arguments: Vec<(Expr, DataType)>, result: DataType, body: Body) -> Expr {
    call(name, arguments, result, Nulls::Strict, body)
}

/// A call of a kernel over arguments of these Arrow types.
pub(crate) fn call(name: &str, arguments: Vec<(Expr, DataType)>, result: DataType, nulls: Nulls, body: Body) -> Expr {
    let (expressions, types): (Vec<Expr>, Vec<DataType>) = arguments.into_iter().unzip();
    Expr::ScalarFunction(ScalarFunction::new_udf(kernel(name, types, result, nulls, body), expressions))
}

struct Argument {
    array: ArrayRef,
    /// 0 for a constant, all ones for a column: `row & mask` is the index of the row's value.
    mask: usize,
}

/// One invocation: the arguments of a batch.
pub(crate) struct Call<'a> {
    arguments: Vec<Argument>,
    rows: usize,
    nulls: Option<NullBuffer>,
    result: &'a DataType,
}

/// The values of one argument by row.
pub(crate) struct Column<'a, A> {
    array: &'a A,
    mask: usize,
}

// Derived, these would ask the same of the array, which is only borrowed.
impl<A> Clone for Column<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Column<'_, A> {}

impl<T: ArrowPrimitiveType> Column<'_, PrimitiveArray<T>> {
    #[inline(always)]
    pub(crate) fn get(&self, row: usize) -> T::Native {
        self.array.values()[row & self.mask]
    }
}

impl Column<'_, BooleanArray> {
    pub(crate) fn get(&self, row: usize) -> bool {
        self.array.value(row & self.mask)
    }
}

impl<'a, O: OffsetSizeTrait> Column<'a, GenericStringArray<O>> {
    #[inline(always)]
    pub(crate) fn get(&self, row: usize) -> &'a str {
        self.array.value(row & self.mask)
    }
}

impl<'a, O: OffsetSizeTrait> Column<'a, GenericBinaryArray<O>> {
    #[inline(always)]
    pub(crate) fn get(&self, row: usize) -> &'a [u8] {
        self.array.value(row & self.mask)
    }
}

/// A column of numerics.
#[derive(Clone, Copy)]
pub(crate) struct NumericColumn<'a>(Column<'a, LargeBinaryArray>);

impl NumericColumn<'_> {
    #[inline(always)]
    pub(crate) fn get(&self, row: usize) -> Numeric {
        Numeric::decode(self.0.get(row))
    }
}

/// A column of intervals.
#[derive(Clone, Copy)]
pub(crate) struct IntervalColumn<'a>(Column<'a, IntervalMonthDayNanoArray>);

impl IntervalColumn<'_> {
    #[inline(always)]
    pub(crate) fn get(&self, row: usize) -> Interval {
        Interval::from_arrow(self.0.get(row))
    }
}

impl Call<'_> {
    /// Rows to compute; 1 if all arguments are constants.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many arguments there are.
    pub(crate) fn argument_count(&self) -> usize {
        self.arguments.len()
    }

    /// The result's Arrow type.
    pub(crate) fn result(&self) -> &DataType {
        self.result
    }

    /// An argument's array, and whether it is a constant of one row.
    pub(crate) fn argument(&self, index: usize) -> (&ArrayRef, bool) {
        let argument = &self.arguments[index];
        (&argument.array, argument.mask == 0)
    }

    /// The index into an argument's array of a row's value.
    pub(crate) fn index(&self, argument: usize, row: usize) -> usize {
        row & self.arguments[argument].mask
    }

    /// Rows that are NULL because a strict argument is.
    pub(crate) fn nulls(&self) -> Option<&NullBuffer> {
        self.nulls.as_ref()
    }

    /// Whether no strict argument of the row is NULL.
    #[inline(always)]
    pub(crate) fn is_valid(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    /// Whether one argument is NULL.
    pub(crate) fn is_null(&self, argument: usize, row: usize) -> bool {
        let argument = &self.arguments[argument];
        argument.array.is_null(row & argument.mask)
    }

    pub(crate) fn primitive<T: ArrowPrimitiveType>(&self, index: usize) -> Column<'_, PrimitiveArray<T>> {
        let argument = &self.arguments[index];
        Column { array: argument.array.as_primitive::<T>(), mask: argument.mask }
    }

    pub(crate) fn int4(&self, index: usize) -> Column<'_, Int32Array> {
        self.primitive::<Int32Type>(index)
    }

    pub(crate) fn int8(&self, index: usize) -> Column<'_, Int64Array> {
        self.primitive::<Int64Type>(index)
    }

    pub(crate) fn float8(&self, index: usize) -> Column<'_, Float64Array> {
        self.primitive::<Float64Type>(index)
    }

    pub(crate) fn date(&self, index: usize) -> Column<'_, Date32Array> {
        self.primitive::<Date32Type>(index)
    }

    pub(crate) fn time(&self, index: usize) -> Column<'_, Time64MicrosecondArray> {
        self.primitive::<Time64MicrosecondType>(index)
    }

    /// Timestamps with or without time zone.
    pub(crate) fn timestamp(&self, index: usize) -> Column<'_, TimestampMicrosecondArray> {
        self.primitive::<TimestampMicrosecondType>(index)
    }

    pub(crate) fn interval(&self, index: usize) -> IntervalColumn<'_> {
        IntervalColumn(self.primitive::<IntervalMonthDayNanoType>(index))
    }

    pub(crate) fn boolean(&self, index: usize) -> Column<'_, BooleanArray> {
        let argument = &self.arguments[index];
        Column { array: argument.array.as_boolean(), mask: argument.mask }
    }

    pub(crate) fn text(&self, index: usize) -> Column<'_, StringArray> {
        let argument = &self.arguments[index];
        Column { array: argument.array.as_string::<i32>(), mask: argument.mask }
    }

    pub(crate) fn json(&self, index: usize) -> Column<'_, LargeStringArray> {
        let argument = &self.arguments[index];
        Column { array: argument.array.as_string::<i64>(), mask: argument.mask }
    }

    pub(crate) fn bytes(&self, index: usize) -> Column<'_, BinaryArray> {
        let argument = &self.arguments[index];
        Column { array: argument.array.as_binary::<i32>(), mask: argument.mask }
    }

    /// A numeric's stored bytes.
    pub(crate) fn large_bytes(&self, index: usize) -> Column<'_, LargeBinaryArray> {
        let argument = &self.arguments[index];
        Column { array: argument.array.as_binary::<i64>(), mask: argument.mask }
    }

    pub(crate) fn numeric(&self, index: usize) -> NumericColumn<'_> {
        NumericColumn(self.large_bytes(index))
    }

    /// One primitive a row; the result type may carry a time zone.
    pub(crate) fn map<T: ArrowPrimitiveType>(
        &self,
        mut compute: impl FnMut(usize) -> Result<T::Native, PgError>,
    ) -> Result<ArrayRef, PgError> {
        let mut values = Vec::with_capacity(self.rows);
        match &self.nulls {
            None => {
                for row in 0..self.rows {
                    values.push(compute(row)?);
                }
            }
            Some(nulls) => {
                for row in 0..self.rows {
                    values.push(if nulls.is_valid(row) { compute(row)? } else { T::Native::default() });
                }
            }
        }
        let array = PrimitiveArray::<T>::new(values.into(), self.nulls.clone());
        Ok(Arc::new(array.with_data_type(self.result.clone())))
    }

    /// One primitive a row, or NULL.
    pub(crate) fn map_nullable<T: ArrowPrimitiveType>(
        &self,
        mut compute: impl FnMut(usize) -> Result<Option<T::Native>, PgError>,
    ) -> Result<ArrayRef, PgError> {
        let mut builder = PrimitiveBuilder::<T>::with_capacity(self.rows);
        for row in 0..self.rows {
            builder.append_option(if self.is_valid(row) { compute(row)? } else { None });
        }
        Ok(Arc::new(builder.finish().with_data_type(self.result.clone())))
    }

    pub(crate) fn map_bool(
        &self,
        mut compute: impl FnMut(usize) -> Result<bool, PgError>,
    ) -> Result<ArrayRef, PgError> {
        self.map_bool_nullable(|row| compute(row).map(Some))
    }

    pub(crate) fn map_bool_nullable(
        &self,
        mut compute: impl FnMut(usize) -> Result<Option<bool>, PgError>,
    ) -> Result<ArrayRef, PgError> {
        let mut builder = BooleanBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            builder.append_option(if self.is_valid(row) { compute(row)? } else { None });
        }
        Ok(Arc::new(builder.finish()))
    }

    /// Text a row, appended by the closure to an empty string.
    pub(crate) fn map_text(
        &self,
        mut compute: impl FnMut(usize, &mut String) -> Result<(), PgError>,
    ) -> Result<ArrayRef, PgError> {
        self.map_text_nullable(|row, out| compute(row, out).map(|()| true))
    }

    /// Text a row; false from the closure is NULL. Makes JSON where that is the result type.
    pub(crate) fn map_text_nullable(
        &self,
        mut compute: impl FnMut(usize, &mut String) -> Result<bool, PgError>,
    ) -> Result<ArrayRef, PgError> {
        if *self.result == DataType::LargeUtf8 {
            let mut builder = LargeStringBuilder::with_capacity(self.rows, self.rows * 16);
            let mut scratch = String::new();
            for row in 0..self.rows {
                scratch.clear();
                let present = self.is_valid(row) && compute(row, &mut scratch)?;
                builder.append_option(present.then_some(scratch.as_str()));
            }
            return Ok(Arc::new(builder.finish()));
        }
        let mut builder = StringBuilder::with_capacity(self.rows, self.rows * 16);
        let mut scratch = String::new();
        for row in 0..self.rows {
            scratch.clear();
            let present = self.is_valid(row) && compute(row, &mut scratch)?;
            builder.append_option(present.then_some(scratch.as_str()));
        }
        Ok(Arc::new(builder.finish()))
    }

    /// A slice of an argument a row, without copying it twice.
    pub(crate) fn map_str<'s>(
        &self,
        mut compute: impl FnMut(usize) -> Result<Option<&'s str>, PgError>,
    ) -> Result<ArrayRef, PgError> {
        let mut builder = StringBuilder::with_capacity(self.rows, self.rows * 16);
        for row in 0..self.rows {
            builder.append_option(if self.is_valid(row) { compute(row)? } else { None });
        }
        Ok(Arc::new(builder.finish()))
    }

    pub(crate) fn map_numeric(
        &self,
        mut compute: impl FnMut(usize) -> Result<Numeric, PgError>,
    ) -> Result<ArrayRef, PgError> {
        self.map_numeric_nullable(|row| compute(row).map(Some))
    }

    pub(crate) fn map_numeric_nullable(
        &self,
        mut compute: impl FnMut(usize) -> Result<Option<Numeric>, PgError>,
    ) -> Result<ArrayRef, PgError> {
        let mut builder = LargeBinaryBuilder::with_capacity(self.rows, self.rows * 10);
        let mut scratch = Vec::with_capacity(32);
        for row in 0..self.rows {
            match self.is_valid(row) {
                true => match compute(row)? {
                    Some(value) => {
                        scratch.clear();
                        value.encode_into(&mut scratch);
                        builder.append_value(&scratch);
                    }
                    None => builder.append_null(),
                },
                false => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    pub(crate) fn map_bytes(
        &self,
        mut compute: impl FnMut(usize, &mut Vec<u8>) -> Result<(), PgError>,
    ) -> Result<ArrayRef, PgError> {
        let mut builder = BinaryBuilder::with_capacity(self.rows, self.rows * 16);
        let mut scratch = Vec::new();
        for row in 0..self.rows {
            if self.is_valid(row) {
                scratch.clear();
                compute(row, &mut scratch)?;
                builder.append_value(&scratch);
            } else {
                builder.append_null();
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    pub(crate) fn map_interval(
        &self,
        mut compute: impl FnMut(usize) -> Result<Interval, PgError>,
    ) -> Result<ArrayRef, PgError> {
        self.map::<IntervalMonthDayNanoType>(|row| compute(row)?.to_arrow())
    }
}
