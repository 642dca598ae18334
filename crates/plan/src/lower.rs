//! `LogicalPlan` to `DataflowPlan`.
//!
//! The tree is walked once, bottom up, each node becoming one or a few operators over all of its columns ([`Graph`]
//! merges what is equal). Then [`prune`](crate::prune) drops the columns nobody reads and [`crate::share`]
//! replaces private arrangements of relations by shared ones, so neither has to be thought of here.

mod aggregate;
mod join;
mod multi_join;
mod recursion;
mod set;
mod top_k;
mod window;
mod window_filter;

use std::collections::HashMap;

use arrow::datatypes::DataType;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DFSchema, NullHandling, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, TableScan, Unnest, Values};
use repr::{ObjectId, PgError, RelationSchema, SqlState, TableOptions, ViewOptions};

use crate::dataflow_plan::{DataflowPlan, Export, Node, NodeId, Operator, column, positional_schema};
use crate::expression::{all_columns, conjuncts, internal, null, resolve, resolve_condition};
use crate::graph::Graph;
use crate::mutual_recursion::MutualRecursion;
use crate::prune::prune;
use crate::share::{self, SharedArrangement};

/// What a relation named in a plan is.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its columns' Arrow types, all columns.
    pub column_types: Vec<DataType>,
    /// What its dataflow exports (`node` does not matter); None for a source, which is read as it arrives.
    pub export: Option<Export>,
    /// Whether rows only ever arrive.
    pub append_only: bool,
    /// Sets of columns no two rows agree on.
    pub keys: Vec<Vec<usize>>,
}

/// What lowering must know of the world, and the one thing it takes from it: fresh ids.
pub struct LowerContext<'a> {
    /// The relation of that id, if there is one.
    pub relations: &'a dyn Fn(ObjectId) -> Option<Relation>,
    /// Arrangements that exist already; indexes among them.
    pub arrangements: &'a [SharedArrangement],
    /// An id for a new shared arrangement.
    pub allocate: &'a mut dyn FnMut() -> ObjectId,
}

/// The dataflow that maintains `plan`'s rows as `id`, last; before it those of new arrangements it imports.
///
/// Errors: `0A000` naming what cannot be maintained; `XX000` for a plan that does not hold together.
pub fn lower(
    id: ObjectId,
    name: &str,
    plan: &LogicalPlan,
    context: &mut LowerContext<'_>,
) -> Result<Vec<DataflowPlan>, PgError> {
    let mut lowering = Lowering {
        graph: Graph::default(),
        relations: context.relations,
        arrangements: context.arrangements,
        recursion: None,
        bindings: HashMap::new(),
    };
    let root = lowering.plan(plan)?;
    let (graph, root) = prune(&lowering.graph, root, &HashMap::new())?;
    let (mut plans, replacements) = share::share(&graph, root, context)?;
    let (mut graph, root) = prune(&graph, root, &replacements)?;
    let export = export(&mut graph, root)?;
    plans.push(DataflowPlan {
        id,
        name: name.to_string(),
        nodes: graph.nodes,
        export,
        options: ViewOptions::default(),
    });
    Ok(plans)
}

/// The dataflow that keeps a table: its updates, arranged by the primary key or by all columns.
pub fn relation_plan(id: ObjectId, name: &str, schema: &RelationSchema, options: TableOptions) -> DataflowPlan {
    let columns: Vec<usize> = (0..schema.columns.len()).collect();
    let key = schema.primary_key.clone().unwrap_or_else(|| columns.clone());
    let node = |operator| Node {
        operator,
        schema: positional_schema(schema.columns.iter().map(|column| column.sql_type.arrow())),
        keys: schema.primary_key.iter().cloned().collect(),
        append_only: options.append_only,
    };
    DataflowPlan {
        id,
        name: name.to_string(),
        nodes: vec![
            node(Operator::Source { relation: id, columns }),
            node(Operator::Arrange { input: 0, key: key.clone() }),
        ],
        export: Export { node: 1, key, unique: schema.primary_key.is_some() },
        options: ViewOptions { retain_history_ms: options.retain_history_ms, ..ViewOptions::default() },
    }
}

/// The dataflow that keeps an index: all columns of the relation `on`, arranged by `columns`.
///
/// Errors: `42P01` if there is no such relation.
pub fn index_plan(
    id: ObjectId,
    name: &str,
    on: ObjectId,
    columns: &[usize],
    context: &LowerContext<'_>,
) -> Result<DataflowPlan, PgError> {
    let mut graph = Graph::default();
    let input = graph.leaf(relation_node(on, context.relations)?);
    let node = graph.arrange(input, columns.to_vec())?;
    let unique = graph.is_unique(node, columns);
    Ok(DataflowPlan {
        id,
        name: name.to_string(),
        nodes: graph.nodes,
        export: Export { node, key: columns.to_vec(), unique },
        options: ViewOptions::default(),
    })
}

