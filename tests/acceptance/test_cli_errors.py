"""Turns mistakes on the command line into messages that a newcomer can act on. Rows of the fault list in brackets."""

import json

import pytest

import harness
import objects
import stub as stubs

PUBLISHABLE = "pk_" + "test_" + "canary0123456789AbCdEfGh"
IN_ARGV = "sk_" + "live_" + "canary0123456789AbCdEfGh"


@pytest.fixture(scope="module")
def stub():
    """A server that should hear nothing from most of these commands."""
    with stubs.Stub({name: objects.generate(name, 5, hostile=False) for name in harness.LISTED}) as running:
        yield running


@pytest.mark.parametrize(
    "key, word",
    [
        (None, "STRIPE_API_KEY"),
        ("", "STRIPE_API_KEY"),
        ("   ", "key"),
        (f'"{harness.KEY}"', "quot"),
        (f"'{harness.KEY}'", "quot"),
        (PUBLISHABLE, "publishable"),
        ("hunter2", "key"),
        (harness.KEY[:12] + "\n" + harness.KEY[12:], "key"),
    ],
    ids=["none", "empty", "blank", "double-quoted", "single-quoted", "publishable", "no-key", "two-lines"],
)
def test_a_key_that_cannot_be_one_is_refused_before_any_request(stub, home, key, word):
    """[A4]"""
    n_before = len(stub.log)
    outcome = harness.sync(stub, home / "no-key", key=key).expect(2).expect_said(word)
    assert len(stub.log) == n_before, f"a request was sent\n{outcome}"
    assert not (home / "no-key").exists(), "a refused key left a lake behind"
    if key and key.strip():
        assert key.strip("\"'") not in outcome.said, f"the refused key is shown\n{outcome}"


@pytest.mark.parametrize("before, after", [("", "\n"), ("", "\r\n"), (" ", " \t"), ("\n", "\n")])
def test_white_space_around_the_key_of_the_environment_is_no_part_of_it(stub, tmp_path, before, after):
    key = before + harness.KEY + after
    outcome = harness.sync(stub, tmp_path / "lake", "customers", key=key).expect(0)
    assert stub.log[-1]["headers"]["authorization"] == f"Bearer {harness.KEY}"
    assert harness.KEY not in outcome.said and harness.in_every_file(tmp_path, harness.KEY) == []
    # It is refused nevertheless where it stands in quotes or is two.
    for odd in [before + f'"{harness.KEY}"' + after, key + harness.KEY]:
        outcome = harness.sync(stub, tmp_path / "odd", key=odd).expect(2)
        assert harness.KEY not in outcome.said, outcome


@pytest.mark.parametrize(
    "args",
    [["--api-key", IN_ARGV], [f"--api-key={IN_ARGV}"], [IN_ARGV], ["charges", IN_ARGV], ["--lake", IN_ARGV]],
    ids=["flag", "flag-equals", "argument", "second-argument", "lake"],
)
def test_a_key_on_the_command_line_is_refused_explained_and_not_repeated(home, args):
    outcome = harness.run("sync", *args, cwd=home).expect(2)
    outcome.expect_said("command line", "STRIPE_API_KEY")
    assert IN_ARGV not in outcome.said, f"the key on the command line is repeated\n{outcome}"


@pytest.mark.parametrize(
    "typo, meant", [("charge", "charges"), ("custmers", "customers"), ("balance-transactions", "balance_transactions")]
)
def test_an_unknown_resource_suggests_the_near_one(stub, home, typo, meant):
    outcome = harness.sync(stub, home / "typo", typo).expect(2)
    assert meant in outcome.err and typo in outcome.err, f"expected {meant!r} to be suggested for {typo!r}\n{outcome}"
    assert not (home / "typo").exists()


def test_since_after_until_is_refused(stub, home):
    n_before = len(stub.log)
    window = ["--since", "2026-05-02", "--until", "2026-05-01"]
    harness.sync(stub, home / "window", *window).expect(2).expect_said("since", "until")
    assert len(stub.log) == n_before


