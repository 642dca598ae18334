//! Aggregates: their overloads, and how one-shot plans run them.
//!
//! Sums and counts run on [`repr::accumulator`], the same code that maintains them in dataflows. Whatever the aggregate, its
//! state for many groups is a [`State`]; one wrapper makes it DataFusion's accumulator of many groups, another that of one,
//! and windows with a moving frame keep the frame's rows and aggregate them anew.
//!
//! DISTINCT is a state of its own around the aggregate's: the set of rows seen, aggregated at the end.

mod collected;
mod extreme;
mod hypothetical;
mod json;
mod linear;
mod ordered_set;
mod regression;
mod whole;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, GroupsAccumulator, Signature, SortExpr, Volatility, lit,
};
use repr::numeric::Spread;
use repr::{PgError, SqlState, SqlType};

use super::kernel::external;
use crate::cast::{CastContext, cast};
use crate::operators::equality_key;
use crate::typed::TypedExpr;

/// The state of one aggregate call for groups numbered from 0.
pub(crate) trait State: Send + Sync + Any {
    /// Takes rows in: `values` are the arguments, then what ORDER BY names. `groups` has each row's group.
    fn update(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<(), PgError>;

    /// The answers of the first `group_count` groups; the state stays.
    fn finish(&mut self, group_count: usize) -> Result<ArrayRef, PgError>;

    /// The state of the first `group_count` groups as columns, which `merge` takes in elsewhere.
    fn export(&mut self, group_count: usize) -> Result<Vec<ArrayRef>, PgError>;

    /// Takes exported states in.
    fn merge(&mut self, states: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<(), PgError>;

    /// Forgets the first `group_count` groups; the others move down.
    fn forget(&mut self, group_count: usize);

    /// How many groups there are.
    fn group_count(&self) -> usize;

    /// Roughly what it occupies.
    fn size_bytes(&self) -> usize;
}

/// What a call is: its argument types, the directions of its ORDER BY, whether it is DISTINCT.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) arguments: Vec<DataType>,
    /// The type of each ORDER BY expression, and its options.
    pub(crate) order: Vec<(DataType, arrow::compute::SortOptions)>,
    pub(crate) distinct: bool,
    /// Rows come in the order of a window's frame, which is the order to keep.
    pub(crate) in_frame: bool,
}

/// Makes the state of a call without regard to DISTINCT.
type MakeState = fn(&'static str, &Shape) -> Result<Box<dyn State>, PgError>;

/// One aggregate function.
struct Aggregate {
    name: &'static str,
    signature: Signature,
    result: fn(&'static str, &[DataType]) -> Result<DataType, PgError>,
    make: MakeState,
    /// The columns that hold an exported state.
    state_types: fn(&'static str, &[DataType], &DataType) -> Result<Vec<DataType>, PgError>,
    ordered: bool,
    /// Of a window's frame: see [`over_window`].
    in_frame: bool,
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Aggregate {
    fn eq(&self, other: &Aggregate) -> bool {
        (self.name, self.in_frame) == (other.name, other.in_frame)
    }
}

impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, self.in_frame).hash(state);
    }
}

fn first(arguments: &[DataType]) -> Result<&DataType, PgError> {
    arguments.first().ok_or_else(|| PgError::internal("an aggregate without an argument"))
}

impl Aggregate {
    fn state(&self, shape: &Shape) -> Result<Box<dyn State>, PgError> {
        match shape.distinct {
            true => Ok(Box::new(collected::Distinct::new(shape.clone(), self.name, self.make)?)),
            false => (self.make)(self.name, shape),
        }
    }

    fn moving(&self, shape: Shape) -> Result<Box<dyn Accumulator>, PgError> {
        if !shape.distinct && linear::is_linear(self.name) {
            return linear::Moving::boxed(self.name, &shape);
        }
        let fresh = FreshState { name: self.name, make: self.make, shape };
        Ok(Box::new(MovingFrame { fresh, rows: None }))
    }

    fn shape(&self, arguments: &AccumulatorArgs) -> Shape {
        let order = arguments
            .order_bys
            .iter()
            .map(|sort| {
                let data_type = sort.expr.data_type(arguments.schema).unwrap_or(DataType::Null);
                (data_type, sort.options)
            })
            .collect();
        Shape {
            arguments: arguments.expr_fields.iter().map(|field| field.data_type().clone()).collect(),
            order,
            distinct: arguments.is_distinct,
            in_frame: self.in_frame,
        }
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        (self.result)(self.name, arguments).map_err(external)
    }

    fn is_nullable(&self) -> bool {
        !matches!(self.name, "count" | "regr_count") && !hypothetical::is_hypothetical(self.name)
    }

    fn default_value(&self, data_type: &DataType) -> DataFusionResult<ScalarValue> {
        match self.name {
            "count" | "regr_count" => Ok(ScalarValue::Int64(Some(0))),
            name if hypothetical::is_hypothetical(name) => Ok(hypothetical::of_nothing(name)),
            _ => ScalarValue::try_from(data_type),
        }
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let state = self.state(&self.shape(&arguments)).map_err(external)?;
        Ok(Box::new(OneGroup { state }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let types: Vec<DataType> = arguments.input_fields.iter().map(|field| field.data_type().clone()).collect();
        let result = arguments.return_field.data_type();
        let mut state = match arguments.is_distinct {
            true => vec![collected::set_type()],
            false => (self.state_types)(self.name, &types, result).map_err(external)?,
        };
        if self.ordered && !arguments.is_distinct {
            let order =
                arguments.ordering_fields.iter().map(|field| DataType::new_list(field.data_type().clone(), true));
            state.extend(order);
        }
        let name = |index: usize| format!("{}[{index}]", arguments.name);
        Ok(state
            .into_iter()
            .enumerate()
            .map(|(index, data_type)| Arc::new(Field::new(name(index), data_type, true)))
            .collect())
    }

    fn groups_accumulator_supported(&self, _arguments: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, arguments: AccumulatorArgs) -> DataFusionResult<Box<dyn GroupsAccumulator>> {
        let shape = self.shape(&arguments);
        let state = self.state(&shape).map_err(external)?;
        Ok(Box::new(ManyGroups { state, fresh: Box::new(FreshState { name: self.name, make: self.make, shape }) }))
    }

    fn create_sliding_accumulator(&self, arguments: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        self.moving(self.shape(&arguments)).map_err(external)
    }
}

/// An aggregate of rows that come and go, for whoever finds the frames himself.
pub(crate) struct MovingAggregate {
    aggregate: Aggregate,
    shape: Shape,
}

impl MovingAggregate {
    /// The aggregate `name` over arguments of these types; rows come in the order of the frame.
    pub(crate) fn new(name: &str, arguments: Vec<DataType>) -> Result<MovingAggregate, PgError> {
        let aggregate = aggregates().into_iter().find(|aggregate| aggregate.name == name);
        let aggregate = aggregate.ok_or_else(|| PgError::internal(format!("there is no aggregate {name}")))?;
        Ok(MovingAggregate {
            aggregate,
            shape: Shape { arguments, order: Vec::new(), distinct: false, in_frame: true },
        })
    }

    /// One without rows yet. Rows leave it in the order in which they came.
    pub(crate) fn accumulator(&self) -> Result<Box<dyn Accumulator>, PgError> {
        self.aggregate.moving(self.shape.clone())
    }
}

/// Makes further states of the same call.
struct FreshState {
    name: &'static str,
    make: MakeState,
    shape: Shape,
}

impl FreshState {
    fn make(&self) -> Result<Box<dyn State>, PgError> {
        match self.shape.distinct {
            true => Ok(Box::new(collected::Distinct::new(self.shape.clone(), self.name, self.make)?)),
            false => (self.make)(self.name, &self.shape),
        }
    }
}

struct ManyGroups {
    state: Box<dyn State>,
    fresh: Box<FreshState>,
}

impl ManyGroups {
    fn emitted(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.state.group_count(),
            EmitTo::First(count) => count,
        }
    }
}

impl GroupsAccumulator for ManyGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DataFusionResult<()> {
        self.state.update(values, group_indices, opt_filter, total_num_groups).map_err(external)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DataFusionResult<ArrayRef> {
        let count = self.emitted(emit_to);
        let result = self.state.finish(count).map_err(external)?;
        self.state.forget(count);
        Ok(result)
    }

    fn state(&mut self, emit_to: EmitTo) -> DataFusionResult<Vec<ArrayRef>> {
        let count = self.emitted(emit_to);
        let result = self.state.export(count).map_err(external)?;
        self.state.forget(count);
        Ok(result)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> DataFusionResult<()> {
        self.state.merge(values, group_indices, total_num_groups).map_err(external)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> DataFusionResult<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let each: Vec<usize> = (0..rows).collect();
        let mut state = self.fresh.make().map_err(external)?;
        state.update(values, &each, opt_filter, rows).map_err(external)?;
        state.export(rows).map_err(external)
    }

    fn size(&self) -> usize {
        self.state.size_bytes()
    }
}

struct OneGroup {
    state: Box<dyn State>,
}

impl fmt::Debug for OneGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneGroup")
    }
}

impl OneGroup {
    /// A group there is even before its first row.
    fn touch(&mut self, values: &[ArrayRef]) -> Vec<usize> {
        vec![0; values.first().map_or(0, |column| column.len())]
    }

    fn ensure(&mut self) -> Result<(), PgError> {
        match self.state.group_count() {
            0 => self.state.merge(&[], &[], 1),
            _ => Ok(()),
        }
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let groups = self.touch(values);
        self.state.update(values, &groups, None, 1).map_err(external)
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        self.ensure().map_err(external)?;
        let array = self.state.finish(1).map_err(external)?;
        ScalarValue::try_from_array(&array, 0)
    }

    fn size(&self) -> usize {
        self.state.size_bytes()
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        self.ensure().map_err(external)?;
        let arrays = self.state.export(1).map_err(external)?;
        arrays.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let groups = self.touch(states);
        self.state.merge(states, &groups, 1).map_err(external)
    }
}

/// Any aggregate over a frame that moves: the frame's rows, aggregated anew for each answer.
struct MovingFrame {
    fresh: FreshState,
    rows: Option<Vec<ArrayRef>>,
}

impl fmt::Debug for MovingFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MovingFrame")
    }
}

