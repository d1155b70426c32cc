"""Turns a command line into an outcome that a test can question.

Every run has a clean environment, a time limit, and is searched for the key: no output may hold it.
"""

import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import tempfile
import time

KEY = "rk_" + "test_" + "canary0123456789AbCdEfGh"
ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLES = [
    "balance_transactions",
    "charges",
    "customers",
    "prices",
    "refunds",
    "subscription_items",
    "subscriptions",
]
LISTED = [table for table in TABLES if table != "subscription_items"]
HOME_HOLDER = tempfile.TemporaryDirectory(prefix="stripelake-home-")
HOME = HOME_HOLDER.name


def binary():
    """The program under test: STRIPELAKE_BIN, absolute, so that tests may change directory."""
    named = os.environ.get("STRIPELAKE_BIN", str(ROOT / "target/debug/stripelake"))
    path = pathlib.Path(named).resolve()
    if not path.is_file():
        raise SystemExit(
            f"expected the stripelake program at {path}, found nothing; "
            "run `make acceptance`, or set STRIPELAKE_BIN to a built binary"
        )
    return str(path)


def environment(key=KEY, **more):
    """A small environment: nothing of the caller's AWS, proxy or stripelake settings leaks in.

    The time zone is far from UTC on purpose: partitions are UTC whatever the machine thinks.
    """
    env = {"PATH": "/usr/bin:/bin", "HOME": HOME, "LANG": "C.UTF-8", "TZ": "Pacific/Auckland"}
    if key is not None:
        env["STRIPE_API_KEY"] = key
    return env | more


class Outcome:
    """What a finished run left behind: `code`, `out`, `err`, `seconds`."""

    def __init__(self, args, code, out, err, seconds):
        self.args, self.code, self.seconds = args, code, seconds
        self.out, self.err = out, err

    @property
    def said(self):
        return self.out + self.err

    def expect(self, *codes):
        """Fails with the whole story unless the exit code is one of `codes`."""
        __tracebackhide__ = True
        wanted = " or ".join(map(str, codes))
        assert self.code in codes, f"expected exit {wanted}, got {self.code}\n{self}"
        return self

    def expect_said(self, *words):
        """Fails unless each word stands somewhere in the output, in any case."""
        __tracebackhide__ = True
        for word in words:
            assert word.lower() in self.said.lower(), f"expected the output to name {word!r}\n{self}"
        return self

    def __str__(self):
        line = " ".join(shlex.quote(str(a)) for a in self.args)
        return (
            f"  command: stripelake {line}\n  exit {self.code} after {self.seconds:.1f} s\n"
            f"  stdout: {self.out[-3000:]}\n  stderr: {self.err[-6000:]}"
        )


def run(*args, key=KEY, env=None, stdin="", timeout=120, cwd=None, may_show_key=False):
    """Runs the program once and returns its Outcome. Never raises because of the exit code."""
    started = time.monotonic()
    process = subprocess.Popen(
        [binary(), *map(str, args)],
        env=environment(key) | (env or {}),
        cwd=cwd or HOME,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        out, err = process.communicate(data, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        late = Outcome(args, "none", *texts(out, err), time.monotonic() - started)
        raise AssertionError(f"expected an end within {timeout} s, still running\n{late}") from None
    outcome = Outcome(args, process.returncode, *texts(out, err), time.monotonic() - started)
    if key and len(key) > 12 and not may_show_key:
        assert key not in outcome.said, f"the API key stands in the output\n{outcome}"
    assert "panicked at" not in outcome.err, f"the program panicked\n{outcome}"
    return outcome


def texts(*streams):
    return [stream.decode("utf-8", "backslashreplace") for stream in streams]


def sync(api, lake, *args, **options):
    """`stripelake sync` against a server on loopback, at a rate that suits a test."""
    base = ["sync", "--lake", lake, "--api-base", api.url, "--rate", "500", "--progress", "none"]
    return run(*base, *args, **options)


def tree(folder, pattern="**/*"):
    """Relative path -> sha256 of every file below a folder; {} when there is no folder."""
    folder = pathlib.Path(folder)
    files = (path for path in folder.glob(pattern) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def changes(before, after):
    """A readable list of what differs between two `tree` results."""
    gone = [f"gone: {path}" for path in before if path not in after]
    new = [f"new: {path}" for path in after if path not in before]
    both = [f"changed: {p}" for p in before if p in after and before[p] != after[p]]
    return sorted(gone + new + both)


def schema(resource):
    """The columns of a table as `stripelake schema RESOURCE --json` reports them."""
    said = run("schema", resource, "--json", key=None).expect(0)
    report = json.loads(said.out)
    assert report["resource"] == resource, f"schema {resource} answered for {report['resource']!r}"
    return report["columns"]


def in_every_file(folder, word):
    """The files below a folder that hold these bytes."""
    needle = word.encode()
    files = (path for path in pathlib.Path(folder).rglob("*") if path.is_file())
    return [str(path) for path in files if needle in path.read_bytes()]