@pytest.mark.parametrize(
    "name, value",
    [
        ("AWS_ENDPOINT_URL", "localhost:9000"),
        ("AWS_ENDPOINT_URL", "http://"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999"),
        ("AWS_ACCESS_KEY_ID", "AK\nIA"),
        ("AWS_REGION", "eu west"),
        ("AWS_SESSION_TOKEN", "one\r\ntwo"),
        ("AWS_SKIP_SIGNATURE", "perhaps"),
    ],
)
def test_a_setting_that_no_store_can_be_asked_with_is_named(stub, name, value):
    """[S2]"""
    env = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    env |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", name: value}
    outcome = harness.sync(stub, "s3://bucket/lake", "prices", env=env).expect(2).expect_said(name, "fix:")
    assert value not in outcome.said or "URL" in name or value == "perhaps", outcome


def test_a_bucket_that_can_be_none_is_named(stub):
    harness.sync(stub, "s3://la ke/x", "prices").expect(2).expect_said("la ke", "fix:")


@pytest.mark.parametrize("n", ["0", "1001", "1000000000"])
def test_a_concurrency_that_helps_nobody_is_refused(stub, home, n):
    harness.sync(stub, home / "wide", "--concurrency", n).expect(2).expect_said("--concurrency", "1 to 1000")
    assert not (home / "wide").exists()


@pytest.mark.parametrize(
    "line, said",
    [
        ("concurrency = 0", "concurrency: expected a concurrency of 1 to 1000"),
        ('concurrency = "many"', "a whole number"),
        ('timeout = "soon"', "timeout: expected a time like 90s"),
        ("timeout = 0.5", 'timeout: expected a time like 90s, 10m or 1h30m, a year at most, got "0.5"'),
        ('timeout = "10ms"', "timeout: expected at least 1s"),
        ('api_base = "http://10.0.0.1"', "api_base: expected https"),
        ('api_version = ""', "api_version: expected a version like"),
    ],
)
def test_a_setting_of_the_file_is_named_as_it_is_there(stub, tmp_path, line, said):
    settings = tmp_path / "settings.toml"
    settings.write_text(line + "\n")
    n_before = len(stub.log)
    outcome = harness.run("sync", "--lake", tmp_path / "lake", "-C", settings).expect(2).expect_said("settings.toml: ", said)
    assert "--concurrency" not in outcome.err and "--timeout" not in outcome.err and "usize" not in outcome.err, outcome
    assert len(stub.log) == n_before and not (tmp_path / "lake").exists()


def test_a_number_of_seconds_is_a_timeout_in_the_file_as_it_is_behind_the_flag(stub, tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text("timeout = 30\n")
    harness.sync(stub, tmp_path / "lake", "prices", "-C", settings).expect(0)


def test_a_profile_without_a_settings_file_says_that_there_is_none(stub, tmp_path):
    outcome = harness.sync(stub, tmp_path / "lake", "--profile", "live", cwd=tmp_path).expect(2)
    outcome.expect_said("stripelake.toml", "no such file", "--config")


@pytest.mark.parametrize("word, code", [("no", 0), ("off", 0), ("true", 0), ("maybe", 2), ("2", 2)])
def test_a_variable_of_a_switch_says_yes_or_no(stub, tmp_path, word, code):
    outcome = harness.sync(stub, tmp_path / "lake", "prices", env={"STRIPELAKE_FULL": word}).expect(code)
    assert code == 0 or "STRIPELAKE_FULL" in outcome.err, outcome


@pytest.mark.parametrize("name", ["WAIT_LOCK", "SINCE", "TIMEOUT", "CONCURRENCY", "MEMORY", "MAX_DURATION", "EXCLUDE"])
def test_a_wrong_variable_is_named_and_a_wrong_flag_too(stub, tmp_path, name):
    flag = "--" + name.lower().replace("_", "-")
    env = {f"STRIPELAKE_{name}": "-x"}
    outcome = harness.sync(stub, tmp_path / "lake", "prices", env=env).expect(2).expect_said(f"STRIPELAKE_{name}")
    assert flag not in outcome.err, outcome
    outcome = harness.sync(stub, tmp_path / "lake", "prices", f"{flag}=-x", env=env).expect(2).expect_said(flag)
    assert f"STRIPELAKE_{name}" not in outcome.err, outcome


def test_a_lake_within_a_lake_is_refused(stub, tmp_path):
    harness.sync(stub, tmp_path / "lake", "prices").expect(0)
    for inner in ("lake/prices", "lake/_stripelake", "lake/deeper/down"):
        harness.sync(stub, tmp_path / inner, "prices").expect(2).expect_said(str(tmp_path / "lake"), "choose another --lake")
    (tmp_path / "link").symlink_to(tmp_path / "lake/prices")
    harness.sync(stub, tmp_path / "link/new", "prices").expect(2)
    harness.sync(stub, "../beside", "prices", cwd=tmp_path / "lake").expect(0)
    harness.sync(stub, tmp_path / "lake", "prices").expect(0)


def test_a_variable_that_is_nearly_a_setting_is_warned_of(stub, tmp_path):
    env = {"STRIPELAKE_LAEK": "x", "STRIPELAKE_SERVICE_HOST": "10.0.0.1", "STRIPELAKE_RATE": "50"}
    outcome = harness.sync(stub, tmp_path / "lake", "prices", "--quiet", env=env).expect(0)
    outcome.expect_said("STRIPELAKE_LAEK", "did you mean STRIPELAKE_LAKE?")
    assert len(outcome.err.splitlines()) == 1, outcome
    outcome = harness.sync(stub, tmp_path / "lake", key=None, env={"STRIPE_APIKEY": harness.KEY}).expect(2)
    outcome.expect_said("STRIPE_APIKEY", "did you mean STRIPE_API_KEY?")


def test_an_empty_key_variable_counts_as_none(stub, tmp_path):
    file = tmp_path / "key"
    file.write_text(harness.KEY)
    file.chmod(0o600)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'api_key_file = "{file}"\n')
    harness.sync(stub, tmp_path / "lake", "prices", "-C", settings, key=" ").expect(0)


def test_a_table_that_comes_with_another_is_not_excluded_alone(stub, tmp_path):
    args = ["--exclude", "subscription_items"]
    harness.sync(stub, tmp_path / "lake", *args).expect(2).expect_said("--exclude", "exclude subscriptions")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args, said",
    [
        (["--since", "x"], "--since"),
        (["--until", "x"], "--until"),
        (["--exclude", "nope"], "--exclude"),
        (["--rate", "-1"], "--rate"),
        (["--max-requests", "-1"], "'--max-requests <N>'"),
        (["--memory", "-1"], "'--memory <MB>'"),
        (["--max-duration", "0"], "--max-duration"),
    ],
)
def test_a_value_that_its_flag_does_not_take_is_refused_by_the_name_of_the_flag(stub, tmp_path, args, said):
    outcome = harness.sync(stub, tmp_path / "lake", "prices", *args).expect(2).expect_said(said)
    assert "unexpected argument '-1'" not in outcome.err, outcome
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_only_a_shell_knows_is_refused(stub, tmp_path):
    harness.sync(stub, "~/lake", cwd=tmp_path).expect(2).expect_said("~/lake", "fix:")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_variable_counts_as_none(stub, tmp_path):
    """Where variables are made from a template, an empty one is one that was left out."""
    flags = ("RATE", "CONCURRENCY", "MEMORY", "PROGRESS", "SINCE", "EXCLUDE", "MAX_DURATION", "CONFIG", "PROFILE", "QUIET", "VERBOSE")
    empty = {f"STRIPELAKE_{flag}": "" for flag in flags}
    harness.sync(stub, tmp_path / "lake", "charges", env=empty).expect(0)
    harness.sync(stub, tmp_path / "lake", "charges", env=empty | {"STRIPELAKE_MEMORY": " "}).expect(2).expect_said("STRIPELAKE_MEMORY", "like 64")


