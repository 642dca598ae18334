//! Arrangements of relations, shared between views.
//!
//! A join's input that is some columns of a relation, arranged by some of them, is worth the same to every view that
//! joins the relation that way. So it gets a dataflow of its own and views import it; a relation that is arranged so
//! already (a table by its primary key, a view by its group) is imported as it stands. What a view filters or computes
//! first it arranges for itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use repr::{ObjectId, PgError, ViewOptions};

use crate::dataflow_plan::{DataflowPlan, Export, Node, NodeId, Operator, positional_schema};
use crate::expression::position;
use crate::graph::Graph;
use crate::lower::LowerContext;
use crate::prune::{Replacement, prune};

/// What a shared arrangement holds. Its text is canonical: equal arrangements have equal texts, and the text reads
/// back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The relation.
    pub relation: ObjectId,
    /// Which of its columns, ascending: the arrangement's columns in order.
    pub columns: Vec<usize>,
    /// The relation's columns that it is arranged by, in the key's order.
    pub key: Vec<usize>,
}

/// An arrangement that exists: a dataflow that [`lower`](crate::lower()) gave for another view, or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedArrangement {
    /// The dataflow that exports it.
    pub dataflow: ObjectId,
    /// The text of its [`Fingerprint`].
    pub fingerprint: String,
    /// The positions of its key among its own columns.
    pub key: Vec<usize>,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |columns: &[usize]| columns.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        write!(f, "arrangement of {} columns {} by {}", self.relation, list(&self.columns), list(&self.key))
    }
}

impl FromStr for Fingerprint {
    type Err = PgError;

    fn from_str(text: &str) -> Result<Fingerprint, PgError> {
        let malformed = || PgError::internal(format!("malformed fingerprint of an arrangement: {text}"));
        let list = |text: &str| -> Result<Vec<usize>, PgError> {
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|_| malformed())).collect()
        };
        let rest = text.strip_prefix("arrangement of ").ok_or_else(malformed)?;
        let (relation, rest) = rest.split_once(" columns ").ok_or_else(malformed)?;
        let (columns, key) = rest.split_once(" by ").ok_or_else(malformed)?;
        let relation = ObjectId(relation.parse().map_err(|_| malformed())?);
        Ok(Fingerprint { relation, columns: list(columns)?, key: list(key)? })
    }
}

/// The leaves of relations that a graph reads, and what could be shared of them.
struct Request {
    /// The `Arrange` node.
    arrange: NodeId,
    /// The relation's own node.
    leaf: NodeId,
    relation: ObjectId,
    /// The relation's column behind each column of the arrangement.
    columns: Vec<usize>,
    /// The relation's columns it is arranged by.
    key: Vec<usize>,
}

/// The dataflows of new shared arrangements, and what to put in place of which node of `graph`.
pub(crate) fn share(
    graph: &Graph,
    root: NodeId,
    context: &mut LowerContext<'_>,
) -> Result<(Vec<DataflowPlan>, HashMap<NodeId, Replacement>), PgError> {
    let mut replacements = HashMap::new();
    let mut plans = Vec::new();
    let mut wanted: BTreeMap<(ObjectId, Vec<usize>), Vec<Request>> = BTreeMap::new();
    for request in requests(graph, root) {
        let leaf = &graph.nodes[request.leaf];
        match &leaf.operator {
            Operator::Import { key, .. } if *key == request.key => {
                let replacement = Replacement { node: leaf.clone(), columns: request.columns };
                replacements.insert(request.arrange, replacement);
            }
            _ => wanted.entry((request.relation, request.key.clone())).or_default().push(request),
        }
    }
    for ((relation, key), requests) in wanted {
        let columns: BTreeSet<usize> = requests.iter().flat_map(|request| request.columns.iter().copied()).collect();
        let columns: Vec<usize> = columns.into_iter().collect();
        let leaf = requests.first().map(|request| &graph.nodes[request.leaf]);
        let Some(leaf) = leaf else { continue };
        let (dataflow, held) = match existing(context, relation, &columns, &key) {
            Some(found) => found,
            None => {
                let fingerprint = Fingerprint { relation, columns: columns.clone(), key: key.clone() };
                let plan = arrangement_plan((context.allocate)(), &fingerprint, leaf)?;
                let id = plan.id;
                plans.push(plan);
                (id, columns)
            }
        };
        let node = import(dataflow, relation, &held, &key, leaf, context)?;
        for request in requests {
            let columns = places(&held, &request.columns)?;
            replacements.insert(request.arrange, Replacement { node: node.clone(), columns });
        }
        replace_sources(graph, relation, &held, &node, &mut replacements);
    }
    Ok((plans, replacements))
}

/// The arrangements that joins want of plain columns of a relation.
fn requests(graph: &Graph, root: NodeId) -> Vec<Request> {
    let uses = graph.use_counts(&[root]);
    let arrangements = graph.nodes.iter().enumerate().filter(|(id, _)| uses[*id] > 0);
    arrangements.filter_map(|(id, node)| request(graph, id, node)).collect()
}

