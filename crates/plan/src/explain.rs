//! EXPLAIN: one line an operator, the inputs of each indented below it.
//!
//! ```text
//! totals, by (#0) unique
//!   0 Reduce by (#0): count(*), sum(#1) -- one accumulator row a group; O(1) a row
//!     1 Map #2, #3 where #3 > 0
//!       2 Import orders by (#0) -- shared arrangement
//! ```
//!
//! `#i` is a column of the operator's input; of a join, of the left columns followed by the right ones. An operator
//! that several others read is printed below the first of them, and named by its number after that.

use std::fmt::Write;

use datafusion::logical_expr::{Expr, WindowFunctionDefinition};
use repr::ObjectId;

use crate::clock::CLOCK;
use crate::dataflow_plan::{
    Aggregate, DataflowPlan, Node, NodeId, Operator, Percentile, Recursion, SortKey, column_name, longest_order,
};
use crate::reach::{Reach, reach};
use crate::share::Fingerprint;

/// The plans as text, each under a headline, relations under the names that `names` gives. An arrangement that another
/// plan made has its fingerprint as its name.
///
/// The same plans always give the same text; shared arrangements are named by what they hold, not by their ids.
pub fn explain(plans: &[DataflowPlan], names: &dyn Fn(ObjectId) -> String) -> String {
    let mut text = String::new();
    for plan in plans {
        let name = title(plan, names);
        let unique = if plan.export.unique { " unique" } else { "" };
        let _ = writeln!(text, "{name}, by {}{unique}", columns(&plan.export.key));
        let numbers = vec![None; plan.nodes.len()];
        let mut printing = Printing { nodes: &plan.nodes, plans, names, numbers, outside: None, printed: 0, text };
        printing.node(plan.export.node, 1);
        text = printing.text;
    }
    text
}

/// A shared arrangement by what it holds, anything else by its own name.
fn title(plan: &DataflowPlan, names: &dyn Fn(ObjectId) -> String) -> String {
    match plan.name.parse::<Fingerprint>() {
        Ok(fingerprint) => arrangement(&fingerprint, names),
        Err(_) => plan.name.clone(),
    }
}

fn arrangement(fingerprint: &Fingerprint, names: &dyn Fn(ObjectId) -> String) -> String {
    format!("arrangement of {} {}", names(fingerprint.relation), columns(&fingerprint.columns))
}

struct Printing<'a> {
    /// The plan's, or of a loop's body while that is printed.
    nodes: &'a [Node],
    plans: &'a [DataflowPlan],
    names: &'a dyn Fn(ObjectId) -> String,
    /// The number each node was printed under.
    numbers: Vec<Option<usize>>,
    /// Within a loop's body, the nodes around it, their numbers, and which of them enter the loop.
    outside: Option<(&'a [Node], Vec<Option<usize>>, &'a [NodeId])>,
    printed: usize,
    text: String,
}

impl<'a> Printing<'a> {
    fn node(&mut self, id: NodeId, depth: usize) {
        let indent = "  ".repeat(depth);
        if let Some(number) = self.numbers[id] {
            let _ = writeln!(self.text, "{indent}as {number}");
            return;
        }
        self.numbers[id] = Some(self.printed);
        let number = self.printed;
        self.printed += 1;
        let nodes = self.nodes;
        let node = &nodes[id];
        let _ = write!(self.text, "{indent}{number} {}", self.operator(&node.operator));
        let mut remarks: Vec<String> = Vec::new();
        remarks.extend(cost(nodes, node));
        if node.append_only {
            remarks.push("append-only".to_string());
        }
        if !remarks.is_empty() {
            let _ = write!(self.text, " -- {}", remarks.join("; "));
        }
        self.text.push('\n');
        match &node.operator {
            Operator::Recursion { inputs, body } => self.body(inputs, body, depth + 1),
            Operator::Entered { input } => self.entered(*input, depth + 1),
            operator => operator.inputs().into_iter().for_each(|input| self.node(input, depth + 1)),
        }
    }

