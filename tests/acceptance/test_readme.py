"""Turns the queries of README.md into answers, and compares them with those that it shows."""

import re

import duckdb
import pytest

import harness

README = (harness.ROOT / "README.md").read_text()
QUERY = re.compile(r"```sql\n(.*?)\n```(?:\n\n```text\n(.*?)\n```)?", re.S)


def shown(text):
    return [line.rstrip() for line in text.strip("\n").splitlines()]


@pytest.fixture(scope="module")
def con(home):
    """DuckDB over the demo lake and the imported one, made as README.md says."""
    folder = home / "readme"
    folder.mkdir()
    harness.run("demo", folder / "demo-lake", key=None).expect(0)
    objects = [line for line in README.splitlines() if line.startswith('{"id":')]
    assert objects, "expected an object to import in README.md"
    (folder / "new.ndjson").write_text("\n".join(objects))
    imported = folder / "imported"
    harness.run("import", "charges", folder / "new.ndjson", "--lake", imported, key=None).expect(0)
    with duckdb.connect() as con:
        con.execute((folder / "demo-lake/_stripelake/views.sql").read_text())
        con.execute(f"set file_search_path = '{folder}'")
        yield con


def test_every_query_of_the_readme_answers_what_it_shows(con):
    blocks = QUERY.findall(README)
    assert len(blocks) > 5, "expected queries in README.md"
    for query, answer in blocks:
        if answer:
            got = shown(str(con.sql(query)))
            assert got == shown(answer), f"{query}\n" + "\n".join(got)
        else:
            con.execute(query)


def test_the_readme_lists_every_exit_code_and_permission():
    helped = harness.run("--help", key=None).expect(0).out
    codes = re.findall(r"\b([\d/]+) [a-z]", helped.split("Exit codes:")[1])
    for code in [c for pair in codes for c in pair.split("/")]:
        assert re.search(rf"^\|[ 0-9,]*\b{code}\b", README, re.M), f"exit code {code} is not in README.md"
    for permission in set(re.findall(r"rak_\w+", harness.run("resources", key=None).expect(0).out)):
        assert README.count(permission) >= 2, f"{permission} is not in README.md's table and link"
