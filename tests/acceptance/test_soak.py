"""Turns a minute of mixed faults, kills and budgets into a lake that equals the account.

`STRIPELAKE_SOAK_SECS` is the time (60), `STRIPELAKE_SOAK_SEED` repeats a failure as far as timing allows.
"""

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time

import duck
import fake
import harness
from misbehaving import Misbehaving

SECS = float(os.environ.get("STRIPELAKE_SOAK_SECS", "60"))
SEED = int(os.environ.get("STRIPELAKE_SOAK_SEED", time.time_ns() % 1_000_000))
CHARGES = 12_000
MOST_RSS_KIB = 256 * 1024
MOST_FDS = 64
# One for the account, five lists, and two for each of the three passes over prices: with fewer the program refuses to start.
LEAST_REQUESTS = 12
# Runs after the time is over, until one is complete.
MOST_LAST_RUNS = 20
FAULT_SHARE = 0.02
FAULTS = [
    {"kind": "status", "status": 429, "reason": "endpoint-rate"},
    {"kind": "status", "status": 429, "reason": "global-rate", "retry_after": 1},
    {"kind": "status", "status": 429, "code": "lock_timeout"},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503},
    {"kind": "reset"},
    {"kind": "reset-in-body"},
    {"kind": "reset-after-body"},
    {"kind": "short-body"},
    {"kind": "no-last-chunk"},
    {"kind": "gzip-truncated"},
    {"kind": "gzip-crc"},
    {"kind": "drip", "time": "1s"},
    {"kind": "hang"},
    {"kind": "html"},
    {"kind": "html", "status": 502},
    {"kind": "garbage"},
    {"kind": "trailing"},
    {"kind": "empty"},
]
# How a run ends early, how often of 20, and the exit codes that this may give.
ENDS = {
    "kill": (11, {-signal.SIGKILL}),
    "term": (3, {143}),
    "int": (2, {130}),
    "requests": (2, {9}),
    "duration": (2, {9}),
}
# A run may be complete, partial or given up before its end comes.
ANY_TIME = {0, 3, 5}
COMPARED = {
    "balance_transactions": ["created", "amount", "currency", "fee", "net", "type"],
    "charges": ["created", "amount", "amount_refunded", "currency", "paid", "status", "customer"],
    "customers": ["created", "email", "name", "currency"],
    "prices": ["created", "currency", "unit_amount", "active"],
    "refunds": ["created", "amount", "currency", "charge", "status"],
    "subscription_items": ["created", "quantity", "subscription"],
    "subscriptions": ["created", "status", "customer", "currency"],
}


class Soak:
    """One lake, one account and the seeded choices; counts what happened."""

    def __init__(self, server, lake):
        self.server, self.lake = server, lake
        self.random = random.Random(SEED)
        self.columns = {table: [c["name"] for c in harness.schema(table)] for table in harness.TABLES}
        self.codes, self.rss_kib, self.fds = {}, 0, 0

    def run(self, end=None):
        """One sync, ended early if told to; its exit code. Fails on a code that nothing explains."""
        flags, after = [], self.random.uniform(1.5, 6)
        if end == "requests":
            flags = ["--max-requests", self.random.randint(LEAST_REQUESTS, 200)]
        if end == "duration":
            flags = ["--max-duration", f"{int(after * 1000)}ms"]
        numbers = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
        code, said = self.watched(flags, numbers.get(end), after)
        self.codes[code] = self.codes.get(code, 0) + 1
        story = f"seed {SEED}, end {end} after {after:.2f} s, exit {code}\n{said[-4000:]}"
        allowed = ANY_TIME | (ENDS[end][1] if end else set())
        assert code in allowed, f"expected an exit among {allowed}: {story}"
        assert "panicked at" not in said and self.server.key not in said, story
        if code in (3, 5):
            named = [name for name in [*harness.TABLES, "account"] if name in said]
            assert named and "your lake" in said, f"expected a reason: {story}"
        return code

    def watched(self, flags, number, after):
        """Runs the program, sends it a signal after so many seconds, and watches its memory and files."""
        args = ["sync", "--lake", self.lake, "--api-base", self.server.url, "--progress", "none"]
        args += ["--rate", "30", "--concurrency", "4", "--timeout", "2s", *flags]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                [harness.binary(), *map(str, args)],
                env=harness.environment(self.server.key),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                started = time.monotonic()
                while process.poll() is None:
                    passed = time.monotonic() - started
                    assert passed < 300, f"seed {SEED}: expected an end within 300 s"
                    if number is not None and passed >= after:
                        process.send_signal(number)
                        number = None
                    self.look(process.pid)
                    time.sleep(0.03)
            finally:
                process.kill()
                process.wait()
            log.seek(0)
            return process.returncode, log.read().decode(errors="replace")

    def look(self, pid):
        """The peak of resident memory and the open files, where the system tells them."""
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            self.fds = max(self.fds, len(os.listdir(f"/proc/{pid}/fd")))
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.rss_kib = max(self.rss_kib, int(line.split()[1]))

    def expect_a_right_glob(self):
        """Every file is whole, has every column, and no id stands twice."""
        with duck.connect() as con:
            for table in harness.TABLES:
                files = duck.files(self.lake, table)
                if not files:
                    continue
                for file in files:
                    source = f"read_parquet({duck.quoted(file)}, hive_partitioning = false)"
                    found = [row[0] for row in con.execute(f"describe select * from {source}").fetchall()]
                    assert found == self.columns[table], f"seed {SEED}: {file}: expected every column, got {found}"
                source = f"read_parquet({duck.quoted(duck.glob(self.lake, table))})"
                query = f"select count(*), count(distinct id), bit_xor(hash(t)) from {source} t"
                n_rows, n_ids, _ = con.execute(query).fetchone()
                assert n_rows == n_ids, f"seed {SEED}: {table}: {n_rows} rows, {n_ids} ids"

    def expect_the_account(self, clean):
        """Every table is what the lists of a server without faults show."""
        with duck.connect() as con:
            for table, names in COMPARED.items():
                picks = ["epoch_us(created) // 1000000" if n == "created" else n for n in names]
                source = f"read_parquet({duck.quoted(duck.glob(self.lake, table))})"
                rows = con.execute(f"select id, {', '.join(picks)} from {source} where not _deleted").fetchall()
                objects = [(o["id"], *(o.get(name) for name in names)) for o in clean.all(table)]
                expect_equal(table, names, sorted(rows, key=str), sorted(objects, key=str))