    fn body(&mut self, inputs: &'a [NodeId], body: &'a Recursion, depth: usize) {
        let numbers = std::mem::replace(&mut self.numbers, vec![None; body.nodes.len()]);
        let nodes = std::mem::replace(&mut self.nodes, &body.nodes);
        self.outside = Some((nodes, numbers, inputs));
        body.results.iter().for_each(|result| self.node(*result, depth));
        if let Some((nodes, numbers, _)) = self.outside.take() {
            (self.nodes, self.numbers) = (nodes, numbers);
        }
    }

    /// The outer node that enters a loop, below the leaf that it is there.
    fn entered(&mut self, input: usize, depth: usize) {
        let Some((nodes, numbers, inputs)) = self.outside.take() else { return };
        let inner_nodes = std::mem::replace(&mut self.nodes, nodes);
        let inner_numbers = std::mem::replace(&mut self.numbers, numbers);
        self.node(inputs[input], depth);
        let numbers = std::mem::replace(&mut self.numbers, inner_numbers);
        self.nodes = inner_nodes;
        self.outside = Some((nodes, numbers, inputs));
    }

    fn imported(&self, dataflow: ObjectId) -> String {
        match self.plans.iter().find(|plan| plan.id == dataflow) {
            Some(plan) => title(plan, self.names),
            None => {
                let name = (self.names)(dataflow);
                name.parse().map_or(name, |fingerprint| arrangement(&fingerprint, self.names))
            }
        }
    }

    fn operator(&self, operator: &Operator) -> String {
        match operator {
            Operator::Source { relation, columns: read } => {
                format!("Source {} {}", (self.names)(*relation), columns(read))
            }
            Operator::Import { dataflow, key } => format!("Import {} by {}", self.imported(*dataflow), columns(key)),
            Operator::Constant { rows } => match rows.num_rows() {
                1 => "Constant of 1 row".to_string(),
                count => format!("Constant of {count} rows"),
            },
            Operator::Map { filter, columns, .. } => format!("Map {}{}", exprs(columns), conditions(filter)),
            Operator::Unnest { lists, .. } => {
                let lists: Vec<String> = lists.iter().map(|list| column_name(*list)).collect();
                format!("Unnest {}", lists.join(", "))
            }
            Operator::Union { .. } => "Union".to_string(),
            Operator::Negate { .. } => "Negate".to_string(),
            Operator::Arrange { key, .. } => format!("Arrange by {}", columns(key)),
            Operator::Join { left, right, null_equal, filter, columns } => {
                let key = self.join_key(*left, *right, *null_equal);
                format!("Join {key}: {}{}", exprs(columns), conditions(filter))
            }
            Operator::Changes { .. } => "Changes".to_string(),
            Operator::HalfJoin { input, key, arranged, before, filter, columns } => {
                let key = pairs(key, crate::properties::arranged_by(&self.nodes[*arranged]), self.width(*input), "=");
                let moment = if *before { "before" } else { "at" };
                format!("HalfJoin {key} {moment} the time: {}{}", exprs(columns), conditions(filter))
            }
            Operator::Reduce { key, aggregates, .. } => {
                let aggregates: Vec<String> = aggregates.iter().map(aggregate).collect();
                format!("Reduce by {}: {}", columns(key), aggregates.join(", "))
            }
            Operator::Fold { key, calls, .. } => format!("Fold by {}: {}", columns(key), exprs(calls)),
            Operator::TopK { key, order, offset, limit, .. } => {
                let order: Vec<String> = order.iter().map(sort_key).collect();
                let order = if order.is_empty() { "all columns".to_string() } else { order.join(", ") };
                let limit = limit.map(|limit| format!(" limit {limit}")).unwrap_or_default();
                let offset = if *offset > 0 { format!(" offset {offset}") } else { String::new() };
                format!("TopK by {} order {order}{limit}{offset}", columns(key))
            }
            Operator::OrderStatistic { key, value, calls, .. } => {
                let calls: Vec<String> = calls.iter().map(percentile).collect();
                format!("OrderStatistic by {} order {}: {}", columns(key), sort_key(value), calls.join(", "))
            }
            Operator::TopRanks { key, order, limit, dense, .. } => {
                let order: Vec<String> = order.iter().map(sort_key).collect();
                let (order, dense) = (order.join(", "), if *dense { "dense " } else { "" });
                format!("TopRanks by {} order {order} {dense}rank <= {limit}", columns(key))
            }
            Operator::Window { key, calls, .. } => {
                let order: Vec<String> = longest_order(calls).iter().map(sort_key).collect();
                let order = if order.is_empty() { String::new() } else { format!(" order {}", order.join(", ")) };
                let calls: Vec<String> = calls.iter().map(window_call).collect();
                format!("Window by {}{order}: {}", columns(key), calls.join(", "))
            }
            Operator::Collate { key_count, .. } => {
                format!("Collate by {}", columns(&(0..*key_count).collect::<Vec<_>>()))
            }
            Operator::Distinct { .. } => "Distinct".to_string(),
            Operator::Threshold { .. } => "Threshold".to_string(),
            Operator::TemporalFilter { condition, .. } => {
                format!("TemporalFilter{}", conditions(std::slice::from_ref(condition)).replace(CLOCK, "now()"))
            }
            Operator::WindowClose { window_end, source, .. } => {
                format!("WindowClose #{window_end} at the watermark of {}", (self.names)(*source))
            }
            Operator::Emitted { .. } => "Emitted".to_string(),
            Operator::SingleRow { key, .. } => format!("SingleRow by {}", columns(key)),
            Operator::Recursion { body, .. } => match body.limit.returns {
                true => format!("Recursion as of iteration {}", body.limit.count),
                false => format!("Recursion of up to {} iterations", body.limit.count),
            },
            Operator::LoopResult { result, .. } => format!("Result {} of the loop", result + 1),
            Operator::Entered { .. } => "Entered".to_string(),
            Operator::Variable { result } => match result {
                0 => "Variable".to_string(),
                _ => format!("Variable {}", result + 1),
            },
        }
    }

