//! Turns small catalogs, right and wrong, into what the loader must say about them.

use super::*;
use crate::error::Kind;

const COMMON_TEXT: (&str, &str) = ("catalog.toml", "stripe_version = \"2026-01-01.test\"\n");

const SHOPS: &str = r#"object = "shop"
path = "/v1/shops"
created_filter = true
deletable = false
events = ["shop.opened"]
passes = [{ open = "true" }, { open = "false" }]
partition_by = "created"

[unions]
"details" = ["card"]

[legacy]
"owner" = "ref"

[columns]
"address.city" = "text"
"created" = "timestamp"
"details.*" = "json"
"details.card.brand" = "text"
"fees" = "list<{tax.amount: int64, amount: int64}>"
"id" = "text"
"object" = "text"
"#;

const SHELVES: &str = r#"object = "shelf"
path = "/v1/shelves"
created_filter = false
deletable = true
events = []

[parent]
resource = "shops"
path = "interior.shelves"
key = "shop"

[columns]
"id" = "text"
"livemode" = "bool"
"shop" = "text"
"#;

fn parse(shops: &str, shelves: &str) -> Result<Catalog> {
    Catalog::parse(COMMON_TEXT, &[("shops.toml", shops), ("shelves.toml", shelves)])
}

/// Breaks one line of the shops' file and expects the loader's words.
fn check_shops_fault(from: &str, to: &str, expected: &str) {
    assert!(SHOPS.contains(from), "the file has no {from}");
    check_fault(&SHOPS.replace(from, to), SHELVES, expected);
}

fn check_shelves_fault(from: &str, to: &str, expected: &str) {
    assert!(SHELVES.contains(from), "the file has no {from}");
    check_fault(SHOPS, &SHELVES.replace(from, to), expected);
}

fn check_fault(shops: &str, shelves: &str, expected: &str) {
    let error = parse(shops, shelves).expect_err("the catalog is wrong");
    assert_eq!(error.kind(), Kind::Bug);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_embedded_catalog_loads() {
    let catalog = Catalog::embedded().unwrap();
    assert!(catalog.stripe_version.starts_with("20"));
    assert_eq!(catalog.listed().count(), 6);
    for resource in &catalog.resources {
        let names: Vec<&str> = resource.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names[..3], ["id", "object", "created"], "{}", resource.name);
        assert!(names.contains(&"livemode"), "{}", resource.name);
        assert!(resource.has_created, "{}", resource.name);
    }
}

#[test]
fn a_file_becomes_a_resource() {
    let catalog = parse(SHOPS, SHELVES).unwrap();
    let shops = catalog.get("shops").unwrap();
    assert_eq!(catalog.stripe_version, "2026-01-01.test");
    assert_eq!(shops.docs, "https://docs.stripe.com/api/shops");
    assert_eq!(shops.events, ["shop.opened"]);
    let pass = |open: &str| vec![("open".to_owned(), open.to_owned())];
    assert_eq!(shops.passes, [pass("true"), pass("false")]);
    assert!(shops.has_created && shops.parent.is_none() && shops.permission.is_none());
}

