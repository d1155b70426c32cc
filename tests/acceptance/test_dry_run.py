"""Turns a dry run of the real program into an estimate, and checks that nothing was written."""

import json

import harness


def test_a_dry_run_estimates_and_writes_nothing(fake, home):
    lake = home / "dry"
    outcome = harness.sync(fake, lake, "--dry-run", "--json", key=fake.key).expect(0)
    *resources, end = [json.loads(line) for line in outcome.out.splitlines()]
    found = {event["resource"]: event for event in resources if event["event"] == "estimate"}
    assert sorted(found) == harness.LISTED
    assert abs(found["charges"]["objects"] / 3_000 - 1) < 0.25, found["charges"]
    assert end["event"] == "estimate_end" and end["exit_code"] == 0 and end["probing_requests"] <= 97, end
    assert not lake.exists(), "a dry run made a lake"


def test_a_dry_run_for_people_says_about_and_how_it_knows(fake, home):
    lake = home / "dry-table"
    env = {"STRIPELAKE_DRY_RUN": "1"}
    harness.sync(fake, lake, "charges", key=fake.key, env=env).expect(0).expect_said(
        "charges", "about", "requests", "nothing was written"
    )
    assert not lake.exists(), "a dry run made a lake"
