//! What runs: the dataflows with what they export, read and share.
//!
//! A table, a materialized view and an index each have the dataflow of their own id. The arrangements that views share have
//! ids of their own and no name; one goes when the last dataflow that imports it has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catalog::{Catalog, ObjectKind};
use plan::{DataflowPlan, Export, LowerContext, Operator, Relation, SharedArrangement};
use repr::{ObjectId, PgError};

use crate::engine::Shared;

/// One running dataflow.
pub(crate) struct Running {
    pub(crate) plan: Arc<DataflowPlan>,
    /// How others may share what it exports; None for tables and views, which are imported by their id.
    pub(crate) shared: Option<SharedArrangement>,
    /// Whether it is only there for others.
    pub(crate) anonymous: bool,
}

/// Every running dataflow by its id.
#[derive(Default)]
pub(crate) struct Dataflows {
    running: BTreeMap<ObjectId, Running>,
}

impl Dataflows {
    pub(crate) fn get(&self, id: ObjectId) -> Option<&Running> {
        self.running.get(&id)
    }

    pub(crate) fn export(&self, id: ObjectId) -> Option<&Export> {
        self.running.get(&id).map(|running| &running.plan.export)
    }

    fn sources(&self) -> BTreeSet<ObjectId> {
        self.running.values().flat_map(|running| running.plan.sources()).collect()
    }

    /// The dataflow and all that read it, directly or not, in an order in which they may end. `id` may also be a source.
    fn readers_first(&self, id: ObjectId) -> Vec<ObjectId> {
        let mut order = Vec::new();
        self.visit_readers(id, &mut order);
        order.retain(|id| self.running.contains_key(id));
        order
    }

    fn visit_readers(&self, id: ObjectId, order: &mut Vec<ObjectId>) {
        for (reader, running) in &self.running {
            // A table's dataflow reads the relation of its own id.
            let reads = running.plan.imports().contains(&id) || running.plan.sources().contains(&id);
            if *reader != id && reads && !order.contains(reader) {
                self.visit_readers(*reader, order);
            }
        }
        if !order.contains(&id) {
            order.push(id);
        }
    }

    fn is_imported(&self, id: ObjectId) -> bool {
        self.running.values().any(|running| running.plan.imports().contains(&id))
    }

    /// The arrangements that a new plan may share.
    pub(crate) fn arrangements(&self) -> Vec<SharedArrangement> {
        self.running.values().filter_map(|running| running.shared.clone()).collect()
    }
}

/// What planning has to know of a relation.
pub(crate) fn relation(catalog: &Catalog, dataflows: &Dataflows, id: ObjectId) -> Option<Relation> {
    let object = catalog.get(id)?;
    let schema = object.relation_schema()?;
    let running = dataflows.get(id);
    let export_node = running.and_then(|running| running.plan.nodes.get(running.plan.export.node));
    let append_only = match &object.kind {
        ObjectKind::Source { .. } => true,
        ObjectKind::Table { options, .. } => options.append_only,
        _ => export_node.is_some_and(|node| node.append_only),
    };
    Some(Relation {
        column_types: schema.columns.iter().map(|column| column.sql_type.arrow()).collect(),
        export: running.map(|running| running.plan.export.clone()),
        append_only,
        keys: export_node.map_or_else(|| schema.primary_key.iter().cloned().collect(), |node| node.keys.clone()),
    })
}

/// Calls `lower` with a context of what is there now.
pub(crate) fn with_lower_context<T>(
    shared: &Shared,
    catalog: &Catalog,
    lower: impl FnOnce(&mut LowerContext<'_>) -> Result<T, PgError>,
) -> Result<T, PgError> {
    let dataflows = shared.dataflows.read();
    let arrangements = dataflows.arrangements();
    lower(&mut LowerContext {
        relations: &|id| relation(catalog, &dataflows, id),
        arrangements: &arrangements,
        allocate: &mut || shared.allocate_id(),
    })
}

/// Starts dataflows in order, and the reading of the sources they want. All of them or none.
///
/// `owner` is the one that has a name; the others are arrangements that it shares.
pub(crate) fn install(
    shared: &Shared,
    catalog: &Catalog,
    owner: ObjectId,
    plans: Vec<(DataflowPlan, Option<SharedArrangement>)>,
) -> Result<(), PgError> {
    let mut installed = Vec::new();
    let mut backfills = Vec::new();
    let mut sources = BTreeSet::new();
    for (plan, arrangement) in plans {
        let id = plan.id;
        match shared.runtime.install(plan.clone()) {
            Ok(started) => {
                backfills.extend(started.backfills);
                sources.extend(plan.sources());
                installed.push(id);
                let running = Running { plan: Arc::new(plan), shared: arrangement, anonymous: id != owner };
                shared.dataflows.write().running.insert(id, running);
            }
            Err(error) => {
                for id in installed.into_iter().rev() {
                    shared.runtime.uninstall(id);
                    shared.dataflows.write().running.remove(&id);
                }
                return Err(error.into());
            }
        }
    }
    for backfill in backfills {
        if let Some(ObjectKind::Source { description }) = catalog.get(backfill.relation).map(|object| &object.kind) {
            shared.readers.backfill(description.clone(), backfill);
        }
    }
    for id in sources {
        if let Some(ObjectKind::Source { description }) = catalog.get(id).map(|object| &object.kind) {
            shared.readers.start(id, description.clone());
        }
    }
    Ok(())
}

/// Ends dataflows, and before each of them whatever still reads it, such as a subscription; then the shared arrangements and
/// the readers that nobody needs any more.
pub(crate) fn uninstall(shared: &Shared, ids: &[ObjectId]) {
    let mut dataflows = shared.dataflows.write();
    for id in ids {
        for id in dataflows.readers_first(*id) {
            dataflows.running.remove(&id);
            shared.runtime.uninstall(id);
        }
    }
    loop {
        let unused: Vec<ObjectId> = dataflows
            .running
            .iter()
            .filter(|(id, running)| running.anonymous && !dataflows.is_imported(**id))
            .map(|(id, _)| *id)
            .collect();
        if unused.is_empty() {
            break;
        }
        for id in unused {
            dataflows.running.remove(&id);
            shared.runtime.uninstall(id);
        }
    }
    let wanted = dataflows.sources();
    drop(dataflows);
    shared.readers.keep_only(&wanted);
}

/// The relations a plan's operators read, through dataflows it imports, down to tables and sources.
pub(crate) fn base_relations(dataflows: &Dataflows, id: ObjectId, found: &mut BTreeSet<ObjectId>) {
    let Some(running) = dataflows.get(id) else { return };
    for node in &running.plan.nodes {
        match &node.operator {
            Operator::Source { relation, .. } => {
                found.insert(*relation);
            }
            Operator::Import { dataflow, .. } => base_relations(dataflows, *dataflow, found),
            _ => {}
        }
    }
}
