"""Measures a first sync against the fake account behind Stripe's limits: how much of the permitted rate is used.

Usage: rate.py PROGRAM [CHARGES]
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request

LATENCY = "150ms"
# Stripe's documented limits of live mode: each endpoint, and the account.
ENDPOINT, ACCOUNT = 25, 100
SIX = ["charges", "subscriptions", "refunds", "balance_transactions", "customers", "prices"]


def main():
    program = sys.argv[1]
    charges = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    print(f"{charges:,} charges, {LATENCY} a request, {ENDPOINT}/s an endpoint, {ACCOUNT}/s the account, --rate 100%")
    print(f"{'':28}{'requests':>9}{'least':>7}{'ratio':>7}{'429':>6}{'fill':>7}{'seconds 3-6':>13}{'least time':>13}{'CPU per 100/s':>15}{'wall':>8}")
    report("charges", run(program, charges, ["charges"]))
    report("six resources", run(program, charges, SIX))


def run(program, charges, resources):
    server = subprocess.Popen(
        [program, "fake-stripe", "--json", "--livemode", "--until-stdin-closes", "--charges", str(charges)]
        + ["--latency", LATENCY, "--rate-limit", f"{ENDPOINT}/{ACCOUNT}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        account = json.loads(server.stdout.readline())
        with tempfile.TemporaryDirectory() as lake:
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            subprocess.run(
                [program, "sync", *resources, "--lake", lake, "--api-base", account["url"], "--rate", "100%", "--quiet"],
                env={**os.environ, "STRIPE_API_KEY": account["key"]},
                check=True,
            )
            wall = time.monotonic() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            state = lambda name: json.load(open(os.path.join(lake, "_stripelake", "state", name + ".json")))
            rows = {name: sum(file["rows"] for file in state(name)["partitions"].values()) for name in resources}
        with urllib.request.urlopen(account["url"] + "/_fake/stats") as answer:
            stats = json.load(answer)
    finally:
        server.stdin.close()
        server.wait(timeout=10)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"rows": rows, "wall": wall, "cpu": cpu, "stats": stats}


def report(name, measured):
    """The rate is compared with the time that the limits leave: the longest list at an endpoint's rate, or all
    of them at the account's. The first two seconds, in which the density becomes known, count as well."""
    stats, rows = measured["stats"], measured["rows"]
    requests = stats["requests"]
    least = sum(-(-n // 100) for n in rows.values())
    lists = [-(-n // 100) for n in rows.values()]
    least_time = max(max(lists) / ENDPOINT, sum(lists) / ACCOUNT)
    # While all lists are being read, from the third second on.
    early = stats["per_second"][2:6] or [0]
    refused = stats["by_status"].get("429", 0)
    fill = sum(rows.values()) / (100 * (requests - refused))
    cpu = measured["cpu"] / measured["wall"] / (requests / measured["wall"]) * 100
    print(
        f"{name:28}{requests:9,}{least:7,}{requests / least:7.2f}{refused / requests:6.1%}{fill:7.1%}"
        f"{sum(early) / len(early):11.0f}/s{least_time / measured['wall']:13.0%}{cpu:15.0%}{measured['wall']:7.1f}s"
    )


if __name__ == "__main__":
    main()
