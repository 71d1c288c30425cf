//! Removes nulls that a structural schema does not allow.
//!
//! A dump may have `field: null` for an absent field. For custom resources an API server rejects that
//! unless the field is nullable; then the null has a meaning and stays.

use serde_json::{Map, Value};

/// Removes every null, at any depth.
pub fn drop_all(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null());
    for value in map.values_mut() {
        match value {
            Value::Object(inner) => drop_all(inner),
            Value::Array(items) => items
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(drop_all),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Removes the nulls below `value` whose field is in `schema` and not nullable.
pub fn drop_forbidden(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let Some(schema) = property(schema, key) else {
                    return true;
                };
                if value.is_null() {
                    return schema["nullable"].as_bool().unwrap_or(false);
                }
                drop_forbidden(value, schema);
                true
            });
        }
        Value::Array(items) => {
            for item in items {
                drop_forbidden(item, &schema["items"]);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let known = schema["properties"].get(key);
    known.or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|any| any.is_object())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_null_stays_only_where_the_schema_allows_it() {
        let schema = json!({"properties": {
            "may": {"nullable": true, "type": "array"},
            "not": {"type": "string"},
            "list": {"items": {"properties": {"not": {"type": "string"}}}},
        }});
        let mut value =
            json!({"may": null, "not": null, "free": null, "list": [{"not": null, "x": 1}]});
        drop_forbidden(&mut value, &schema);
        assert_eq!(
            value,
            json!({"may": null, "free": null, "list": [{"x": 1}]})
        );
    }
}