impl Accumulator for MovingFrame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        self.rows = Some(match self.rows.take() {
            None => values.to_vec(),
            Some(rows) => rows
                .iter()
                .zip(values)
                .map(|(old, new)| concat(&[old.as_ref(), new.as_ref()]))
                .collect::<Result<_, _>>()?,
        });
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        // Rows leave a frame in the order in which they came.
        let leaving = values.first().map_or(0, |column| column.len());
        if let Some(rows) = &mut self.rows {
            rows.iter_mut().for_each(|column| *column = column.slice(leaving, column.len() - leaving));
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let mut group = OneGroup { state: self.fresh.make().map_err(external)? };
        if let Some(rows) = &self.rows {
            group.update_batch(rows)?;
        }
        group.evaluate()
    }

    fn size(&self) -> usize {
        self.rows.iter().flatten().map(|column| column.get_array_memory_size()).sum()
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Err(external(PgError::internal("a window's aggregate is never split")))
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> DataFusionResult<()> {
        Err(external(PgError::internal("a window's aggregate is never split")))
    }
}

fn argument_type(_name: &'static str, arguments: &[DataType]) -> Result<DataType, PgError> {
    first(arguments).cloned()
}

/// Every aggregate. Alphabetical.
fn aggregates() -> Vec<Aggregate> {
    let linear = |name: &'static str| Aggregate {
        name,
        signature: Signature::any(1, Volatility::Immutable),
        result: linear::result_type,
        make: linear::Linear::boxed,
        state_types: linear::state_types,
        ordered: false,
        in_frame: false,
    };
    let extreme = |name: &'static str| Aggregate {
        name,
        signature: Signature::any(1, Volatility::Immutable),
        result: argument_type,
        make: extreme::make,
        state_types: |_, arguments, _| Ok(vec![first(arguments)?.clone()]),
        ordered: false,
        in_frame: false,
    };
    let whole = |name: &'static str, arguments: usize, ordered: bool| Aggregate {
        name,
        signature: Signature::any(arguments, Volatility::Immutable),
        result: whole::result_type,
        make: collected::Collected::boxed,
        state_types: collected::state_types,
        ordered,
        in_frame: false,
    };
    // Of integers they are sums.
    let spread = |name: &'static str| Aggregate {
        make: |name, shape| match is_integer(&shape.arguments) {
            true => linear::Linear::boxed(name, shape),
            false => collected::Collected::boxed(name, shape),
        },
        state_types: |name, arguments, result| match is_integer(arguments) {
            true => linear::state_types(name, arguments, result),
            false => collected::state_types(name, arguments, result),
        },
        ..whole(name, 1, false)
    };
    vec![
        Aggregate {
            name: "array_agg",
            signature: Signature::any(1, Volatility::Immutable),
            result: |_, arguments| Ok(DataType::new_list(first(arguments)?.clone(), true)),
            make: collected::Collected::boxed,
            state_types: collected::state_types,
            ordered: true,
            in_frame: false,
        },
        linear("avg"),
        whole("bit_and", 1, false),
        whole("bit_or", 1, false),
        whole("bit_xor", 1, false),
        linear("bool_and"),
        linear("bool_or"),
        whole("corr", 2, false),
        linear("count"),
        whole("covar_pop", 2, false),
        whole("covar_samp", 2, false),
        whole("json_agg", 1, true),
        whole(json::OF_ROWS, 1, true),
        whole("json_object_agg", 2, true),
        whole("jsonb_agg", 1, true),
        whole("jsonb_object_agg", 2, true),
        extreme("max"),
        extreme("min"),
        whole("mode", 1, true),
        whole("percentile_cont", 2, true),
        whole("percentile_disc", 2, true),
        whole("regr_avgx", 2, false),
        whole("regr_avgy", 2, false),
        whole("regr_count", 2, false),
        whole("regr_intercept", 2, false),
        whole("regr_r2", 2, false),
        whole("regr_slope", 2, false),
        whole("regr_sxx", 2, false),
        whole("regr_sxy", 2, false),
        whole("regr_syy", 2, false),
        Aggregate {
            name: "single_value",
            signature: Signature::any(1, Volatility::Immutable),
            result: argument_type,
            make: collected::Collected::boxed,
            state_types: collected::state_types,
            ordered: false,
            in_frame: false,
        },
        spread("stddev_pop"),
        spread("stddev_samp"),
        Aggregate {
            name: "string_agg",
            signature: Signature::any(2, Volatility::Immutable),
            result: argument_type,
            make: collected::Collected::boxed,
            state_types: collected::state_types,
            ordered: true,
            in_frame: false,
        },
        linear("sum"),
        spread("var_pop"),
        spread("var_samp"),
    ]
}

