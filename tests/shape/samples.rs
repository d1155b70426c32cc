//! Turns the published sample objects into rows, and expects a column for every member.

use arrow::array::Array;
use stripelake::decode::Options;
use stripelake::decode::findings::Findings;

use crate::decoders::{OBSERVED_AT, for_each_decoder};
use crate::json::parse;
use crate::objects::catalog;
use crate::rebuild::{assert_same, object_of, sent};

fn check_sample(name: &str, sample: &str) {
    let catalog = catalog();
    let resource = catalog.resources.iter().find(|r| r.object == name).unwrap();
    let children: Vec<_> = catalog.children_of(&resource.name).cloned().collect();
    for_each_decoder(|make| {
        let mut decoder = make(resource, &children, Options::default());
        let pushed = decoder.push_objects(sample.as_bytes(), OBSERVED_AT).unwrap();
        assert_eq!((pushed.n_rows, pushed.rejected), (1, vec![]));
        let decoded = decoder.flush();
        assert_eq!(decoded.findings, Findings::default());
        for batch in decoded.parent.iter().chain(decoded.children.iter().flatten()) {
            assert_eq!(batch.column_by_name("_extra").unwrap().null_count(), batch.num_rows());
        }
        let mut expected = parse(sample).unwrap();
        for child in &children {
            expected.remove(&child.parent.as_ref().unwrap().path);
        }
        let rebuilt = object_of(&decoded.parent.unwrap(), 0, resource);
        assert_same(&rebuilt, &sent(&expected, &resource.columns), name);
    });
}

#[test]
fn the_published_samples_have_a_column_for_every_member() {
    check_sample("balance_transaction", include_str!("../data/samples/balance_transaction.json"));
    check_sample("charge", include_str!("../data/samples/charge.json"));
    check_sample("customer", include_str!("../data/samples/customer.json"));
    check_sample("price", include_str!("../data/samples/price.json"));
    check_sample("refund", include_str!("../data/samples/refund.json"));
    check_sample("subscription", include_str!("../data/samples/subscription.json"));
}
