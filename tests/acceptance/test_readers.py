"""Turns the lake into pyarrow and Polars tables, which must see what DuckDB sees."""

import datetime
import json
import pathlib
import time

import polars
import pyarrow as arrow
import pyarrow.dataset
import pyarrow.parquet as parquet
import pytest

import duck
import harness


def dataset(lake, table):
    """A hive dataset whose partition column is a date, as DuckDB infers it."""
    column = next((lake / table).glob("created_*=*")).name.split("=")[0]
    hive = arrow.dataset.partitioning(arrow.schema([(column, arrow.date32())]), flavor="hive")
    return arrow.dataset.dataset(lake / table, format="parquet", partitioning=hive)


@pytest.mark.parametrize("table", harness.TABLES)
def test_every_file_of_a_table_has_the_same_schema(lake, table):
    files = duck.files(lake, table)
    first = parquet.read_schema(files[0])
    for file in files[1:]:
        assert parquet.read_schema(file).equals(first), f"{file} has another schema than {files[0]}"


@pytest.mark.parametrize("table", harness.TABLES)
def test_pyarrow_sees_the_rows_and_columns_that_duckdb_sees(lake, con, table):
    data = dataset(lake, table)
    assert sorted(data.schema.names) == sorted(duck.types(con, table))
    assert data.count_rows() == con.execute(f"select count(*) from {table}").fetchone()[0]


@pytest.mark.parametrize("table", harness.TABLES)
def test_polars_sees_the_rows_and_columns_that_duckdb_sees(lake, con, table):
    frame = polars.scan_parquet(duck.glob(lake, table), hive_partitioning=True, try_parse_hive_dates=True)
    assert sorted(frame.collect_schema().names()) == sorted(duck.types(con, table))
    ids = frame.select("id").collect()["id"]
    assert len(ids) == ids.n_unique() == con.execute(f"select count(*) from {table}").fetchone()[0]


def test_three_readers_agree_on_sums_and_times(lake, con):
    query = "select sum(amount)::bigint, epoch(min(created))::bigint, epoch(max(created))::bigint from charges"
    expected = con.execute(query).fetchone()
    table = dataset(lake, "charges").to_table(columns=["amount", "created"])
    seconds = [t.timestamp() for t in table["created"].to_pylist()]
    assert (sum(table["amount"].to_pylist()), int(min(seconds)), int(max(seconds))) == expected
    frame = polars.read_parquet(duck.glob(lake, "charges"), columns=["amount", "created"])
    times = frame["created"].dt.epoch("s")
    assert (frame["amount"].sum(), times.min(), times.max()) == expected


def test_arrow_types_are_the_documented_ones(lake):
    schema = dataset(lake, "prices").schema
    assert schema.field("unit_amount_decimal").type == arrow.decimal128(38, 12)
    assert schema.field("created").type == arrow.timestamp("us", tz="UTC")
    assert schema.field("unit_amount").type == arrow.int64()
    metadata = schema.field("metadata").type
    assert arrow.types.is_map(metadata) and metadata.key_type == metadata.item_type == arrow.string()


def test_a_field_carries_the_json_path_it_came_from(lake):
    schema = parquet.read_schema(duck.files(lake, "charges")[0])
    values = (schema.field("billing_details_address_city").metadata or {}).values()
    assert b"billing_details.address.city" in values, f"field metadata: {list(values)}"


def test_pyarrow_and_polars_prune_by_partition(lake, con):
    column = next(name for name in duck.types(con, "charges") if name.startswith("created_"))
    value, n_rows = con.execute(f"select {column}, count(*) from charges group by 1 order by 1 limit 1").fetchone()
    assert isinstance(value, datetime.date)
    condition = arrow.dataset.field(column) == arrow.scalar(value, arrow.date32())
    fragments = list(dataset(lake, "charges").get_fragments(condition))
    assert len(fragments) == 1 and fragments[0].count_rows() == n_rows
    frame = polars.scan_parquet(duck.glob(lake, "charges"), hive_partitioning=True, try_parse_hive_dates=True)
    assert frame.filter(polars.col(column) == value).select(polars.len()).collect().item() == n_rows


@pytest.fixture(scope="module")
def versions(fake, home):
    """Four versions of one file, each with a few rows more among those of the one before."""
    charges = fake.all("charges")
    year = max(time.gmtime(charge["created"]).tm_year for charge in charges)
    charges = [charge for charge in charges if time.gmtime(charge["created"]).tm_year == year]
    found = []
    for n in range(4):
        lines = home / f"versions-{n}.ndjson"
        lines.write_text("".join(json.dumps(c) + "\n" for at, c in enumerate(charges) if at % 4 <= n))
        harness.run("import", "charges", lines, "--lake", home / "versions", key=None).expect(0)
        (file,) = duck.files(home / "versions", "charges")
        found.append(pathlib.Path(file).read_bytes())
    return found


def duckdb_ids(file):
    with duck.connect() as con:
        return con.execute(f"select id from read_parquet({duck.quoted(file)})").fetchall()


@pytest.mark.parametrize(
    "read_ids",
    [duckdb_ids, lambda file: polars.read_parquet(file, columns=["id"]), lambda file: parquet.read_table(file, columns=["id"])],
    ids=["duckdb", "polars", "pyarrow"],
)
def test_a_reader_that_meets_another_version_behind_the_footer_of_a_file_fails_loudly(versions, tmp_path, read_ids):
    """It opens the file twice, or reads it in pieces: it has the footer of one version and takes pages of the other."""
    file = tmp_path / "charges.parquet"
    for old in versions:
        for new in versions:
            begin = len(old) - 8 - int.from_bytes(old[-8:-4], "little")
            file.write_bytes(new[:begin].ljust(begin, b"\0") + old[begin:])
            if old is new:
                assert len(read_ids(file)) > 100
                continue
            # PanicException of Polars is no Exception.
            with pytest.raises(BaseException) as error:
                read_ids(file)
            assert not isinstance(error.value, (KeyboardInterrupt, SystemExit))