/// All of a relation's rows: an import where it has a dataflow, its updates where it has none.
fn relation_node(id: ObjectId, relations: &dyn Fn(ObjectId) -> Option<Relation>) -> Result<Node, PgError> {
    let relation = relations(id)
        .ok_or_else(|| PgError::new(SqlState::UNDEFINED_TABLE, format!("relation {id} does not exist")))?;
    let mut keys = relation.keys;
    let operator = match relation.export {
        Some(export) => {
            if export.unique {
                crate::properties::add_key(&mut keys, export.key.clone());
            }
            Operator::Import { dataflow: id, key: export.key }
        }
        None => Operator::Source { relation: id, columns: (0..relation.column_types.len()).collect() },
    };
    let schema = positional_schema(relation.column_types);
    Ok(Node { operator, schema, keys, append_only: relation.append_only })
}

/// Gives the last operator's arrangement away, or makes one.
pub(crate) fn export(graph: &mut Graph, root: NodeId) -> Result<Export, PgError> {
    let width = graph.width(root);
    Ok(match &graph.nodes[root].operator {
        Operator::Reduce { key, .. } => Export { node: root, key: (0..key.len()).collect(), unique: true },
        Operator::TopK { key, limit, .. } => Export { node: root, key: key.clone(), unique: *limit == Some(1) },
        Operator::Distinct { .. } => Export { node: root, key: (0..width).collect(), unique: true },
        _ => {
            let known = graph.nodes[root].keys.iter().min_by_key(|key| key.len()).cloned();
            let unique = known.is_some();
            let key = known.unwrap_or_else(|| (0..width).collect());
            Export { node: graph.arrange(root, key.clone())?, key, unique }
        }
    })
}

/// The graph under construction, and the relations its leaves are.
struct Lowering<'a> {
    graph: Graph,
    relations: &'a dyn Fn(ObjectId) -> Option<Relation>,
    /// Arrangements that exist already.
    arrangements: &'a [SharedArrangement],
    /// The loop that `graph` is the body of, if it is one.
    recursion: Option<recursion::Loop>,
    /// The results of loops, nodes outside of any, by what scans call them.
    bindings: HashMap<String, NodeId>,
}

