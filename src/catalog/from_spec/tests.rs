//! Turns a small OpenAPI document into catalog files.

use super::*;
use crate::catalog::Catalog;
use crate::error::Kind;

/// Shops with one member of each shape that Stripe's document has.
const SPEC: &str = r##"{
        "paths": {
            "/v1/mall/shops": {"get": {
                "parameters": [{"name": "created", "required": false}, {"name": "limit", "required": false}],
                "responses": {"200": {"content": {"application/json": {"schema": {"properties": {
                    "data": {"type": "array", "items": {"$ref": "#/components/schemas/shop"}}}}}}}}}},
            "/v1/shelves": {"get": {
                "parameters": [{"name": "shop", "required": true}],
                "responses": {"200": {"content": {"application/json": {"schema": {"properties": {
                    "data": {"type": "array", "items": {"$ref": "#/components/schemas/address"}}}}}}}}}},
            "/v1/webhook_endpoints": {"post": {"requestBody": {"content": {
                "application/x-www-form-urlencoded": {"schema": {"properties": {"enabled_events": {"items": {
                    "enum": ["*", "shop.updated", "shop.created", "shop.shelf.moved", "shopping.done"]}}}}}}}}}
        },
        "components": {"schemas": {
            "deleted_shop": {"type": "object", "properties": {"deleted": {"type": "boolean"}}},
            "address": {"type": "object", "properties": {"city": {"type": "string"}, "object": {"type": "string", "enum": ["address"]}}},
            "owner": {"type": "object", "x-resourceId": "owner", "properties": {"id": {"type": "string"}}},
            "fee": {"type": "object", "properties": {"type": {"type": "string"}, "amount": {"type": "integer"},
                "tax": {"nullable": true, "anyOf": [{"$ref": "#/components/schemas/tax"}]}}},
            "tax": {"type": "object", "properties": {"rate": {"type": "number"}}},
            "clerk": {"type": "object", "properties": {"owner": {"$ref": "#/components/schemas/owner"}}},
            "shop": {"type": "object", "properties": {
                "object": {"type": "string", "enum": ["shop"]},
                "id": {"type": "string"},
                "created": {"type": "integer"},
                "opened": {"type": "integer", "format": "unix-time"},
                "amount": {"type": "integer"},
                "rate": {"type": "number"},
                "price": {"type": "string", "format": "decimal"},
                "open": {"type": "boolean"},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                "stock": {"type": "object", "additionalProperties": {"type": "integer"}},
                "empty": {"type": "object", "properties": {}},
                "address": {"nullable": true, "anyOf": [{"$ref": "#/components/schemas/address"}, {"enum": [""], "type": "string"}]},
                "head": {"$ref": "#/components/schemas/shop"},
                "owner": {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/owner"}],
                    "x-expansionResources": {"oneOf": [{"$ref": "#/components/schemas/owner"}]}},
                "owners": {"type": "array", "items": {"anyOf": [{"type": "string"}], "x-expansionResources": {"oneOf": []}}},
                "tags": {"type": "array", "items": {"type": "string"}},
                "counts": {"type": "array", "items": {"type": "integer"}},
                "fees": {"type": "array", "items": {"$ref": "#/components/schemas/fee"}},
                "clerks": {"type": "array", "items": {"$ref": "#/components/schemas/clerk"}},
                "either": {"anyOf": [{"$ref": "#/components/schemas/fee"}, {"$ref": "#/components/schemas/tax"}]},
                "shelves": {"type": "object", "properties": {"data": {"type": "array"}, "has_more": {"type": "boolean"}}},
                "details": {"type": "object", "properties": {
                    "type": {"type": "string"},
                    "card": {"type": "object", "properties": {"brand": {"type": "string"}}},
                    "cash": {"type": "object", "properties": {"drawer": {"type": "string"}}},
                    "coin": {"type": "object", "properties": {}}}}}}
        }}
    }"##;

const COLUMNS: &str = r#"
"address.city"                           = "text"
"address.object"                         = "text"
"amount"                                 = "int64"
"clerks"                                 = "json"
"counts"                                 = "json"
"created"                                = "timestamp"
"details.card.brand"                     = "text"
"details.cash.drawer"                    = "text"
"details.coin"                           = "json"
"details.type"                           = "text"
"either"                                 = "json"
"empty"                                  = "json"
"fees"                                   = "list<{amount: int64, tax.rate: float64, type: text}>"
"head"                                   = "json"
"id"                                     = "text"
"metadata"                               = "map"
"object"                                 = "text"
"open"                                   = "bool"
"opened"                                 = "timestamp"
"owner"                                  = "ref"
"owners"                                 = "list<ref>"
"price"                                  = "decimal"
"rate"                                   = "float64"
"stock"                                  = "json"
"tags"                                   = "list<text>"
"#;

