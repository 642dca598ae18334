//! Vectors: distances, arithmetic, and what becomes one.
//!
//! A column of vectors is one buffer of reals, and a kernel goes over two slices of it at a time. Sums are kept in [`LANES`]
//! parts that do not depend on each other, which is what lets the compiler use SIMD, in an order that is the same on every
//! machine: a maintained view and a SELECT agree to the last bit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Builder, Float64Array, Int32Array, ListArray, ListBuilder};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type};
use repr::numeric::Numeric;
use repr::text::vector::{check_dimensions, vector_element, vector_field};
use repr::{PgError, SqlState};

use super::kernel::Call;

/// The parts of a sum: two registers of the widest SIMD in common use.
const LANES: usize = 16;

/// One argument that is a column of vectors, or a constant.
struct Vectors<'a> {
    list: &'a ListArray,
    values: &'a [f32],
}

impl<'a> Vectors<'a> {
    fn of(call: &'a Call, argument: usize) -> Vectors<'a> {
        let list = call.argument(argument).0.as_list::<i32>();
        Vectors { list, values: list.values().as_primitive::<Float32Type>().values() }
    }

    /// The elements at an index of the argument's array.
    fn get(&self, index: usize) -> &'a [f32] {
        let offsets = self.list.value_offsets();
        &self.values[offsets[index] as usize..offsets[index + 1] as usize]
    }
}

/// The sum over all pairs of elements of what `term` makes of them.
#[inline(always)]
fn sum_of(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut lanes = [0f32; LANES];
    let (left_chunks, right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = left_chunks.remainder().iter().zip(right_chunks.remainder());
    let rest: f64 = rest.map(|(l, r)| f64::from(term(*l, *r))).sum();
    for (l, r) in left_chunks.zip(right_chunks) {
        for lane in 0..LANES {
            lanes[lane] += term(l[lane], r[lane]);
        }
    }
    lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + rest
}

fn inner(left: &[f32], right: &[f32]) -> f64 {
    sum_of(left, right, |l, r| l * r)
}

fn l2(left: &[f32], right: &[f32]) -> f64 {
    sum_of(left, right, |l, r| (l - r) * (l - r)).sqrt()
}

fn l1(left: &[f32], right: &[f32]) -> f64 {
    sum_of(left, right, |l, r| (l - r).abs())
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    // Of vectors of length 0 this is NaN.
    let similarity = inner(left, right) / (inner(left, left) * inner(right, right)).sqrt();
    1.0 - similarity.clamp(-1.0, 1.0)
}

fn same_dimensions(left: &[f32], right: &[f32]) -> Result<(), PgError> {
    if left.len() == right.len() {
        return Ok(());
    }
    let message = format!("different vector dimensions {} and {}", left.len(), right.len());
    Err(PgError::new(SqlState::DATA_EXCEPTION, message))
}

/// A double for each pair of vectors.
fn measured(call: &Call, measure: impl Fn(&[f32], &[f32]) -> f64) -> Result<ArrayRef, PgError> {
    let (left, right) = (Vectors::of(call, 0), Vectors::of(call, 1));
    let mut measures = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        if !call.is_valid(row) {
            measures.push(0.0);
            continue;
        }
        let (l, r) = (left.get(call.index(0, row)), right.get(call.index(1, row)));
        same_dimensions(l, r)?;
        measures.push(measure(l, r));
    }
    Ok(Arc::new(Float64Array::new(measures.into(), call.nulls().cloned())))
}

/// `l2_distance` and `<->`. Errors, as of all that takes two: `22000` where they differ in dimensions.
pub(crate) fn l2_distance(call: &Call) -> Result<ArrayRef, PgError> {
    measured(call, l2)
}

/// `inner_product`.
pub(crate) fn inner_product(call: &Call) -> Result<ArrayRef, PgError> {
    measured(call, inner)
}

/// `vector_negative_inner_product` and `<#>`: the nearest first.
pub(crate) fn negative_inner_product(call: &Call) -> Result<ArrayRef, PgError> {
    measured(call, |left, right| -inner(left, right))
}

/// `cosine_distance` and `<=>`.
pub(crate) fn cosine_distance(call: &Call) -> Result<ArrayRef, PgError> {
    measured(call, cosine)
}

/// `l1_distance` and `<+>`.
pub(crate) fn l1_distance(call: &Call) -> Result<ArrayRef, PgError> {
    measured(call, l1)
}

/// `vector_dims`.
pub(crate) fn dimensions(call: &Call) -> Result<ArrayRef, PgError> {
    let vectors = Vectors::of(call, 0);
    let count = |row| if call.is_valid(row) { vectors.get(call.index(0, row)).len() as i32 } else { 0 };
    let counts: Vec<i32> = (0..call.rows()).map(count).collect();
    Ok(Arc::new(Int32Array::new(counts.into(), call.nulls().cloned())))
}

/// `vector_norm`: its Euclidean length.
pub(crate) fn norm(call: &Call) -> Result<ArrayRef, PgError> {
    let vectors = Vectors::of(call, 0);
    let length = |row| {
        let vector = if call.is_valid(row) { vectors.get(call.index(0, row)) } else { &[] };
        inner(vector, vector).sqrt()
    };
    let lengths: Vec<f64> = (0..call.rows()).map(length).collect();
    Ok(Arc::new(Float64Array::new(lengths.into(), call.nulls().cloned())))
}