    fn join_key(&self, left: NodeId, right: NodeId, null_equal: bool) -> String {
        let key = |id: NodeId| crate::properties::arranged_by(&self.nodes[id]);
        let sign = if null_equal { "is not distinct from" } else { "=" };
        pairs(key(left), key(right), self.width(left), sign)
    }

    fn width(&self, node: NodeId) -> usize {
        self.nodes[node].schema.fields().len()
    }
}

/// Whether a node is the end of a path of a delta join.
fn is_path(nodes: &[Node], node: NodeId) -> bool {
    match &nodes[node].operator {
        Operator::HalfJoin { .. } => true,
        Operator::Map { input, .. } => is_path(nodes, *input),
        _ => false,
    }
}

/// The key of a join; the right side's columns come after `offset` of the left.
fn pairs(left: &[usize], right: &[usize], offset: usize, sign: &str) -> String {
    let pairs = left.iter().zip(right);
    let pairs: Vec<String> = pairs.map(|(left, right)| format!("#{left} {sign} #{}", offset + right)).collect();
    if pairs.is_empty() { "of every pair".to_string() } else { format!("on {}", pairs.join(" and ")) }
}

/// What it keeps and what a change costs; nothing for what keeps nothing and costs its rows.
fn cost(nodes: &[Node], node: &Node) -> Option<String> {
    let append_only = |input: &NodeId| nodes[*input].append_only;
    Some(match &node.operator {
        Operator::Arrange { .. } => "all rows; O(1) a row".to_string(),
        Operator::Join { .. } => "its inputs' arrangements; a row costs its matches".to_string(),
        Operator::Union { inputs } if inputs.iter().any(|input| is_path(nodes, *input)) => {
            "a join by deltas: the changes of each relation".to_string()
        }
        Operator::HalfJoin { .. } => "no rows of its own; a row costs its matches".to_string(),
        Operator::Changes { .. } => "what comes after the start".to_string(),
        Operator::Reduce { .. } => "one accumulator row a group; O(1) a row".to_string(),
        Operator::Fold { .. } => "its input's arrangement; a change costs its group".to_string(),
        Operator::TopK { input, offset, limit, .. } => match (append_only(input), limit) {
            (true, Some(limit)) => format!("the first {} rows a group; O(1) a row", offset.saturating_add(*limit)),
            _ => "all rows, ordered in the group; O(log n) a row".to_string(),
        },
        Operator::OrderStatistic { .. } => "all rows, ordered in the group; O(log n) a row".to_string(),
        Operator::TopRanks { .. } => "all rows, ordered in the group; O(log n) a row".to_string(),
        Operator::Window { calls, .. } => {
            let costs = match calls.iter().map(reach).max_by_key(|reach| breadth(*reach)) {
                Some(Reach::Near { .. }) => "a change costs its neighbours",
                Some(Reach::Running(_)) => "a change costs the rows from it on whose values change",
                _ => "a change costs its partition",
            };
            format!("all rows, ordered in the partition; {costs}")
        }
        Operator::Collate { .. } => "its inputs' groups; O(1) a changed group".to_string(),
        Operator::Distinct { .. } | Operator::Threshold { .. } => "multiplicities; O(1) a row".to_string(),
        Operator::SingleRow { .. } => "one row a group; O(1) a row".to_string(),
        Operator::TemporalFilter { .. } => "rows come and go with the clock".to_string(),
        Operator::WindowClose { .. } => "the rows of open windows; O(1) a row".to_string(),
        Operator::Import { .. } => "shared arrangement".to_string(),
        Operator::Recursion { .. } => {
            "what its operators keep, an iteration each; a change costs what follows from it".to_string()
        }
        Operator::Variable { .. } => "the result of the iteration before".to_string(),
        Operator::Source { .. }
        | Operator::Entered { .. }
        | Operator::LoopResult { .. }
        | Operator::Constant { .. }
        | Operator::Map { .. }
        | Operator::Unnest { .. }
        | Operator::Union { .. }
        | Operator::Emitted { .. }
        | Operator::Negate { .. } => return None,
    })
}

