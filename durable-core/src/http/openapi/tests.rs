//! The document is OpenAPI 3.1, and describes the table of routes: no more, no less.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::route::{EVERYWHERE, Line, TABLE};
use super::document;

fn read() -> Value {
    serde_json::from_str(&document("https://example.org/durable")).unwrap()
}

/// What is behind a reference; the thing itself where there is none.
fn resolved<'a>(whole: &'a Value, part: &'a Value) -> &'a Value {
    let Some(reference) = part.get("$ref") else { return part };
    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
    whole.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere"))
}

fn members(of: &Value) -> impl Iterator<Item = (&str, &Value)> {
    of.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn items(of: &Value) -> &[Value] {
    of.as_array().map_or(&[], Vec::as_slice)
}

fn text(of: &Value) -> &str {
    of.as_str().unwrap_or_else(|| panic!("no text: {of}"))
}

/// Every operation: its path, its method, itself, and the parameters of its path and its own.
fn operations(whole: &Value) -> Vec<(&str, &str, &Value, Vec<&Value>)> {
    let mut found = Vec::new();
    for (path, item) in members(&whole["paths"]) {
        for (method, operation) in members(item).filter(|(name, _)| *name != "parameters") {
            let parameters =
                items(&item["parameters"]).iter().chain(items(&operation["parameters"]));
            let parameters = parameters.map(|part| resolved(whole, part)).collect();
            found.push((path, method, operation, parameters));
        }
    }
    found
}

/// The names of those that stand there.
fn names<'a>(parameters: &[&'a Value], place: &str) -> BTreeSet<&'a str> {
    parameters.iter().filter(|of| of["in"] == place).map(|of| text(&of["name"])).collect()
}

/// Any verb is documented as POST.
fn method(line: &Line) -> String {
    line.verb.unwrap_or("POST").to_lowercase()
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let whole = read();
    let described: BTreeSet<_> =
        operations(&whole).iter().map(|(path, method, ..)| format!("{method} {path}")).collect();
    let there: BTreeSet<_> =
        TABLE.iter().map(|line| format!("{} {}", method(line), line.path)).collect();
    assert_eq!(described, there);
}

#[test]
fn every_parameter_that_is_read_is_described_and_no_other() {
    let whole = read();
    for (path, verb, operation, parameters) in operations(&whole) {
        let line = TABLE.iter().find(|line| line.path == path && method(line) == verb).unwrap();
        let mut described = names(&parameters, "query");
        let schemes = operation.get("security").unwrap_or(&whole["security"]);
        for scheme in items(schemes).iter().flat_map(members) {
            let scheme = &whole["components"]["securitySchemes"][scheme.0];
            described.extend((scheme["in"] == "query").then(|| text(&scheme["name"])));
        }
        let mut read: BTreeSet<_> = line.parameters.iter().chain(&EVERYWHERE).copied().collect();
        // A token opens what is done with one instance.
        if !path.starts_with("/instances/{instanceId}") {
            read.remove("token");
        }
        assert_eq!(described, read, "{verb} {path}");
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(names(&parameters, "path"), in_path.collect(), "{verb} {path}");
    }
}

#[test]
fn it_is_a_document_of_openapi_3_1() {
    let whole = read();
    assert_eq!(whole["openapi"], "3.1.1");
    assert_eq!(whole["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&whole["servers"][0]["url"]), "https://example.org/durable");
    let known = ["openapi", "info", "servers", "security", "paths", "components"];
    assert!(members(&whole).all(|(name, _)| known.contains(&name)));
    let mut ids = BTreeSet::new();
    for (path, method, operation, parameters) in operations(&whole) {
        let case = format!("{method} {path}");
        assert!(path.starts_with('/') && !path.ends_with('/'), "{case}");
        assert!(
            ["get", "put", "post", "delete", "options", "head", "patch", "trace"].contains(&method)
        );
        assert!(ids.insert(text(&operation["operationId"])), "{case}");
        let mut seen = BTreeSet::new();
        for parameter in parameters {
            let place = text(&parameter["in"]);
            assert!(seen.insert((text(&parameter["name"]), place)), "{case}: twice {parameter}");
            assert!(["path", "query", "header"].contains(&place), "{case}: {parameter}");
            assert!(place != "path" || parameter["required"] == true, "{case}: {parameter}");
            assert!(parameter["schema"].is_object(), "{case}: {parameter}");
        }
        for (name, requirement) in items(&operation["security"]).iter().flat_map(members) {
            assert!(whole["components"]["securitySchemes"][name].is_object(), "{case}: {name}");
            assert_eq!(requirement, &serde_json::json!([]), "{case}: {name}");
        }
        if let Some(body) = operation.get("requestBody") {
            assert!(body["content"]["application/json"]["schema"].is_object(), "{case}");
        }
        assert!(members(&operation["responses"]).count() > 0, "{case}");
        for (status, response) in members(&operation["responses"]) {
            let response = resolved(&whole, response);
            assert!((200..600).contains(&status.parse::<u16>().unwrap()), "{case} {status}");
            assert!(!text(&response["description"]).is_empty(), "{case} {status}");
            for (_, content) in members(&response["content"]) {
                assert!(content["schema"].is_object(), "{case} {status}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    fn references<'a>(part: &'a Value, found: &mut BTreeSet<&'a str>) {
        match part {
            Value::Object(object) => {
                found.extend(object.get("$ref").map(text));
                object.values().for_each(|part| references(part, found));
            }
            Value::Array(items) => items.iter().for_each(|part| references(part, found)),
            _ => {}
        }
    }
    let whole = read();
    let mut used = BTreeSet::new();
    references(&whole, &mut used);
    let mut there = BTreeSet::new();
    for kind in ["parameters", "responses", "schemas"] {
        let components = members(&whole["components"][kind]);
        there.extend(components.map(|(name, _)| format!("#/components/{kind}/{name}")));
    }
    assert_eq!(used.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), there);
}

#[test]
fn what_stands_in_the_base_is_text() {
    let whole: Value = serde_json::from_str(&document("http://localhost/a\"b\\{base}")).unwrap();
    assert_eq!(whole["servers"][0]["url"], "http://localhost/a\"b\\{base}");
}