/// A vector for each row: `make` appends its elements to what it is given.
fn made(call: &Call, make: impl Fn(usize, &mut Vec<f32>) -> Result<(), PgError>) -> Result<ArrayRef, PgError> {
    let mut builder = ListBuilder::new(Float32Builder::new()).with_field(vector_field());
    let mut elements = Vec::new();
    for row in 0..call.rows() {
        elements.clear();
        if call.is_valid(row) {
            make(row, &mut elements)?;
            check_dimensions(elements.len(), -1)?;
        }
        builder.values().append_slice(&elements);
        builder.append(call.is_valid(row));
    }
    Ok(Arc::new(builder.finish()))
}

fn elementwise(call: &Call, operation: impl Fn(f32, f32) -> f32) -> Result<ArrayRef, PgError> {
    let (left, right) = (Vectors::of(call, 0), Vectors::of(call, 1));
    made(call, |row, elements| {
        let (l, r) = (left.get(call.index(0, row)), right.get(call.index(1, row)));
        same_dimensions(l, r)?;
        for (l, r) in l.iter().zip(r) {
            let value = operation(*l, *r);
            if value.is_infinite() {
                return Err(PgError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
            }
            // -0 is stored as 0.
            elements.push(value + 0.0);
        }
        Ok(())
    })
}

/// `+`. Errors, as of `-` and `*`: `22000`, `22003`.
pub(crate) fn add(call: &Call) -> Result<ArrayRef, PgError> {
    elementwise(call, |left, right| left + right)
}

/// `-`.
pub(crate) fn subtract(call: &Call) -> Result<ArrayRef, PgError> {
    elementwise(call, |left, right| left - right)
}

/// `*`: element by element.
pub(crate) fn multiply(call: &Call) -> Result<ArrayRef, PgError> {
    elementwise(call, |left, right| left * right)
}

/// `||`. Error `54000`.
pub(crate) fn concatenate(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (Vectors::of(call, 0), Vectors::of(call, 1));
    made(call, |row, elements| {
        elements.extend_from_slice(left.get(call.index(0, row)));
        elements.extend_from_slice(right.get(call.index(1, row)));
        Ok(())
    })
}

/// `l2_normalize`: of length 1, unless its length is 0.
pub(crate) fn normalize(call: &Call) -> Result<ArrayRef, PgError> {
    let vectors = Vectors::of(call, 0);
    made(call, |row, elements| {
        let vector = vectors.get(call.index(0, row));
        let length = inner(vector, vector).sqrt();
        let scaled = |element: &f32| if length > 0.0 { (f64::from(*element) / length) as f32 + 0.0 } else { 0.0 };
        elements.extend(vector.iter().map(scaled));
        Ok(())
    })
}

/// `subvector(vector, first, count)`, counted from 1; what is outside is left out. Error `22000` if nothing is left.
pub(crate) fn subvector(call: &Call) -> Result<ArrayRef, PgError> {
    let (vectors, first, count) = (Vectors::of(call, 0), call.int4(1), call.int4(2));
    made(call, |row, elements| {
        let vector = vectors.get(call.index(0, row));
        let length = vector.len() as i64;
        let start = i64::from(first.get(row)) - 1;
        let end = (start + i64::from(count.get(row)).max(0)).clamp(0, length);
        elements.extend_from_slice(&vector[start.clamp(0, end) as usize..end as usize]);
        Ok(())
    })
}

/// A vector of as many dimensions as its type's modifier, the second argument, says. Error `22000`.
pub(crate) fn fit(call: &Call) -> Result<ArrayRef, PgError> {
    let (vectors, typmod) = (Vectors::of(call, 0), call.int4(1));
    for row in (0..call.rows()).filter(|row| call.is_valid(*row)) {
        check_dimensions(vectors.get(call.index(0, row)).len(), typmod.get(row))?;
    }
    // The modifier is a constant, so there are as many rows as vectors.
    Ok(call.argument(0).0.clone())
}

/// The vector of an array's numbers. Errors: `22004` for NULL among them, and those of a vector's elements.
pub(crate) fn from_array(call: &Call) -> Result<ArrayRef, PgError> {
    let lists = call.argument(0).0.as_list::<i32>();
    made(call, |row, elements| {
        let numbers = lists.value(call.index(0, row));
        if numbers.null_count() > 0 {
            let message = "array must not contain nulls";
            return Err(PgError::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
        }
        for element in reals(&numbers)? {
            elements.push(vector_element(element)?);
        }
        Ok(())
    })
}

/// The elements as a `real[]`.
pub(crate) fn to_array(call: &Call) -> Result<ArrayRef, PgError> {
    let vectors = call.argument(0).0.as_list::<i32>();
    let DataType::List(field) = call.result() else { return Err(PgError::internal("an array that is no list")) };
    let (_, offsets, values, nulls) = vectors.clone().into_parts();
    Ok(Arc::new(ListArray::new(field.clone(), offsets, values, nulls)))
}

/// Numbers of any type that a vector is made of, as reals; what is too large is infinite.
fn reals(numbers: &ArrayRef) -> Result<Vec<f32>, PgError> {
    Ok(match numbers.data_type() {
        DataType::Int32 => numbers.as_primitive::<Int32Type>().values().iter().map(|value| *value as f32).collect(),
        DataType::Float32 => numbers.as_primitive::<Float32Type>().values().to_vec(),
        DataType::Float64 => numbers.as_primitive::<Float64Type>().values().iter().map(|value| *value as f32).collect(),
        DataType::LargeBinary => {
            let numbers = numbers.as_binary::<i64>().iter().flatten();
            let real = |bytes| Numeric::decode(bytes).to_string().parse().unwrap_or(f32::NAN);
            numbers.map(real).collect()
        }
        other => return Err(PgError::internal(format!("a vector of {other}"))),
    })
}
