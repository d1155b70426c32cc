//! Turns flipped bits in files of the lake into errors that name the file, and never into rows.

use object_store::ObjectStoreExt;
use object_store::path::Path;
use stripelake::error::Kind;

use crate::harness::{TestLake, account};
use crate::table::Table;

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_named_and_no_row_is_made_of_it() {
    let mut n_found = 0;
    for n in 0..60 {
        let table = Table::of(&account(41, 60));
        let lake = TestLake::new();
        lake.sync_with(lake.options_for(&["customers"]), table.clone()).await.unwrap();
        let (path, (whole, _)) = lake.parquet("customers").await.pop_first().unwrap();
        // The first column is the id; what follows is spread over the file.
        let at = if n < 30 { 50 + n * 20 } else { (n - 29) * (whole.len() - 12) / 31 };
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x10;
        lake.store.put(&Path::from(path.as_str()), damaged.clone().into()).await.unwrap();
        let report = lake.sync_with(lake.options_for(&["customers"]), table.clone()).await.unwrap();
        let files = lake.parquet("customers").await;
        match report.kind() {
            Some(Kind::Integrity) => {
                let (_, error) = &report.failures[0];
                assert!(error.to_string().contains(&path), "{at}: {error}");
                assert_eq!(files[&path].0, damaged, "{at}: the file is as it was");
                n_found += 1;
            }
            // In the footer, where it describes no rows.
            None => {
                lake.check_table_equals(&table, "customers").await;
                let n_rows = lake.rows("customers").await.len();
                assert_eq!(n_rows, table.list("customers").len(), "{at}: rows were made up");
            }
            kind => panic!("{at}: {kind:?} {:?}", report.failures),
        }
    }
    assert!(n_found > 30, "{n_found}");
}
