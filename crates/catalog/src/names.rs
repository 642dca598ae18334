//! What names mean: along a search path, and in the text of a view for as long as the view lives.
//!
//! A view keeps its query as text. What each relation's name in it meant, and which columns the relation had then, is kept
//! beside the text, as PostgreSQL keeps a view's tree: a relation or column that is renamed later, a column added or another
//! relation of that name nearer on somebody's search path changes nothing in the view.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Catalog, DEFAULT_SCHEMA, Object};

/// A relation as the text of a view names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRelation {
    /// The schema, where the text says it.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
    /// The relation, by its id.
    pub id: u32,
    /// Its columns when the view was made: number and name.
    pub columns: Vec<(i16, String)>,
}

impl NamedRelation {
    /// What `name` means now.
    pub fn new(schema: Option<&str>, name: &str, object: &Object) -> NamedRelation {
        let columns = object.relation_schema().map_or(&[][..], |schema| &schema.columns);
        let columns = columns.iter().enumerate();
        NamedRelation {
            schema: schema.map(str::to_string),
            name: name.to_string(),
            id: object.id.0,
            columns: columns.map(|(index, column)| (object.column_number(index), column.name.clone())).collect(),
        }
    }
}

/// Where names without a schema are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    /// The schemas of the setting `search_path` in order; some may not exist.
    pub schemas: Vec<String>,
    /// The schema of the session's temporary objects; nobody else's start is found.
    pub temporary: Option<String>,
}

impl Default for SearchPath {
    fn default() -> SearchPath {
        SearchPath { schemas: vec![DEFAULT_SCHEMA.to_string()], temporary: None }
    }
}

impl SearchPath {
    /// Finds `name`, in `schema` or, without one, along the path: temporary objects, `pg_catalog` and `tw_catalog` come
    /// first unless the path says where they come.
    pub fn resolve<'a>(&self, catalog: &'a Catalog, schema: Option<&str>, name: &str) -> Option<&'a Arc<Object>> {
        match schema {
            Some("pg_temp") => catalog.in_schema(self.temporary.as_deref()?, name),
            Some(schema) => catalog.in_schema(schema, name),
            None => self.searched().find_map(|schema| catalog.in_schema(schema, name)),
        }
    }

    /// Finds what a possibly quoted, possibly qualified name in a text means, as `'public."T"'::regclass` does.
    pub fn resolve_text<'a>(&self, catalog: &'a Catalog, text: &str) -> Option<&'a Arc<Object>> {
        match split_name(text).as_slice() {
            [name] => self.resolve(catalog, None, name),
            [schema, name] | [_, schema, name] => self.resolve(catalog, Some(schema), name),
            _ => None,
        }
    }

    /// Every schema that is searched, in order, whether it exists or not.
    pub fn searched(&self) -> impl Iterator<Item = &str> {
        let said = |name: &str| self.schemas.iter().any(|schema| schema == name);
        let implied = ["pg_catalog", "tw_catalog"].into_iter().filter(move |name| !said(name));
        let temporary = self.temporary.as_deref().into_iter();
        temporary.chain(implied).chain(self.schemas.iter().map(String::as_str))
    }

    /// The schema that an object without one is made in: the first of the path that exists.
    pub fn creation_schema(&self, catalog: &Catalog) -> Option<&str> {
        self.schemas.iter().map(String::as_str).find(|schema| catalog.has_schema(schema))
    }
}

/// The parts of a name: folded to lower case where they are not quoted.
pub fn split_name(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut part = String::new();
    let mut quoted = false;
    for character in text.trim().chars() {
        match character {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            character if quoted => part.push(character),
            character => part.extend(character.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}