fn is_integer(arguments: &[DataType]) -> bool {
    matches!(arguments, [DataType::Int16 | DataType::Int32 | DataType::Int64])
}

pub(crate) use hypothetical::is_hypothetical;
pub(crate) use ordered_set::{is_ordered_set, ordered_set_value, resolve_hypothetical, resolve_ordered_set};

static AGGREGATES: LazyLock<HashMap<&'static str, Arc<AggregateUDF>>> = LazyLock::new(|| {
    aggregates()
        .into_iter()
        .map(|aggregate| (aggregate.name, Arc::new(AggregateUDF::new_from_impl(aggregate))))
        .collect()
});

/// Aggregates of which the order of their rows shows in the answer: what ORDER BY in their call is for.
pub(crate) fn keeps_order(name: &str) -> bool {
    matches!(name, "array_agg" | "string_agg") || json::is_json(name)
}

/// The aggregate `udf` as it is over a window: where the order of rows matters, they come in it.
pub(crate) fn over_window(udf: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    static IN_FRAME: LazyLock<HashMap<&'static str, Arc<AggregateUDF>>> = LazyLock::new(|| {
        let keeps_order = aggregates().into_iter().filter(|aggregate| aggregate.ordered);
        keeps_order
            .map(|aggregate| Aggregate { in_frame: true, ..aggregate })
            .map(|aggregate| (aggregate.name, Arc::new(AggregateUDF::new_from_impl(aggregate))))
            .collect()
    });
    Arc::clone(IN_FRAME.get(udf.name()).unwrap_or(udf))
}