@pytest.mark.parametrize("url", ["file://here/lake", "file:lake", "file:///a?b", "file:///a#b"])
def test_a_url_that_names_no_folder_is_refused(stub, tmp_path, url):
    harness.sync(stub, url, "prices", cwd=tmp_path).expect(2).expect_said("file:///folder", "fix:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", ["file://", "file://localhost", "FILE:"])
def test_a_lake_may_be_named_by_a_url(stub, tmp_path, before):
    harness.sync(stub, f"{before}{tmp_path}/a%20lake", "prices").expect(0)
    assert (tmp_path / "a lake/_stripelake/lake.json").exists()


def test_a_lake_behind_a_backslash_is_refused(stub, tmp_path):
    harness.sync(stub, tmp_path / "a\\b", "prices").expect(2).expect_said("backslash", "fix:")


@pytest.mark.parametrize("text, code", [(" {}\n\n", 0), ("\ufeff{}\r\n", 0), ("x" * 70_000, 2)])
def test_a_key_file_holds_a_key_and_no_more(stub, tmp_path, text, code):
    file = tmp_path / "key"
    file.write_text(text.format(harness.KEY), encoding="utf-8")
    file.chmod(0o600)
    harness.sync(stub, tmp_path / "lake", "prices", "--api-key-file", file, key=None).expect(code)