impl Lowering<'_> {
    /// A node with `plan`'s rows, columns in the order of its schema.
    fn plan(&mut self, plan: &LogicalPlan) -> Result<NodeId, PgError> {
        if let Some(entered) = self.entered(plan)? {
            return Ok(entered);
        }
        match plan {
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Repartition(repartition) => self.plan(&repartition.input),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::EmptyRelation(empty) => {
                let row_count = if empty.produce_one_row { 1 } else { 0 };
                let schema = positional_schema(empty.schema.fields().iter().map(|field| field.data_type().clone()));
                let columns = schema
                    .fields()
                    .iter()
                    .map(|field| arrow::array::new_null_array(field.data_type(), row_count))
                    .collect();
                self.constant(batch(schema, columns, row_count)?)
            }
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::Distinct(distinct) => self.distinct(distinct),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::RecursiveQuery(query) => self.recursive_query(query),
            LogicalPlan::Subquery(_) => Err(PgError::unsupported("this form of subquery in a materialized view")),
            LogicalPlan::Extension(extension) => match MutualRecursion::of(plan) {
                Some(recursion) => self.mutual_recursion(recursion),
                None => Err(PgError::unsupported(format!("{} in a materialized view", extension.node.name()))),
            },
            other => {
                let text = other.display().to_string();
                let construct = text.split([':', ' ']).next().unwrap_or_default();
                Err(PgError::unsupported(format!("{construct} in a materialized view")))
            }
        }
    }

    fn projection(&mut self, projection: &Projection) -> Result<NodeId, PgError> {
        let input = self.plan(&projection.input)?;
        let columns = resolve_all(&projection.expr, projection.input.schema())?;
        self.graph.map(input, Vec::new(), columns)
    }

    fn scan(&mut self, scan: &TableScan) -> Result<NodeId, PgError> {
        let name = scan.table_name.table();
        let input = match self.recursive_rows(name) {
            Some(rows) => rows,
            None => {
                let id = name.parse().map(ObjectId);
                let id = id.map_err(|_| PgError::unsupported(format!("relation \"{name}\" in a materialized view")))?;
                self.graph.leaf(relation_node(id, self.relations)?)
            }
        };
        // Filters of a scan are over the whole relation, not over what is projected.
        let schema =
            DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema()).map_err(internal)?;
        let mut filter = Vec::new();
        for condition in &scan.filters {
            filter.extend(conjuncts(resolve_condition(condition, &[&schema])?));
        }
        let columns = match &scan.projection {
            Some(projection) => projection.iter().map(|index| column(*index)).collect(),
            None => all_columns(self.graph.width(input)),
        };
        let rows = self.graph.filter(input, filter)?;
        let node = self.graph.map(rows, Vec::new(), columns)?;
        match scan.fetch {
            Some(fetch) => self.first_rows(node, 0, Some(fetch as u64)),
            None => Ok(node),
        }
    }

    /// Literal rows as one constant; a row that still has to be computed is computed over a single empty row.
    fn values(&mut self, values: &Values) -> Result<NodeId, PgError> {
        let types: Vec<DataType> = values.schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let mut literal_rows: Vec<Vec<ScalarValue>> = Vec::new();
        let mut inputs = Vec::new();
        for row in &values.values {
            let row = resolve_all(row, &DFSchema::empty())?;
            match row.iter().zip(&types).map(|(expr, data_type)| constant_value(expr, data_type)).collect() {
                Some(row) => literal_rows.push(row),
                None => {
                    let unit = self.unit()?;
                    inputs.push(self.graph.map(unit, Vec::new(), row)?);
                }
            }
        }
        if !literal_rows.is_empty() || inputs.is_empty() {
            let schema = positional_schema(types.iter().cloned());
            let mut columns = Vec::with_capacity(types.len());
            for (index, data_type) in types.iter().enumerate() {
                columns.push(match literal_rows.is_empty() {
                    true => arrow::array::new_empty_array(data_type),
                    false => ScalarValue::iter_to_array(literal_rows.iter().map(|row| row[index].clone()))
                        .map_err(internal)?,
                });
            }
            let row_count = literal_rows.len();
            inputs.push(self.constant(batch(schema, columns, row_count)?)?);
        }
        self.graph.union(inputs)
    }

    /// One row of no columns.
    fn unit(&mut self) -> Result<NodeId, PgError> {
        self.constant(batch(positional_schema([]), Vec::new(), 1)?)
    }

    /// The list columns become their elements. `NullHandling::Preserve` keeps a row whose lists are NULL.
    fn unnest(&mut self, unnest: &Unnest) -> Result<NodeId, PgError> {
        let input = self.plan(&unnest.input)?;
        let deep = unnest.list_type_columns.iter().any(|(_, list)| list.depth != 1);
        if deep || !unnest.struct_type_columns.is_empty() {
            return Err(PgError::unsupported("unnest of a nested array or a row in a materialized view"));
        }
        let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(index, _)| *index).collect();
        let rows = self.graph.add(Operator::Unnest { input, lists: lists.clone() })?;
        match unnest.options.null_handling {
            NullHandling::Drop => Ok(rows),
            NullHandling::Preserve => {
                let mut columns = all_columns(self.graph.width(input));
                let mut absent = Vec::new();
                for list in lists {
                    columns[list] = null(&self.graph.types(rows)[list])?;
                    absent.push(Expr::IsNull(Box::new(column(list))));
                }
                let absent = self.graph.map(input, absent, columns)?;
                self.graph.union(vec![rows, absent])
            }
            NullHandling::PreserveAndExpandEmpty => {
                Err(PgError::unsupported("an outer join with unnest in a materialized view"))
            }
        }
    }
}

/// Each of `exprs` over the positions of one schema.
fn resolve_all<'e>(exprs: impl IntoIterator<Item = &'e Expr>, schema: &DFSchema) -> Result<Vec<Expr>, PgError> {
    exprs.into_iter().map(|expr| resolve(expr, &[schema])).collect()
}

/// A literal's value, in the column's type.
fn constant_value(expr: &Expr, data_type: &DataType) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) if value.data_type() == *data_type => Some(value.clone()),
        Expr::Literal(value, _) if value.is_null() => ScalarValue::try_from(data_type).ok(),
        _ => None,
    }
}

/// Rows with their count, which columns alone would not tell where there are none.
fn batch(
    schema: arrow::datatypes::SchemaRef,
    columns: Vec<arrow::array::ArrayRef>,
    row_count: usize,
) -> Result<RecordBatch, PgError> {
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| PgError::internal(error.to_string()))
}