def expect_equal(table, names, rows, objects):
    """Ids, sums of amounts by currency, and a hash over the compared columns agree."""
    ids, expected = [row[0] for row in rows], [o[0] for o in objects]
    assert expected, f"{table}: expected objects in the account"
    missing, more = sorted(set(expected) - set(ids)), sorted(set(ids) - set(expected))
    told = f"seed {SEED}: {table}: {len(missing)} missing {missing[:3]}, {len(more)} too many {more[:3]}"
    assert not missing and not more and len(ids) == len(expected), told
    if "amount" in names:
        assert sums(names, rows) == sums(names, objects), f"seed {SEED}: {table}: sums differ"
    differ = [(row, o) for row, o in zip(rows, objects) if row != o][:3]
    assert digest(rows) == digest(objects), f"seed {SEED}: {table}: {differ}"


def sums(names, rows):
    """Sum of amounts by currency."""
    amount, currency = names.index("amount") + 1, names.index("currency") + 1
    total = {}
    for row in rows:
        total[row[currency]] = total.get(row[currency], 0) + row[amount]
    return total


def digest(rows):
    return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()


def test_a_soak_of_faults_and_kills_ends_in_the_account(tmp_path):
    share = FAULT_SHARE / len(FAULTS)
    faults = [fault | {"chance": share} for fault in FAULTS]
    # Two servers of one account, whose objects are dated back from its present.
    account = {"charges": CHARGES, "seed": 7, "now": int(time.time())}
    flags = ["--latency", "20ms"]
    server = Misbehaving(*faults, **account, flags=flags)
    # The account is of seed 7; the faults are of the soak's.
    path = pathlib.Path(server.folder.name) / "faults.toml"
    path.write_text(f"seed = {SEED}\n" + path.read_text())
    print(f"STRIPELAKE_SOAK_SEED={SEED} STRIPELAKE_SOAK_SECS={SECS:g}")
    with server, fake.Fake(**account) as clean:
        soak, n_lakes = Soak(server, tmp_path / "lake-1"), 1
        ends = [end for end, (weight, _) in ENDS.items() for _ in range(weight)]
        deadline = time.monotonic() + SECS
        while time.monotonic() < deadline:
            code = soak.run(soak.random.choice(ends))
            soak.expect_a_right_glob()
            if code == 0:
                # Mostly a new lake: rows are easiest lost before the first complete run. Else this one is listed again.
                soak.expect_the_account(clean)
                if soak.random.random() < 0.75:
                    n_lakes += 1
                    soak.lake = tmp_path / f"lake-{n_lakes}"
        for _ in range(2):
            codes = iter(soak.run() for _ in range(MOST_LAST_RUNS))
            assert 0 in codes, f"seed {SEED}: expected a complete run, got exits {soak.codes}"
            soak.expect_a_right_glob()
            soak.expect_the_account(clean)
        stats = server.stats()
    left = [*soak.lake.rglob("*.tmp"), *soak.lake.rglob(".stripelake-*")]
    assert not left, f"seed {SEED}: left behind: {left}"
    told = f"exits {soak.codes}, {n_lakes} lakes, peak {soak.rss_kib} KiB, {soak.fds} files, faults {stats['by_fault']}"
    print(f"{stats['requests']} requests, {told}")
    assert -signal.SIGKILL in soak.codes and len(stats["by_fault"]) > 3, told
    assert soak.rss_kib <= MOST_RSS_KIB and soak.fds <= MOST_FDS, told