fn breadth(reach: Reach) -> usize {
    match reach {
        Reach::Near { .. } => 0,
        Reach::Running(_) => 1,
        Reach::Whole => 2,
    }
}

fn columns(columns: &[usize]) -> String {
    let columns: Vec<String> = columns.iter().map(|index| format!("#{index}")).collect();
    format!("({})", columns.join(", "))
}

fn exprs(exprs: &[Expr]) -> String {
    match exprs.is_empty() {
        true => "()".to_string(),
        false => exprs.iter().map(|expr| expr.human_display().to_string()).collect::<Vec<_>>().join(", "),
    }
}

fn conditions(filter: &[Expr]) -> String {
    match filter.is_empty() {
        true => String::new(),
        false => {
            let conditions = filter.iter().map(|expr| expr.human_display().to_string()).collect::<Vec<_>>();
            format!(" where {}", conditions.join(" and "))
        }
    }
}

fn percentile(call: &Percentile) -> String {
    format!("percentile_{} {}", if call.continuous { "cont" } else { "disc" }, call.fraction)
}

fn aggregate(aggregate: &Aggregate) -> String {
    let argument = aggregate.argument.map_or("*".to_string(), |index| format!("#{index}"));
    let filter = aggregate.filter.map(|index| format!(" filter (where #{index})")).unwrap_or_default();
    format!("{}({argument}){filter}", aggregate.function)
}

/// The frame is said only of functions that look at it.
fn window_call(call: &Expr) -> String {
    let Expr::WindowFunction(call) = call else { return call.human_display().to_string() };
    let params = &call.params;
    let name = call.fun.name();
    let arguments: Vec<String> = params.args.iter().map(|argument| argument.human_display().to_string()).collect();
    let filter = params.filter.as_ref().map(|filter| format!(" filter (where {})", filter.human_display()));
    let frame = &params.window_frame;
    let is_framed = matches!(call.fun, WindowFunctionDefinition::AggregateUDF(_))
        || matches!(name, "first_value" | "last_value" | "nth_value");
    let frame = if is_framed {
        format!(" {} between {} and {}", frame.units, frame.start_bound, frame.end_bound).to_lowercase()
    } else {
        String::new()
    };
    format!("{name}({}){}{frame}", arguments.join(", "), filter.unwrap_or_default())
}

fn sort_key(key: &SortKey) -> String {
    let direction = if key.descending { " desc" } else { "" };
    // Said only where it is not PostgreSQL's default.
    let nulls = match (key.descending, key.nulls_first) {
        (false, true) => " nulls first",
        (true, false) => " nulls last",
        _ => "",
    };
    format!("#{}{direction}{nulls}", key.column)
}