def test_a_key_that_may_do_everything_is_warned_of_once(stub, tmp_path):
    """[A4]"""
    key = "sk_" + "live_" + "canary0123456789AbCdEfGh"
    outcome = harness.sync(stub, tmp_path / "lake", "prices", key=key).expect(4).expect_said("sk_live_", "rk_live_")
    assert outcome.said.count("may do everything") == 1 and key not in outcome.said


def test_resources_may_be_named_with_commas(stub, tmp_path):
    harness.sync(stub, tmp_path / "lake", "customers,prices").expect(0)
    tables = {state.stem for state in (tmp_path / "lake/_stripelake/state").iterdir()}
    assert tables == {"customers", "prices"}


def test_a_budget_that_no_list_has_answered_within_is_no_success(stub, tmp_path):
    outcome = harness.sync(stub, tmp_path / "lake", "--max-duration", "1ms").expect(5)
    outcome.expect_said("--max-duration", "before any list had answered", "fix:")


def test_a_date_that_is_none_is_refused(stub, home):
    harness.sync(stub, home / "window", "--since", "yesterdayish").expect(2).expect_said("yesterdayish")


@pytest.mark.parametrize("url", ["http://api.example.com", "http://192.0.2.7:12111", "ftp://127.0.0.1", "nonsense"])
def test_a_base_url_that_would_send_the_key_in_the_clear_is_refused(home, url):
    """[N14]"""
    outcome = harness.run("sync", "--lake", home / "clear", "--api-base", url).expect(2)
    outcome.expect_said("api-base")
    assert not (home / "clear").exists()


def test_a_server_that_is_not_there_exits_5(home):
    """[N5]"""
    with stubs.Stub({}) as gone:
        pass
    harness.sync(gone, home / "gone", timeout=330).expect(5).expect_said(gone.url.removeprefix("http://"))


@pytest.mark.parametrize("place", ["file", "below-file", "proc"])
def test_a_lake_that_cannot_be_written_exits_6_before_anything_is_read(stub, home, place):
    """[S3]"""
    file = home / "a-file"
    file.write_text("not a folder")
    path = {"file": file, "below-file": file / "lake", "proc": "/proc/stripelake/lake"}[place]
    n_before = len(stub.log)
    outcome = harness.sync(stub, path).expect(6).expect_said(str(path))
    lists = [r["path"] for r in stub.log[n_before:] if r["path"] != "/v1/account"]
    assert not lists, f"read {lists[:3]} for a lake that cannot be written\n{outcome}"
    assert file.read_text() == "not a folder"


@pytest.mark.parametrize("args", [["--no-such-flag"], ["no-such-command"], ["sync", "--rate", "fast"], ["import"]])
def test_a_wrong_command_line_exits_2_and_points_to_help(args):
    outcome = harness.run(*args).expect(2)
    assert "--help" in outcome.err, f"expected a pointer to --help on stderr\n{outcome}"
    assert outcome.out == "", f"stdout is for results\n{outcome}"


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["sync", "--help"], ["import", "--help"]])
def test_help_and_version_go_to_stdout_and_exit_0(args):
    outcome = harness.run(*args, key=None).expect(0)
    assert outcome.out.strip() and not outcome.err.strip(), outcome


def test_a_key_file_works_and_a_missing_one_is_named(stub, home):
    file = home / "key"
    file.write_text(harness.KEY + "\n")
    file.chmod(0o600)
    harness.sync(stub, home / "key-file", "--api-key-file", file, key=None).expect(0)
    assert stub.log[-1]["headers"]["authorization"] == f"Bearer {harness.KEY}"
    assert harness.in_every_file(home / "key-file", harness.KEY) == []
    missing = home / "no-such-key"
    harness.sync(stub, home / "key-file-2", "--api-key-file", missing, key=None).expect(2).expect_said("no-such-key")


def test_an_error_says_what_state_the_lake_is_in(stub, home):
    """[I11]"""
    file = home / "another-file"
    file.write_text("")
    harness.sync(stub, file).expect(6).expect_said("error", "lake")