fn request(graph: &Graph, arrange: NodeId, node: &Node) -> Option<Request> {
    let Operator::Arrange { input, key } = &node.operator else { return None };
    let Origin { leaf, relation, columns } = origin(graph, *input)?;
    let key = key.iter().map(|index| columns[*index]).collect();
    Some(Request { arrange, leaf, relation, columns, key })
}

/// Where rows come from that are some columns of a relation.
pub(crate) struct Origin {
    /// The relation's own node.
    pub(crate) leaf: NodeId,
    pub(crate) relation: ObjectId,
    /// The relation's column behind each column.
    pub(crate) columns: Vec<usize>,
}

/// None where the rows of `node` are anything but columns of a relation.
pub(crate) fn origin(graph: &Graph, node: NodeId) -> Option<Origin> {
    let (leaf, picked) = match &graph.nodes[node].operator {
        Operator::Map { input, filter, columns } if filter.is_empty() => {
            (*input, columns.iter().map(position).collect::<Option<Vec<usize>>>()?)
        }
        _ => (node, (0..graph.width(node)).collect()),
    };
    match &graph.nodes[leaf].operator {
        Operator::Source { relation, columns } => {
            Some(Origin { leaf, relation: *relation, columns: picked.iter().map(|index| columns[*index]).collect() })
        }
        Operator::Import { dataflow, .. } => Some(Origin { leaf, relation: *dataflow, columns: picked }),
        _ => None,
    }
}

/// The narrowest arrangement that holds the columns by that key, and the relation's columns it holds.
fn existing(
    context: &LowerContext<'_>,
    relation: ObjectId,
    columns: &[usize],
    key: &[usize],
) -> Option<(ObjectId, Vec<usize>)> {
    let candidates = context.arrangements.iter().filter_map(|shared| {
        let held = shared.fingerprint.parse::<Fingerprint>().ok()?;
        let suits = held.relation == relation && held.key == key;
        let suits = suits && columns.iter().all(|column| held.columns.contains(column));
        suits.then_some((shared.dataflow, held.columns))
    });
    candidates.min_by_key(|(dataflow, columns)| (columns.len(), *dataflow))
}

/// `columns` of a relation, arranged.
fn arrangement_plan(id: ObjectId, fingerprint: &Fingerprint, leaf: &Node) -> Result<DataflowPlan, PgError> {
    let mut graph = Graph::default();
    let picked = match &leaf.operator {
        Operator::Source { columns, .. } => places(columns, &fingerprint.columns)?,
        _ => fingerprint.columns.clone(),
    };
    let input = graph.leaf(leaf.clone());
    let rows = graph.project(input, &picked)?;
    let key = places(&fingerprint.columns, &fingerprint.key)?;
    let arranged = graph.arrange(rows, key.clone())?;
    let unique = graph.is_unique(arranged, &key);
    let (graph, node) = prune(&graph, arranged, &HashMap::new())?;
    Ok(DataflowPlan {
        id,
        name: fingerprint.to_string(),
        nodes: graph.nodes,
        export: Export { node, key, unique },
        options: ViewOptions::default(),
    })
}

/// The leaf that reads a shared arrangement.
fn import(
    dataflow: ObjectId,
    relation: ObjectId,
    columns: &[usize],
    key: &[usize],
    leaf: &Node,
    context: &LowerContext<'_>,
) -> Result<Node, PgError> {
    let known = (context.relations)(relation)
        .ok_or_else(|| PgError::internal(format!("relation {relation} vanished while it was planned")))?;
    let types = columns.iter().map(|index| {
        known.column_types.get(*index).cloned().ok_or_else(|| PgError::internal("an arrangement of an unknown column"))
    });
    let types = types.collect::<Result<Vec<_>, _>>()?;
    let keys = known.keys.iter().filter_map(|key| places(columns, key).ok()).collect();
    Ok(Node {
        operator: Operator::Import { dataflow, key: places(columns, key)? },
        schema: positional_schema(types),
        keys,
        append_only: leaf.append_only,
    })
}

/// Reads a source through its arrangement also where it is not joined: its history is then decoded and routed once.
fn replace_sources(
    graph: &Graph,
    relation: ObjectId,
    held: &[usize],
    node: &Node,
    replacements: &mut HashMap<NodeId, Replacement>,
) {
    for (id, other) in graph.nodes.iter().enumerate() {
        if let Operator::Source { relation: read, columns } = &other.operator
            && *read == relation
            && let Ok(columns) = places(held, columns)
        {
            replacements.entry(id).or_insert_with(|| Replacement { node: node.clone(), columns });
        }
    }
}

/// The position of each of `wanted` in `held`.
fn places(held: &[usize], wanted: &[usize]) -> Result<Vec<usize>, PgError> {
    let place = |column: &usize| held.iter().position(|other| other == column);
    wanted
        .iter()
        .map(|column| {
            place(column).ok_or_else(|| PgError::internal(format!("column {column} is not in the arrangement")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_read_back() {
        for (columns, key) in [(vec![0, 2, 5], vec![5, 0]), (vec![], vec![]), (vec![1], vec![])] {
            let fingerprint = Fingerprint { relation: ObjectId(16384), columns, key };
            assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        }
        assert!("orders".parse::<Fingerprint>().is_err());
    }
}
