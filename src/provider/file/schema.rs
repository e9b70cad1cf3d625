//! The language's JSON Schema, for editors.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{Schema, json_schema};

use super::raw::Document;

/// The JSON Schema (draft 2020-12) of a configuration file, for
/// `# yaml-language-server: $schema=…`.
pub fn schema() -> serde_json::Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Document>();
    substitutable(&mut schema);
    schema.insert("title".to_owned(), "Portcullis configuration".into());
    schema.insert("patternProperties".to_owned(), serde_json::json!({ "^x-": true }));
    schema.to_value()
}

/// Wherever a number or truth value stands, a variable may stand for it.
fn substitutable(schema: &mut Schema) {
    // From the inside out, so that what is put in is not visited again.
    transform_subschemas(&mut substitutable, schema);
    let kind = schema.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
    if !matches!(kind, "integer" | "boolean") {
        return;
    }
    let Some(object) = schema.as_object_mut() else { return };
    let description = object.remove("description");
    let mut both = json_schema!({
        "anyOf": [object, { "type": "string", "pattern": r"\$\{" }],
    });
    if let Some(description) = description {
        both.insert("description".to_owned(), description);
    }
    *schema = both;
}