#[test]
fn columns_are_id_object_created_and_then_sorted_by_path() {
    let catalog = parse(SHOPS, SHELVES).unwrap();
    let mut lines = Vec::new();
    for column in &catalog.get("shops").unwrap().columns {
        lines.push(format!("{} {} {}", column.name, column.path.join("."), column.kind));
    }
    let expected = [
        "id id text",
        "object object text",
        "created created timestamp",
        "address_city address.city text",
        "details_other details json",
        "details_card_brand details.card.brand text",
        "fees fees list<{amount: int64, tax.amount: int64}>",
        "livemode livemode bool",
        "owner owner ref",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_child_is_found_from_its_parent_and_is_not_listed() {
    let catalog = parse(SHOPS, SHELVES).unwrap();
    let listed: Vec<&str> = catalog.listed().map(|r| r.name.as_str()).collect();
    let children: Vec<&str> = catalog.children_of("shops").map(|r| r.name.as_str()).collect();
    assert_eq!((listed, children), (vec!["shops"], vec!["shelves"]));
    let shelves = catalog.get("shelves").unwrap();
    let parent = shelves.parent.as_ref().unwrap();
    assert_eq!((parent.path.join("."), &*parent.key), ("interior.shelves".into(), "shop"));
    assert_eq!(shelves.passes, [vec![]]);
    assert!(!shelves.has_created);
}

#[test]
fn an_unknown_resource_is_answered_with_the_nearest_and_all() {
    let catalog = Catalog::embedded().unwrap();
    let error = catalog.resolve("charge").unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(error.to_string(), "expected a resource, got \"charge\"; did you mean \"charges\"?");
    assert!(error.hint_text().unwrap().contains("balance_transactions, charges, customers"));
    let error = catalog.resolve("xyz").unwrap_err();
    assert_eq!(error.to_string(), "expected a resource, got \"xyz\"");
    assert_eq!(catalog.resolve("charges").unwrap().object, "charge");
}

#[test]
fn an_unknown_type_is_found_with_its_line() {
    check_shops_fault(
        "\"owner\" = \"ref\"",
        "\"owner\" = \"refs\"",
        "shops.toml:13: expected a type, got \"refs\"",
    );
    check_shops_fault(
        "amount: int64}>",
        "amount}>",
        "shops.toml:20: expected \"member: type\", got \"amount\"",
    );
    check_shops_fault(
        "\"details.*\" = \"json\"",
        "\"details.*\" = \"text\"",
        "shops.toml:18: expected type json for details.*, got text",
    );
}

#[test]
fn an_unknown_key_is_found_with_its_line() {
    let error = parse(&SHOPS.replace("deletable", "deleteable"), SHELVES).unwrap_err().to_string();
    assert!(error.starts_with("shops.toml:4: unknown field `deleteable`"), "{error}");
    let error = parse(SHOPS, &SHELVES.replace("key =", "keys =")).unwrap_err().to_string();
    assert!(error.starts_with("shelves.toml:10: unknown field `keys`"), "{error}");
}

#[test]
fn a_missing_key_is_found() {
    check_shops_fault("object = \"shop\"\n", "", "shops.toml:1: missing field `object`");
    check_shops_fault("[columns]", "[legacy.columns]", "shops.toml:15: invalid type: map, expected a string");
    let passes = "passes = [{ open = \"true\" }, { open = \"false\" }]\n";
    check_shops_fault(passes, "", "shops.toml:1: missing field `passes`");
    check_shops_fault(passes, "passes = []\n", "shops.toml:1: expected at least one pass, got none");
    let error = Catalog::parse(("catalog.toml", ""), &[]).unwrap_err();
    assert_eq!(error.to_string(), "catalog.toml:1: missing field `stripe_version`");
}

#[test]
fn a_path_that_stands_twice_is_found_with_its_line() {
    check_shops_fault(
        "\"object\" = \"text\"",
        "\"owner\" = \"text\"",
        "shops.toml:22: expected each path once, got owner twice",
    );
    let error = parse(&SHOPS.replace("\"object\" =", "\"id\" ="), SHELVES).unwrap_err();
    assert!(error.to_string().starts_with("shops.toml:22: duplicate key"), "{error}");
}

#[test]
fn two_paths_with_one_column_name_are_found_with_their_line() {
    check_shops_fault(
        "\"owner\" =",
        "\"address_city\" =",
        "shops.toml:16: expected one path per column name, got address.city and address_city for address_city",
    );
    check_shops_fault(
        "\"owner\" =",
        "\"details_other\" =",
        "shops.toml:18: expected one path per column name, got details.* and details_other for details_other",
    );
    check_shops_fault(
        "{tax.amount:",
        "{amount_:int64, amount.:",
        "shops.toml:20: expected names of a-z, 0-9 and _, got \"amount.\"",
    );
    check_shops_fault("{tax.amount:", "{amount:", "shops.toml:20: expected each path once, got amount twice");
}

#[test]
fn a_column_with_the_name_of_a_system_column_is_found_with_its_line() {
    check_shops_fault(
        "\"owner\" =",
        "\"_deleted\" =",
        "shops.toml:13: expected one path per column name, got _deleted and a system column for _deleted",
    );
}

#[test]
fn a_name_that_is_not_lowercase_is_found_with_its_line() {
    for name in ["Owner", "own-er", "owner.", "", "öwner"] {
        check_shops_fault(
            "\"owner\" =",
            &format!("\"{name}\" ="),
            &format!("shops.toml:13: expected names of a-z, 0-9 and _, got \"{name}\""),
        );
    }
}

#[test]
fn a_path_below_a_path_with_a_column_is_found_with_its_line() {
    check_shops_fault(
        "\"owner\" =",
        "\"address\" =",
        "shops.toml:16: expected nothing below address, which has a column, got address.city",
    );
    check_shops_fault(
        "\"owner\" =",
        "\"details\" =",
        "shops.toml:18: expected nothing below details, which has a column, got details.*",
    );
    check_shops_fault(
        "{tax.amount:",
        "{amount.tax:",
        "shops.toml:20: expected nothing below amount, which has a column, got amount.tax",
    );
}

#[test]
fn a_union_without_a_column_for_its_other_variants_is_found_with_its_line() {
    check_shops_fault(
        "\"details.*\" = \"json\"\n",
        "",
        "shops.toml:10: expected a column details.* for this union, got none",
    );
}

#[test]
fn a_resource_without_id_is_found() {
    let expected = "shops.toml:1: expected a column id of type text, got none";
    check_shops_fault("\"id\" = \"text\"\n", "", expected);
    check_shops_fault("\"id\" = \"text\"\n", "\"id\" = \"int64\"\n", expected);
}

#[test]
fn a_partition_that_the_columns_contradict_is_found() {
    check_shops_fault(
        "partition_by = \"created\"",
        "partition_by = \"date\"",
        "shops.toml:7: expected partition_by = \"created\", got \"date\"",
    );
    check_shops_fault(
        "partition_by = \"created\"\n",
        "",
        "shops.toml:1: missing field `partition_by`: the list has a timestamp created",
    );
    check_shops_fault(
        "\"created\" = \"timestamp\"\n",
        "",
        "shops.toml:7: expected no partition_by without a list and a timestamp created",
    );
}

#[test]
fn a_parent_that_does_not_fit_is_found_with_its_line() {
    check_shelves_fault(
        "\"shops\"",
        "\"malls\"",
        "shelves.toml:7: expected the parent to be a resource, got \"malls\"",
    );
    check_shelves_fault(
        "\"shops\"",
        "\"shelves\"",
        "shelves.toml:7: expected a parent with a list of its own, got \"shelves\"",
    );
    check_shelves_fault(
        "key = \"shop\"",
        "key = \"mall\"",
        "shelves.toml:7: expected the key to be a column, got \"mall\"",
    );
    check_shelves_fault(
        "path = \"interior.shelves\"",
        "path = \"address\"",
        "shelves.toml:7: expected address to hold the child's rows only, got column address_city of shops",
    );
    check_shelves_fault(
        "events = []",
        "events = []\npasses = [{}]",
        "shelves.toml:1: expected no passes beside [parent]",
    );
}
