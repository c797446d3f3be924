//! What the builders cannot say, said on the finished document: schemas with `not` and `const`, headers that are always
//! there, bodies that may be left out, one component for equal problems, examples.

use serde_json::{Map, Value, json};

use super::everywhere::{EVERYWHERE, REQUEST_ID};
use super::examples;
use super::shapes::ALWAYS;

/// The schemas that describe a declaration.
const DECLARATION: &str = include_str!("declaration.json");

/// Bodies that may be left out.
const OPTIONAL: [&str; 2] = ["#/components/schemas/Review", "#/components/schemas/Archival"];

/// The document as it is served.
pub(super) fn finished(openapi: utoipa::openapi::OpenApi, events: &[String]) -> Value {
    let mut document = serde_json::to_value(openapi).unwrap_or_default();
    let declaration = serde_json::from_str::<Map<String, Value>>(DECLARATION).unwrap_or_default();
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.extend(declaration);
        if let Some(event) = schemas.get_mut("Event").and_then(Value::as_object_mut) {
            event.remove("pattern");
            event.insert("enum".to_owned(), json!(events));
        }
    }
    let mut problems = Map::new();
    for operation in operations(&mut document) {
        with_examples(operation);
        without_needless_body(operation);
        with_edge(operation);
        share_problems(operation, &mut problems);
    }
    if let Some(responses) = document.pointer_mut("/components/responses").and_then(Value::as_object_mut) {
        responses.extend(problems);
    }
    mark_headers(&mut document);
    document
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut).filter(|o| o.get("operationId").is_some())
}

fn with_examples(operation: &mut Value) {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let answer = examples::answers().into_iter().find(|(of, _)| *of == id);
    if let Some((_, example)) = answer {
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        let good = responses.into_iter().flatten().filter(|(status, _)| status.starts_with('2'));
        for content in good.filter_map(|(_, response)| response.pointer_mut("/content/application~1json")) {
            content["example"] = example.clone();
        }
    }
    let Some((_, bodies)) = examples::requests().into_iter().find(|(of, _)| *of == id) else {
        return;
    };
    if let Some(content) = operation.pointer_mut("/requestBody/content/application~1json") {
        let examples = bodies.into_iter();
        let examples =
            examples.map(|(name, summary, value)| (name.to_owned(), json!({ "summary": summary, "value": value })));
        content["examples"] = Value::Object(examples.collect());
    }
}

/// What [`super::super::edge`] takes and adds, whatever the operation.
fn with_edge(operation: &mut Value) {
    let reference = |kind: &str, name: &str| json!({ "$ref": format!("#/components/{kind}/{name}") });
    if let Some(members) = operation.as_object_mut() {
        let parameters = members.entry("parameters").or_insert_with(|| json!([]));
        parameters.as_array_mut().into_iter().for_each(|list| list.push(reference("parameters", REQUEST_ID)));
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for response in responses.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        if response.contains_key("$ref") {
            continue;
        }
        let headers = response.entry("headers").or_insert_with(|| json!({}));
        for name in EVERYWHERE {
            headers[name] = reference("headers", name);
        }
    }
}

fn without_needless_body(operation: &mut Value) {
    let schema = operation.pointer("/requestBody/content/application~1json/schema/$ref").and_then(Value::as_str);
    // What is there already need not be sent again.
    let uploads = operation["operationId"] == "uploadAttachment";
    if uploads || schema.is_some_and(|schema| OPTIONAL.contains(&schema)) {
        operation["requestBody"]["required"] = json!(false);
    }
}

/// A problem that is the only one of its status is the same everywhere, unless an operation has other words for it too.
fn share_problems(operation: &mut Value, shared: &mut Map<String, Value>) {
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for response in responses.into_iter().flat_map(Map::values_mut) {
        let examples = response.pointer("/content/application~1problem+json/examples").and_then(Value::as_object);
        let is_told_once = response["content"].as_object().is_some_and(|content| content.len() == 1);
        let Some(slug) = examples.filter(|_| is_told_once).filter(|e| e.len() == 1).and_then(|e| e.keys().next())
        else {
            continue;
        };
        let name = camel(slug);
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        shared.insert(name, std::mem::replace(response, reference));
    }
}

/// `not-found` as `NotFound`.
fn camel(slug: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or_default();
        first.to_uppercase() + rest
    };
    slug.split('-').map(capital).collect()
}

/// Writes the mark of headers that are always there as `OpenAPI` does.
fn mark_headers(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.remove(ALWAYS).is_some() {
                members.insert("required".to_owned(), Value::Bool(true));
            }
            members.values_mut().for_each(mark_headers);
        }
        Value::Array(elements) => elements.iter_mut().for_each(mark_headers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