const HEAD: &str = r#"# shop: https://docs.stripe.com/api/mall_shops
object = "shop"
path = "/v1/mall/shops"
created_filter = true
deletable = true
events = [
    "shop.created",
    "shop.updated",
]
passes = [{}]
partition_by = "created"

"#;

fn check_usage_error(existing: Option<&str>, name: &str, expected: &str) {
    let error = regenerate(existing, SPEC, name).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::Usage, expected.to_owned()));
}

#[test]
fn a_resource_without_a_file_gets_one_that_loads() {
    let text = regenerate(None, SPEC, "mall_shops").unwrap();
    assert_eq!(text, format!("{HEAD}{COLUMNS_LINE}{COLUMNS}"));
    let common = ("catalog.toml", "stripe_version = \"2026-01-01.test\"");
    Catalog::parse(common, &[("mall_shops.toml", &text)]).unwrap();
}

#[test]
fn an_existing_head_stays_byte_for_byte_and_a_second_run_changes_nothing() {
    let head =
        "# by hand  \n\npath   = '/v1/mall/shops'\nunknown = 1\n\n[legacy]\n\"x\" = \"ref\" # why\n\n\n";
    let old = format!("{head}[columns]\n\"gone\" = \"text\"\n");
    let once = regenerate(Some(&old), SPEC, "shops").unwrap();
    assert_eq!(once, format!("{head}{COLUMNS_LINE}{COLUMNS}"));
    assert_eq!(regenerate(Some(&once), SPEC, "shops").unwrap(), once);
}

#[test]
fn a_union_is_cut_to_its_chosen_variants() {
    let union = |variants: &str| {
        let old = format!("path = \"/v1/mall/shops\"\n[unions]\n\"details\" = {variants}\n[columns]\n");
        let text = regenerate(Some(&old), SPEC, "shops").unwrap();
        let of_union = text.lines().filter_map(|line| line.strip_prefix("\"details."));
        of_union.map(|line| line.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(union("[\"card\", \"coin\"]"), ["*", "card.brand", "coin", "type"]);
    assert_eq!(union("[]"), ["*", "type"]);
    assert_eq!(union("[\"*\"]"), ["*", "card.brand", "cash.drawer", "coin", "type"]);
}

#[test]
fn a_legacy_member_wins_over_the_specification() {
    let old =
        "path = \"/v1/mall/shops\"\n[legacy]\n\"owner\" = \"json\"\n\"address\" = \"json\"\n[columns]\n";
    let text = regenerate(Some(old), SPEC, "shops").unwrap();
    let columns = text.split(COLUMNS_LINE).nth(1).unwrap();
    assert!(!columns.contains("\"owner\"") && !columns.contains("address"));
    assert!(columns.contains("\"owners\""));
}

#[test]
fn what_the_specification_lacks_is_a_usage_error() {
    check_usage_error(None, "malls", "expected a list endpoint for malls in the specification, got none");
    check_usage_error(None, "shelves", "expected /v1/shelves to list everything, got one list per shop");
    let shop = |rest: &str| format!("path = \"/v1/mall/shops\"\n{rest}\n[columns]\n");
    let old = shop("[unions]\n\"detail\" = []");
    check_usage_error(Some(&old), "shops", "expected the union detail in the specification, got none");
    let old = shop("[unions]\n\"details\" = [\"crad\"]");
    check_usage_error(Some(&old), "shops", "expected a member of details, got variant \"crad\"");
    let old = "path = \"/v1/malls\"\n[columns]\n";
    check_usage_error(Some(old), "shops", "expected a list at /v1/malls in the specification, got none");
}

#[test]
fn a_file_that_would_lose_a_table_is_refused() {
    let old = "path = \"/v1/mall/shops\"\n[columns]\n[legacy]\n";
    let error = regenerate(Some(old), SPEC, "shops").unwrap_err();
    assert_eq!(error.to_string(), "shops.toml:3: expected [columns] to be the last table, got [legacy]");
    let error = regenerate(Some("path = \"\"\n"), SPEC, "shops").unwrap_err();
    assert_eq!(error.to_string(), "shops.toml:1: expected a table [columns], got none");
}
