//! What is known of an operator's output from its inputs: column types, keys, and whether rows ever leave.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::logical_expr::Expr;
use repr::PgError;

use crate::dataflow_plan::{Node, NodeId, Operator, positional_schema};
use crate::expression::{position, type_of};

/// Keys beyond this many are forgotten: joins of joins would multiply them.
const KEY_COUNT_MAX: usize = 8;

/// The output's columns. `Source` and `Import` are their creator's to describe: here they are an error.
pub(crate) fn schema(operator: &Operator, nodes: &[Node]) -> Result<SchemaRef, PgError> {
    let types =
        |id: NodeId| nodes[id].schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    let projected = |columns: &[Expr], schema: &Schema| {
        columns.iter().map(|expr| type_of(expr, schema)).collect::<Result<Vec<_>, _>>().map(positional_schema)
    };
    match operator {
        Operator::Source { .. } | Operator::Import { .. } | Operator::Entered { .. } | Operator::Variable { .. } => {
            Err(PgError::internal("a relation's columns do not follow from its operator"))
        }
        Operator::Constant { rows } => {
            Ok(positional_schema(rows.schema().fields().iter().map(|field| field.data_type().clone())))
        }
        Operator::Recursion { .. } | Operator::LoopResult { .. } => Ok(loop_result(operator, nodes)?.schema.clone()),
        Operator::Map { input, columns, .. } => projected(columns, &nodes[*input].schema),
        Operator::Unnest { input, lists } => {
            let mut types = types(*input);
            for list in lists {
                types[*list] = match &types[*list] {
                    DataType::List(element) | DataType::LargeList(element) => element.data_type().clone(),
                    other => return Err(PgError::internal(format!("unnest of {other}"))),
                };
            }
            Ok(positional_schema(types))
        }
        Operator::Union { inputs } => match inputs.first() {
            Some(first) => Ok(nodes[*first].schema.clone()),
            None => Err(PgError::internal("union of nothing")),
        },
        Operator::Negate { input }
        | Operator::Changes { input }
        | Operator::Arrange { input, .. }
        | Operator::TopK { input, .. }
        | Operator::TopRanks { input, .. }
        | Operator::Distinct { input }
        | Operator::Threshold { input }
        | Operator::TemporalFilter { input, .. }
        | Operator::WindowClose { input, .. }
        | Operator::Emitted { input }
        | Operator::SingleRow { input, .. } => Ok(nodes[*input].schema.clone()),
        Operator::Join { left, right, columns, .. }
        | Operator::HalfJoin { input: left, arranged: right, columns, .. } => {
            projected(columns, &positional_schema(types(*left).into_iter().chain(types(*right))))
        }
        Operator::Window { input, calls, .. } => {
            let values =
                calls.iter().map(|call| type_of(call, &nodes[*input].schema)).collect::<Result<Vec<_>, _>>()?;
            Ok(positional_schema(types(*input).into_iter().chain(values)))
        }
        Operator::Reduce { input, key, aggregates } => {
            let input = types(*input);
            let key = key.iter().map(|index| input[*index].clone());
            Ok(positional_schema(key.chain(aggregates.iter().map(|aggregate| aggregate.output.clone()))))
        }
        Operator::OrderStatistic { input, key, value, calls } => {
            let input = types(*input);
            let values = std::iter::repeat_n(value.column, calls.len());
            Ok(positional_schema(key.iter().copied().chain(values).map(|index| input[index].clone())))
        }
        Operator::Fold { input, key, calls } => {
            let schema = &nodes[*input].schema;
            let key = key.iter().map(|index| Ok(schema.field(*index).data_type().clone()));
            let types = key.chain(calls.iter().map(|call| type_of(call, schema)));
            types.collect::<Result<Vec<_>, PgError>>().map(positional_schema)
        }
        Operator::Collate { inputs, key_count } => {
            let key = inputs.first().map(|first| types(*first)).unwrap_or_default().into_iter().take(*key_count);
            let further = inputs.iter().flat_map(|input| types(*input).into_iter().skip(*key_count));
            Ok(positional_schema(key.chain(further)))
        }
    }
}

/// The node of a loop's body whose rows a `Recursion` or `LoopResult` has.
fn loop_result<'a>(operator: &'a Operator, nodes: &'a [Node]) -> Result<&'a Node, PgError> {
    let (body, result) = match operator {
        Operator::Recursion { body, .. } => (body, 0),
        Operator::LoopResult { input, result } => match &nodes[*input].operator {
            Operator::Recursion { body, .. } => (body, *result),
            _ => return Err(PgError::internal("the result of what is no loop")),
        },
        _ => return Err(PgError::internal("the result of what is no loop")),
    };
    let node = body.results.get(result).and_then(|id| body.nodes.get(*id));
    node.ok_or_else(|| PgError::internal("a result that a loop does not have"))
}

