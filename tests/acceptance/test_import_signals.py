"""Turns signals at any stage of an import into its prompt end, from which the same command goes on."""

import fcntl
import json
import signal
import subprocess
import time

import pyarrow.parquet as parquet
import pytest

import duck
import harness
import objects

# A file a day: the commit has many moments in which a signal can come.
DAYS = 900


def started(*args, env=None, **options):
    command = [harness.binary(), "import", *args, "--progress", "none"]
    return subprocess.Popen(
        list(map(str, command)), env=harness.environment(None, **(env or {})), stderr=subprocess.PIPE, text=True, **options
    )


def ended(process, number):
    """What it says on stderr; its end comes soon."""
    process.send_signal(number)
    began = time.monotonic()
    said = process.communicate(timeout=30)[1]
    assert (process.returncode, time.monotonic() - began < 5) == (128 + number, True), said
    return said


@pytest.fixture(scope="module")
def charges(home):
    """A charge a day, and settings that give each day a file."""
    file, settings = home / "days.ndjson", home / "days.toml"
    charge = objects.generate("charges", 1, seed=5, hostile=False)[0]
    day = lambda n: charge | {"id": f"ch_{n}", "created": 1_700_000_000 + n * 86_400}
    file.write_text("".join(objects.encode(day(n)) + "\n" for n in range(DAYS)))
    settings.write_text('[resources.charges]\npartition = "day"\n')
    return file, settings


def test_an_import_that_waits_for_bytes_ends_at_a_signal(tmp_path):
    with started("charges", "-", "--lake", tmp_path / "lake", stdin=subprocess.PIPE) as process:
        time.sleep(1)
        said = ended(process, signal.SIGINT)
    assert "interrupted" in said and "unchanged" in said, said
    assert not (tmp_path / "lake/_stripelake/lake.json").exists()


def test_an_import_that_waits_for_the_lock_ends_at_a_signal(tmp_path, charges):
    lake = tmp_path / "lake"
    (lake / "_stripelake").mkdir(parents=True)
    with open(lake / "_stripelake/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = started("charges", charges[0], "--lake", lake, "--wait-lock", "1h")
        time.sleep(2)
        assert "interrupted" in ended(process, signal.SIGTERM)
    assert harness.tree(lake, "**/*.parquet") == {}


@pytest.mark.parametrize("where", ["a folder", "S3"])
def test_an_import_that_writes_ends_at_a_signal_and_gives_its_lock_back(seaweed, tmp_path, charges, where):
    file, settings = charges
    is_remote = where == "S3"
    lake, env = ("s3://lake/signalled", seaweed.env) if is_remote else (tmp_path / "lake", {})
    arguments = ["charges", file, "--lake", lake, "--config", settings]
    written = lambda: seaweed.list("signalled/charges") if is_remote else harness.tree(lake, "charges/**/*.parquet")
    process = started(*arguments, env=env)
    deadline = time.monotonic() + 60
    while not written() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    said = ended(process, signal.SIGTERM)
    assert "interrupted" in said and "partitions that were written are whole" in said and "the same command" in said, said
    assert 0 < len(written()) < DAYS, "the import was over before the signal came"
    harness.run("import", *arguments, key=None, env=env).expect(0)
    with duck.connect(seaweed if is_remote else None) as con:
        duck.views(con, lake, ["charges"])
        counts = con.execute("select count(*), count(distinct id) from charges").fetchone()
    assert counts == (DAYS, DAYS)


def test_an_import_that_began_before_the_account_was_known_says_whose_its_files_are(fake, tmp_path):
    lake = tmp_path / "lake"
    customers = fake.all("customers")
    with started("customers", "-", "--lake", lake, stdin=subprocess.PIPE) as process:
        time.sleep(1)
        harness.sync(fake, lake, "customers", key=fake.key).expect(0)
        # It was seen before the sync, which has not seen it.
        process.stdin.write(json.dumps(customers[0] | {"id": "cus_imported"}) + "\n")
        process.stdin.close()
        assert process.wait(30) == 0
    files = duck.files(lake, "customers")
    owners = {parquet.read_metadata(file).metadata[b"stripelake.account"].decode() for file in files}
    assert owners == {f"{fake.account} test"}
    with duck.connect() as con:
        source = f"read_parquet({duck.quoted(duck.glob(lake, 'customers'))})"
        assert con.execute(f"select count(*) from {source} where id = 'cus_imported'").fetchone() == (1,)
