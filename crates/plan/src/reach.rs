//! How far a window call looks: what has to be evaluated again when a row of its partition changes.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};

/// Which rows of its partition a row's value depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its peers, and at most so many rows before and after it.
    Near {
        /// Rows before it.
        before: usize,
        /// Rows after it.
        after: usize,
    },
    /// All rows before it and its peers, which are summed up in a few numbers.
    Running(Running),
    /// Any.
    Whole,
}

/// What sums up the rows before a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Their number.
    Rows,
    /// The number of groups of peers.
    Groups,
    /// The state of an aggregate.
    Aggregate,
    /// The value of the first of them.
    First,
}

/// The reach of a window call.
pub fn reach(call: &Expr) -> Reach {
    let Expr::WindowFunction(call) = call else { return Reach::Whole };
    let name = call.fun.name();
    if matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_)) {
        // Those whose state is small.
        let known = matches!(name, "count" | "sum" | "avg" | "min" | "max" | "bool_and" | "bool_or");
        return match is_running(&call.params.window_frame) {
            true if known => Reach::Running(Running::Aggregate),
            true => Reach::Whole,
            false => of_frame(&call.params.window_frame),
        };
    }
    match name {
        "row_number" | "rank" => Reach::Running(Running::Rows),
        "dense_rank" => Reach::Running(Running::Groups),
        "lag" => offset(call, true),
        "lead" => offset(call, false),
        "first_value" if is_running(&call.params.window_frame) => Reach::Running(Running::First),
        // The last row of such a frame is the row itself or one of its peers.
        "last_value" if is_running(&call.params.window_frame) => Reach::Near { before: 0, after: 0 },
        // The first is the row itself or one of its peers.
        "first_value" if call.params.window_frame.start_bound == WindowFrameBound::CurrentRow => {
            Reach::Near { before: 0, after: 0 }
        }
        "first_value" | "last_value" | "nth_value" => of_frame(&call.params.window_frame),
        _ => Reach::Whole,
    }
}

/// From the first row of the partition to the current one or its peers.
fn is_running(frame: &WindowFrame) -> bool {
    let from_first = matches!(&frame.start_bound, WindowFrameBound::Preceding(value) if value.is_null());
    from_first && frame.end_bound == WindowFrameBound::CurrentRow
}

fn of_frame(frame: &WindowFrame) -> Reach {
    let here = WindowFrameBound::CurrentRow;
    if frame.units != WindowFrameUnits::Rows {
        return match frame.start_bound == here && frame.end_bound == here {
            true => Reach::Near { before: 0, after: 0 },
            false => Reach::Whole,
        };
    }
    let count = |value: &ScalarValue| match value {
        ScalarValue::UInt64(Some(count)) => usize::try_from(*count).ok(),
        _ => None,
    };
    let before = match &frame.start_bound {
        WindowFrameBound::Preceding(value) => count(value),
        _ => Some(0),
    };
    let after = match &frame.end_bound {
        WindowFrameBound::Following(value) => count(value),
        _ => Some(0),
    };
    match (before, after) {
        (Some(before), Some(after)) => Reach::Near { before, after },
        _ => Reach::Whole,
    }
}

/// `lag` and `lead`, whose offset may be negative.
fn offset(call: &WindowFunction, back: bool) -> Reach {
    let rows = match call.params.args.get(1) {
        None => 1,
        Some(Expr::Literal(ScalarValue::Int64(Some(rows)), _)) => *rows,
        Some(_) => return Reach::Whole,
    };
    let Ok(distance) = usize::try_from(rows.unsigned_abs()) else { return Reach::Whole };
    match back == (rows >= 0) {
        true => Reach::Near { before: distance, after: 0 },
        false => Reach::Near { before: 0, after: distance },
    }
}