/// Other names of the same aggregates.
fn canonical(name: &str) -> &str {
    match name {
        "approx_count_distinct" => "count",
        "every" => "bool_and",
        "stddev" => "stddev_samp",
        "variance" => "var_samp",
        name => name,
    }
}

/// The name of an aggregate as it is known for good.
pub(crate) fn static_name(name: &str) -> Option<&'static str> {
    AGGREGATES.get_key_value(name).map(|(name, _)| *name)
}

/// Whether any aggregate has that name.
pub(crate) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains_key(canonical(name))
}

/// The names of all aggregates.
pub(crate) fn names() -> Vec<&'static str> {
    AGGREGATES.keys().copied().chain(["approx_count_distinct", "every", "stddev", "variance"]).collect()
}

fn undefined(name: &str, arguments: &[TypedExpr]) -> PgError {
    let types: Vec<String> = arguments.iter().map(|argument| argument.sql_type.sql_name()).collect();
    PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({}) does not exist", types.join(", ")))
        .with_hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}

/// An aggregate call: always an `Expr::AggregateFunction`. No argument at all is `count(*)`.
///
/// Errors: `42883` where no such aggregate takes these arguments.
pub(crate) fn resolve_aggregate(
    name: &str,
    arguments: Vec<TypedExpr>,
    distinct: bool,
    filter: Option<Expr>,
    order_by: Vec<SortExpr>,
) -> Result<TypedExpr, PgError> {
    let udf = AGGREGATES.get(canonical(name)).ok_or_else(|| undefined(name, &arguments))?;
    // Rows stand on lines of their own.
    let of_rows = name == "json_agg" && arguments.first().is_some_and(|row| super::is_whole_row(&row.expr));
    let (name, udf) = match AGGREGATES.get(json::OF_ROWS) {
        Some(udf) if of_rows => (json::OF_ROWS, udf),
        _ => (name, udf),
    };
    // Exact is close enough, and costs a change no more than a sketch would.
    let distinct = distinct || name == "approx_count_distinct";
    let name = canonical(name);
    let (arguments, result) = typed_arguments(name, arguments)?;
    if distinct && let Some(json) = arguments.iter().find(|argument| argument.sql_type == SqlType::Json) {
        let message = format!("could not identify an equality operator for type {}", json.sql_type.sql_name());
        return Err(PgError::new(SqlState::UNDEFINED_FUNCTION, message));
    }
    // Doubles change nothing for these, and for others equal values count once however they are written.
    let distinct = distinct && !matches!(name, "min" | "max" | "bool_and" | "bool_or" | "single_value");
    let keyed = distinct
        && match name {
            "count" => true,
            "sum" | "avg" => result != SqlType::Interval,
            name => Spread::named(name).is_some() || regression::is_regression(name),
        };
    let expressions =
        arguments.into_iter().map(|argument| if keyed { equality_key(argument) } else { argument.expr }).collect();
    // Order matters only to what keeps it.
    let order_by = if keeps_order(name) { order_by } else { Vec::new() };
    let call = AggregateFunction::new_udf(Arc::clone(udf), expressions, distinct, filter.map(Box::new), order_by, None);
    Ok(TypedExpr::new(Expr::AggregateFunction(call), result))
}