/// Sets of output columns that no two rows agree on, NULL agreeing with NULL. The empty set: at most one row.
pub(crate) fn keys(operator: &Operator, nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut keys = Vec::new();
    match operator {
        Operator::Source { .. } | Operator::Import { .. } | Operator::Unnest { .. } => {}
        Operator::Entered { .. } | Operator::Variable { .. } => {}
        Operator::Recursion { .. } | Operator::LoopResult { .. } => {
            keys = loop_result(operator, nodes).map(|result| result.keys.clone()).unwrap_or_default();
        }
        Operator::Union { .. } | Operator::Negate { .. } => {}
        Operator::Changes { .. } | Operator::HalfJoin { .. } => {}
        Operator::Constant { rows } => {
            if rows.num_rows() <= 1 {
                keys.push(Vec::new());
            }
        }
        Operator::Map { input, columns, .. } => {
            for key in &nodes[*input].keys {
                let place = |index: &usize| columns.iter().position(|expr| position(expr) == Some(*index));
                if let Some(key) = key.iter().map(place).collect() {
                    add_key(&mut keys, key);
                }
            }
        }
        Operator::Arrange { input, .. } => keys = nodes[*input].keys.clone(),
        Operator::Join { left, right, columns, .. } => keys = join_keys(*left, *right, columns, nodes),
        Operator::Reduce { key, .. } | Operator::Fold { key, .. } | Operator::OrderStatistic { key, .. } => {
            keys.push((0..key.len()).collect());
        }
        Operator::TopK { input, key, limit, .. } => {
            keys = nodes[*input].keys.clone();
            if *limit == Some(1) {
                add_key(&mut keys, key.clone());
            }
        }
        Operator::Collate { key_count, .. } => keys.push((0..*key_count).collect()),
        Operator::Distinct { input } => {
            keys = nodes[*input].keys.clone();
            add_key(&mut keys, (0..nodes[*input].schema.fields().len()).collect());
        }
        Operator::TopRanks { input, .. } | Operator::Window { input, .. } => keys = nodes[*input].keys.clone(),
        // A subset of the rows, whatever made them.
        Operator::Threshold { input }
        | Operator::TemporalFilter { input, .. }
        | Operator::WindowClose { input, .. }
        | Operator::Emitted { input } => keys = nodes[*input].keys.clone(),
        Operator::SingleRow { input, key } => {
            keys = nodes[*input].keys.clone();
            add_key(&mut keys, key.clone());
        }
    }
    keys
}

/// A row of one side keeps that side's key if it meets at most one row; any two sides' keys together are a key.
fn join_keys(left: NodeId, right: NodeId, columns: &[Expr], nodes: &[Node]) -> Vec<Vec<usize>> {
    let offset = nodes[left].schema.fields().len();
    let (left_by, right_by) = (arranged_by(&nodes[left]), arranged_by(&nodes[right]));
    // A column may stand for the one it was found equal to.
    let place = |index: usize| {
        let partner = match index < offset {
            true => left_by.iter().position(|key| *key == index).map(|at| offset + right_by[at]),
            false => right_by.iter().position(|key| offset + key == index).map(|at| left_by[at]),
        };
        columns.iter().position(|expr| {
            let at = position(expr);
            at == Some(index) || (at.is_some() && at == partner)
        })
    };
    let unique = |node: &Node, by: &[usize]| node.keys.iter().any(|key| key.iter().all(|index| by.contains(index)));
    let mut found: Vec<Vec<usize>> = Vec::new();
    if unique(&nodes[right], right_by) {
        found.extend(nodes[left].keys.iter().cloned());
    }
    if unique(&nodes[left], left_by) {
        found.extend(nodes[right].keys.iter().map(|key| key.iter().map(|index| index + offset).collect()));
    }
    for left_key in &nodes[left].keys {
        for right_key in &nodes[right].keys {
            found.push(left_key.iter().copied().chain(right_key.iter().map(|index| index + offset)).collect());
        }
    }
    let mut keys = Vec::new();
    for key in found {
        if let Some(key) = key.into_iter().map(place).collect::<Option<BTreeSet<usize>>>() {
            add_key(&mut keys, key.into_iter().collect());
        }
    }
    keys
}

/// The columns a node is arranged by; none for one that is not arranged.
pub(crate) fn arranged_by(node: &Node) -> &[usize] {
    match &node.operator {
        Operator::Arrange { key, .. } | Operator::Import { key, .. } => key,
        _ => &[],
    }
}

/// Adds `key` unless a part of it is one already; drops those it is part of.
pub(crate) fn add_key(keys: &mut Vec<Vec<usize>>, key: Vec<usize>) {
    let within = |small: &[usize], large: &[usize]| small.iter().all(|index| large.contains(index));
    if keys.iter().any(|other| within(other, &key)) {
        return;
    }
    keys.retain(|other| !within(&key, other));
    if keys.len() < KEY_COUNT_MAX {
        keys.push(key);
    }
}

/// Whether rows only ever arrive.
pub(crate) fn append_only(operator: &Operator, nodes: &[Node]) -> bool {
    match operator {
        Operator::Source { .. } | Operator::Import { .. } | Operator::Negate { .. } => false,
        Operator::Recursion { .. } | Operator::LoopResult { .. } => false,
        Operator::Entered { .. } | Operator::Variable { .. } => false,
        // A change of a group replaces its row.
        Operator::Reduce { .. } | Operator::Fold { .. } | Operator::TopK { .. } | Operator::Collate { .. } => false,
        Operator::TopRanks { .. } | Operator::OrderStatistic { .. } => false,
        Operator::Window { .. } | Operator::TemporalFilter { .. } | Operator::WindowClose { .. } => false,
        Operator::Emitted { .. } => true,
        Operator::Constant { .. }
        | Operator::Map { .. }
        | Operator::Unnest { .. }
        | Operator::Union { .. }
        | Operator::Arrange { .. }
        | Operator::Join { .. }
        | Operator::Changes { .. }
        | Operator::HalfJoin { .. }
        | Operator::Distinct { .. }
        | Operator::Threshold { .. }
        | Operator::SingleRow { .. } => operator.inputs().into_iter().all(|input| nodes[input].append_only),
    }
}
