//! Ties: every window function gets one answer, whoever computes it.
//!
//! PostgreSQL leaves open which of two rows that are equal by the window's ORDER BY comes first. A view that is maintained
//! and the same query run from scratch have to decide alike, so the decision is written into the plan: wherever it matters,
//! the order goes on with columns that tell rows apart (the primary keys of FROM, or else all that the query reads: rows
//! that agree on those are interchangeable). Where peers make the frame, the order must stay as it is, and the function
//! itself puts a frame's rows in order ([`super::frame_value`]).

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, LogicalPlan, SortExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, WindowUDF,
};

use super::frame_value::{FrameValue, Which};
use super::own_frame;
use crate::bind::Binder;
use crate::bind::build::columns_in;
use crate::bind::scope::Scope;
use crate::functions::keeps_order;

/// Columns that tell rows apart.
pub(super) struct Ties {
    pub(super) columns: Vec<Column>,
    /// Whether no two rows agree on them. If not, those that do are alike, until a window has numbered them: windows that
    /// come after it order by its numbers too.
    pub(super) unique: bool,
}

/// A call of which rows that tie cannot change the answer.
pub(super) struct Definite {
    pub(super) call: WindowFunction,
    /// Whether the value depends on the row's position, so that rows which agree on all columns have different ones.
    pub(super) positional: bool,
}

impl Binder<'_> {
    /// Columns of `plan` that tell its rows apart as far as `exprs` can see. `scope` is what FROM gave, if the rows of
    /// `plan` are still its rows.
    pub(super) fn ties(&self, plan: &LogicalPlan, scope: Option<&Scope>, exprs: &[&mut Expr]) -> Ties {
        if let Some(columns) = scope.and_then(|scope| key_of(plan, scope)) {
            return Ties { columns, unique: true };
        }
        let read: Vec<Column> = exprs.iter().flat_map(|expr| self.columns_read(expr)).collect();
        // In the plan's order, which does not depend on how the query is written.
        let columns = plan.schema().columns().into_iter().zip(plan.schema().fields());
        let orderable = columns.filter(|(_, field)| *field.data_type() != DataType::Null).map(|(column, _)| column);
        Ties { columns: orderable.filter(|column| read.contains(column)).collect(), unique: false }
    }
}

/// The primary keys of all relations of FROM, where all have one.
fn key_of(plan: &LogicalPlan, scope: &Scope) -> Option<Vec<Column>> {
    let mut columns = Vec::new();
    for relation in &scope.relations {
        for index in relation.key.as_ref()? {
            match &relation.columns.get(*index)?.typed.expr {
                Expr::Column(column) if plan.schema().has_column(column) => columns.push(column.clone()),
                _ => return None,
            }
        }
    }
    (!columns.is_empty()).then_some(columns)
}

/// `order`, then the columns of `ties` that it or the partition does not fix already.
pub(crate) fn extended(order: Vec<SortExpr>, partition: &[Expr], ties: &[Column]) -> Vec<SortExpr> {
    let fixed = |column: &Column| {
        let column = Expr::Column(column.clone());
        partition.contains(&column) || order.iter().any(|key| key.expr == column)
    };
    let further: Vec<SortExpr> = ties
        .iter()
        .filter(|column| !fixed(column))
        .map(|column| Expr::Column(column.clone()).sort(true, false))
        .collect();
    order.into_iter().chain(further).collect()
}

/// The same call, made definite.
pub(super) fn definite(call: WindowFunction, ties: &[Column]) -> Definite {
    let name = call.fun.name().to_lowercase();
    let is_aggregate = matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_));
    match name.as_str() {
        "row_number" | "ntile" | "lag" | "lead" | "lag_by" | "lead_by" | own_frame::NAME => {
            by_position(call, ties, WindowFrame::new(Some(true)))
        }
        "rank" | "dense_rank" | "percent_rank" | "cume_dist" => by_peers(call),
        "first_value" | "last_value" | "nth_value" if !is_aggregate => value_of_frame(call, &name, ties),
        _ => aggregate(call, &name, ties),
    }
}

/// Rows are told apart by their positions alone.
fn by_position(mut call: WindowFunction, ties: &[Column], frame: WindowFrame) -> Definite {
    let params = &mut call.params;
    params.order_by = extended(std::mem::take(&mut params.order_by), &params.partition_by, ties);
    params.window_frame = frame;
    Definite { call, positional: true }
}

/// Rows that tie have one value.
fn by_peers(call: WindowFunction) -> Definite {
    Definite { call, positional: false }
}

fn whole() -> WindowFrame {
    WindowFrame::new(None)
}

fn starts_at_first(frame: &WindowFrame) -> bool {
    matches!(&frame.start_bound, WindowFrameBound::Preceding(value) if value.is_null())
}

fn ends_at_last(frame: &WindowFrame) -> bool {
    matches!(&frame.end_bound, WindowFrameBound::Following(value) if value.is_null())
}

fn aggregate(mut call: WindowFunction, name: &str, ties: &[Column]) -> Definite {
    let frame = &call.params.window_frame;
    let is_whole = starts_at_first(frame) && ends_at_last(frame);
    match (is_whole, keeps_order(name)) {
        (true, true) => by_position(call, ties, whole()),
        (true, false) => {
            call.params.order_by = Vec::new();
            call.params.window_frame = whole();
            by_peers(call)
        }
        _ if frame.units == WindowFrameUnits::Rows => {
            let frame = frame.clone();
            by_position(call, ties, frame)
        }
        _ => by_peers(call),
    }
}

fn value_of_frame(mut call: WindowFunction, name: &str, ties: &[Column]) -> Definite {
    let frame = call.params.window_frame.clone();
    let (from_first, to_last) = (starts_at_first(&frame), ends_at_last(&frame));
    let unbounded = || ScalarValue::UInt64(None);
    if frame.units == WindowFrameUnits::Rows {
        return by_position(call, ties, frame);
    }
    if call.params.order_by.is_empty() || (from_first && to_last) {
        return by_position(call, ties, whole());
    }
    // A frame that has the row itself is never empty.
    let to_here = !matches!(frame.end_bound, WindowFrameBound::Preceding(_));
    let from_here = !matches!(frame.start_bound, WindowFrameBound::Following(_));
    if name == "first_value" && from_first && to_here {
        return by_position(call, ties, WindowFrame::new(Some(true)));
    }
    if name == "last_value" && to_last && from_here {
        let end = WindowFrameBound::Following(unbounded());
        return by_position(
            call,
            ties,
            WindowFrame::new_bounds(WindowFrameUnits::Rows, WindowFrameBound::CurrentRow, end),
        );
    }
    let mut args = std::mem::take(&mut call.params.args);
    let which = match (name, args.get(1)) {
        ("first_value", _) => Which::First,
        ("last_value", _) => Which::Last,
        (_, Some(Expr::Literal(ScalarValue::Int64(Some(position)), _))) => Which::Nth(*position),
        // The binder takes no other.
        _ => Which::Nth(0),
    };
    args.truncate(1);
    let fixed: Vec<Column> = call.params.partition_by.iter().flat_map(columns_in).collect();
    args.extend(ties.iter().filter(|column| !fixed.contains(column)).map(|column| Expr::Column(column.clone())));
    call.fun =
        WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::new_from_impl(FrameValue::new(which, args.len()))));
    call.params.args = args;
    by_peers(call)
}