@pytest.mark.parametrize(
    "command, said", [(["yes"], "more than 64 KiB"), (["sh", "-c", "exit 3"], "3"), (["no-such-vault"], "no-such-vault")]
)
def test_a_key_command_that_gives_no_key_is_refused(stub, tmp_path, command, said):
    settings = tmp_path / "stripelake.toml"
    settings.write_text(f"key_command = {json.dumps(command)}\n")
    outcome = harness.sync(stub, tmp_path / "lake", "-C", settings, key=None, timeout=20).expect(2)
    outcome.expect_said("key_command", said, "run it by hand")


def test_a_key_command_that_everyone_can_write_is_not_run(stub, tmp_path):
    settings, trace = tmp_path / "stripelake.toml", tmp_path / "it-ran"
    script = f"touch {trace}; echo {harness.KEY}"
    settings.write_text(f"[profile.mine]\nkey_command = {json.dumps(['sh', '-c', script])}\n")
    sync = [stub, tmp_path / "lake", "prices", "-C", settings]
    settings.chmod(0o666)
    harness.sync(*sync, "--profile", "mine", key=None).expect(2).expect_said(f"chmod o-w {settings}")
    assert not trace.exists(), "the command was run"
    harness.sync(*sync).expect(0)
    settings.chmod(0o664)
    harness.sync(*sync, "--profile", "mine", key=None).expect(0)
    assert trace.exists()


@pytest.mark.parametrize("name", ["api_base", "ca_file"])
def test_settings_that_everyone_can_write_do_not_say_who_gets_the_key(stub, tmp_path, name):
    settings = tmp_path / "stripelake.toml"
    value = stub.url if name == "api_base" else tmp_path / "ca.pem"
    settings.write_text(f'{name} = "{value}"\n')
    settings.chmod(0o666)
    sync = ["sync", "prices", "-C", settings, "--lake", tmp_path / "lake"]
    before = len(stub.log)
    harness.run(*sync).expect(2).expect_said(name, f"chmod o-w {settings}")
    assert len(stub.log) == before, "the key was sent"
    settings.chmod(0o664)
    assert "chmod" not in harness.run(*sync, "--api-base", stub.url).err


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--rate", "1e-20"),
        ("--wait-lock", "18446744073709551615"),
        ("--timeout", "18446744073709551615"),
        ("--max-duration", "99999999999h"),
    ],
)
def test_a_number_that_no_clock_can_count_is_refused(stub, tmp_path, flag, value):
    sync = ["sync", "prices", "--api-base", stub.url, "--lake", tmp_path / "lake"]
    harness.run(*sync, flag, value).expect(2).expect_said("expected", value)


def test_a_partition_of_what_comes_with_something_else_is_refused(tmp_path):
    settings = tmp_path / "stripelake.toml"
    settings.write_text('[resources.subscription_items]\npartition = "day"\n')
    outcome = harness.run("sync", "-C", settings, "--lake", tmp_path / "lake").expect(2)
    outcome.expect_said("[resources.subscription_items]", "set [resources.subscriptions]")


@pytest.mark.parametrize(
    "text, words",
    [
        ('[resources.charges]\npartition = "week"', ["[resources.charges]", "year, month or day", '"week"']),
        ('rate = "fast"', ["rate", "80%, 50 or unlimited", '"fast"']),
        ("rate = true", ["rate", '"80%", 50 or "unlimited"']),
        ("rate = 0", ["rate", "80%, 50 or unlimited"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path, text, words):
    settings = tmp_path / "mine.toml"
    settings.write_text(text)
    outcome = harness.run("sync", "-C", settings, "--lake", tmp_path / "lake").expect(2).expect_said(str(settings), *words)
    assert "--rate" not in outcome.err, outcome


def test_a_rate_in_the_settings_may_be_a_number(stub, tmp_path):
    settings = tmp_path / "stripelake.toml"
    for rate in ["500", "500.5", '"500"', '"unlimited"']:
        settings.write_text(f"rate = {rate}\n")
        api = ["--api-base", stub.url, "--lake", tmp_path / "lake"]
        harness.run("sync", "prices", "-C", settings, *api).expect(0)
    harness.run("sync", "--rate", "fast").expect(2).expect_said("--rate")
