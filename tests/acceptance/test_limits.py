"""Turns limits of the system (threads, open files, rights, space for what waits) into errors that say which one to raise."""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile

import pytest

import harness
import objects

# Of nobody else: the system counts the threads of a user, and root's are not limited.
NOBODY = 54_321
IS_ROOT = os.getuid() == 0


def limited(*args, threads=None, files=None, is_nobody=False, env=None, key=None, timeout=30):
    """Runs the program under limits; it has to come to an end by itself and never panics."""

    def limit():
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if threads is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads))

    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_nobody else {}
    ended = subprocess.run(
        [harness.binary(), *map(str, args)],
        env=harness.environment(key, **(env or {})),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=timeout,
        preexec_fn=limit,
        **who,
    )
    assert "panicked" not in ended.stderr, ended.stderr
    return ended


@pytest.fixture
def shared(tmp_path):
    """A folder that every user may write; skips where another one cannot run the program."""
    if IS_ROOT and limited("--version", is_nobody=True).returncode:
        pytest.skip("another user cannot run the program here")
    with tempfile.TemporaryDirectory(prefix="stripelake-limits-") as folder:
        os.chmod(folder, 0o777)
        yield pathlib.Path(folder)


def commands(lake):
    """What builds a runtime."""
    sync = ["sync", "--lake", lake, "--api-base", "http://127.0.0.1:9", "--max-duration", "1s"]
    return [sync, ["import", "charges", "-", "--lake", lake], ["sql", "--lake", lake], ["demo", lake]]


def told(ended, hint):
    """It was the limit's fault, and the reader knows which one to raise."""
    assert ended.returncode == 6 and hint in ended.stderr and "this should not happen" not in ended.stderr, ended


# Root's own limit does not bind, so the program runs as somebody else; what another user runs already is not known.
@pytest.mark.parametrize("n", range(1, 9) if IS_ROOT else [1])
def test_too_few_threads_are_told_before_anything_begins(shared, n):
    for command in commands(shared / "lake"):
        told(limited(*command, threads=n, is_nobody=IS_ROOT, key=harness.KEY), "ulimit -u")
    assert not (shared / "lake").exists()


def test_a_run_that_the_threads_do_not_suffice_for_has_its_last_event(shared):
    sync = commands(shared / "lake")[0]
    ended = limited(*sync, "--json", threads=1, is_nobody=IS_ROOT, key=harness.KEY)
    end = json.loads(ended.stdout.splitlines()[-1])
    assert (end["event"], end["exit_code"]) == ("end", 6) and "ulimit -u" in end["failures"][0]["fix"], end


@pytest.mark.skipif(not IS_ROOT, reason="how many threads this user has already is not known")
def test_no_number_of_threads_makes_a_run_hang_or_panic(shared):
    codes = []
    for n in range(9, 60):
        ended = limited("sql", "--lake", shared, threads=n, is_nobody=True)
        if ended.returncode == 6 and "ulimit -u" not in ended.stderr:
            assert "expected a lake" in ended.stderr, ended
            codes.append(n)
    assert codes and codes == list(range(codes[0], 60)), codes


@pytest.mark.parametrize("n", range(5, 14))
def test_too_few_open_files_for_a_runtime_are_told(tmp_path, n):
    for command in commands(tmp_path / "lake"):
        told(limited(*command, files=n, key=harness.KEY), "ulimit -n")


def test_too_few_open_files_are_told_wherever_one_is_opened(fake, tmp_path):
    full = tmp_path / "full"
    harness.sync(fake, full, key=fake.key).expect(0)
    for n in range(14, 28, 2):
        for lake in [tmp_path / f"new{n}", full]:
            sync = ["sync", "--lake", lake, "--api-base", fake.url, "--rate", "unlimited", "--progress", "none"]
            ended = limited(*sync, files=n, key=fake.key, timeout=60)
            if ended.returncode:
                told(ended, "ulimit -n")
            for error in ended.stderr.split("error: ")[1:]:
                assert "(os error 24)" not in error or "ulimit -n" in error, ended
    harness.sync(fake, full, key=fake.key).expect(0)


@pytest.fixture(scope="module")
def charges(home):
    """More than fits into 8 MB."""
    file = home / "spilled.ndjson"
    some = objects.generate("charges", 1_000, hostile=False)
    file.write_text("".join(objects.encode(one | {"id": f"{one['id']}{n}"}) + "\n" for n in range(20) for one in some))
    return file


def test_a_folder_for_what_waits_that_is_not_there_is_named(charges, tmp_path):
    for folder in [tmp_path / "gone", "/proc"]:
        env = {"TMPDIR": str(folder)}
        ended = limited("import", "charges", charges, "--lake", tmp_path / "lake", "--memory", 8, env=env)
        assert ended.returncode == 6 and str(folder) in ended.stderr and "set TMPDIR" in ended.stderr, ended
        assert "free space" not in ended.stderr, ended


def one_charge(lake):
    """A lake with one partition file; returns that and what to import once more."""
    file = lake.parent / "one.ndjson"
    file.write_text(objects.encode(objects.generate("charges", 1, hostile=False)[0]) + "\n")
    harness.run("import", "charges", file, "--lake", lake, key=None).expect(0)
    return next(lake.glob("charges/**/*.parquet")), file


def test_a_file_that_may_not_be_read_says_so(shared):
    lake = shared / "lake"
    file, again = one_charge(lake)
    if IS_ROOT:
        for path in [lake, *lake.rglob("*"), again]:
            shutil.chown(path, NOBODY, NOBODY)
    file.chmod(0)
    ended = limited("import", "charges", again, "--lake", lake, is_nobody=IS_ROOT)
    assert ended.returncode == 6 and str(file) in ended.stderr and "let this user read" in ended.stderr, ended
    assert "writable" not in ended.stderr, ended


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_no_file_in_the_place_of_one_is_named(tmp_path, what):
    file, again = one_charge(tmp_path / "lake")
    file.unlink()
    {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": os.mkdir}[what](file)
    ended = limited("import", "charges", again, "--lake", tmp_path / "lake")
    assert ended.returncode == 8 and str(file) in ended.stderr and what in ended.stderr, ended