/// The arguments as the aggregate takes them, and the type of its result.
fn typed_arguments(name: &str, arguments: Vec<TypedExpr>) -> Result<(Vec<TypedExpr>, SqlType), PgError> {
    use SqlType::*;
    let refused = undefined(name, &arguments);
    let implicit = |argument: TypedExpr, to: &SqlType| cast(argument, to, -1, CastContext::Implicit);
    let of_two =
        matches!(name, "string_agg" | "json_object_agg" | "jsonb_object_agg") || regression::is_regression(name);
    let wanted = if of_two { 2 } else { 1 };
    if name == "count" && arguments.is_empty() {
        return Ok((vec![TypedExpr::new(lit(1i64), Int8)], Int8));
    }
    if arguments.len() != wanted {
        return Err(refused);
    }
    let mut arguments = arguments.into_iter();
    let Some(argument) = arguments.next() else { return Err(refused) };
    let argument_type = argument.sql_type.clone();
    match name {
        "count" if argument.is_unknown() => Ok((vec![implicit(argument, &Text)?], Int8)),
        "count" => Ok((vec![argument], Int8)),
        "sum" | "avg" => {
            let result = match (name, &argument_type) {
                ("sum", Int2 | Int4) => Int8,
                ("sum", Int8) | ("avg", Int2 | Int4 | Int8) | (_, Numeric) => Numeric,
                ("sum", Float4) => Float4,
                ("avg", Float4) | (_, Float8) => Float8,
                (_, Interval) => Interval,
                // A time of day is an interval to sum().
                (_, Time) => return typed_arguments(name, vec![implicit(argument, &Interval)?]),
                (_, Unknown) => {
                    return Err(PgError::new(
                        SqlState::AMBIGUOUS_FUNCTION,
                        format!("function {name}(unknown) is not unique"),
                    )
                    .with_hint(
                        "Could not choose a best candidate function. You might need to add explicit type casts.",
                    ));
                }
                _ => return Err(refused),
            };
            Ok((vec![argument], result))
        }
        "bit_and" | "bit_or" | "bit_xor" => match argument_type {
            Int2 | Int4 | Int8 => Ok((vec![argument], argument_type)),
            _ => Err(refused),
        },
        name if Spread::named(name).is_some() => match argument_type {
            Int2 | Int4 | Int8 | Numeric => Ok((vec![argument], Numeric)),
            Float4 | Float8 => Ok((vec![argument], Float8)),
            _ => Err(refused),
        },
        "min" | "max" => {
            let wanted = match &argument_type {
                Int2 | Int4 | Int8 | Float4 | Float8 | Numeric | Text | Bpchar | Date | Time | Timestamp
                | Timestamptz | Interval | Oid => argument_type,
                Varchar | Name | Unknown => Text,
                registered if registered.is_registered() => Oid,
                _ => return Err(refused),
            };
            Ok((vec![implicit(argument, &wanted)?], wanted))
        }
        "bool_and" | "bool_or" => match argument_type {
            Bool | Unknown => Ok((vec![implicit(argument, &Bool)?], Bool)),
            _ => Err(refused),
        },
        "single_value" => {
            let argument = if argument.is_unknown() { implicit(argument, &Text)? } else { argument };
            let result = argument.sql_type.clone();
            Ok((vec![argument], result))
        }
        "array_agg" => {
            let argument = if argument.is_unknown() { implicit(argument, &Text)? } else { argument };
            if let Array(_) = argument.sql_type {
                return Err(PgError::unsupported("array_agg over arrays"));
            }
            let result = Array(Box::new(argument.sql_type.clone()));
            Ok((vec![argument], result))
        }
        name if json::is_json(name) => {
            let mut values = Vec::new();
            for value in std::iter::once(argument).chain(arguments) {
                values.push(if value.is_unknown() { implicit(value, &Text)? } else { value });
            }
            if let (2, Json | Jsonb | Array(_)) = (wanted, &values[0].sql_type) {
                let message = "key value must be scalar, not array, composite, or json";
                return Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
            Ok((values, if name.starts_with("jsonb") { Jsonb } else { Json }))
        }
        name if regression::is_regression(name) => {
            let mut values = Vec::new();
            for value in std::iter::once(argument).chain(arguments) {
                values.push(implicit(value, &Float8).map_err(|_| refused.clone())?);
            }
            Ok((values, if name == "regr_count" { Int8 } else { Float8 }))
        }
        "string_agg" => {
            let Some(separator) = arguments.next() else { return Err(refused) };
            let text = |typed: TypedExpr| match typed.sql_type {
                Text | Varchar | Bpchar | Name | Unknown => implicit(typed, &Text),
                _ => Err(refused.clone()),
            };
            Ok((vec![text(argument)?, text(separator)?], Text))
        }
        _ => Err(refused),
    }
}
