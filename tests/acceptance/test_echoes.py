"""Turns a server that repeats the key, in whatever form, into output and a lake without it. [P11]"""

import base64
import json

import pytest

import harness
import stub as stubs
from test_sync_stub import small

SECRET = harness.KEY.removeprefix("rk_test_")
HALF = harness.KEY[:20], harness.KEY[20:]
# How a proxy, a login page or a library may write it.
FORMS = {
    "in a URL": "h=Authorization%3A%20Bearer%20" + harness.KEY,
    "behind an escape in text": "headers:\\n" + harness.KEY,
    "behind an escape of JSON in text": "Bearer\\u0020" + harness.KEY,
    "behind a letter": "x" + harness.KEY,
    "percent-encoded": harness.KEY.replace("_", "%5F"),
    "Basic": "Basic " + base64.b64encode(f"{harness.KEY}:".encode()).decode(),
    "Basic with a name": base64.b64encode(f"joe:{harness.KEY}".encode()).decode(),
    "coloured": "\x1b[31m" + harness.KEY,
    "cut by a bell": "\x07".join(HALF),
    "cut by what has no width": "\u200b".join(HALF),
}
IN_HEADERS = [name for name, form in FORMS.items() if form.isprintable() and form.isascii()]


class Echo(stubs.Stub):
    """Answers what is asked at one path with these three; the rest as ever."""

    def __init__(self, path, status, headers, body):
        super().__init__(small())
        self.path, self.said = path, (status, {"Content-Type": "application/json"} | headers, body)

    def answer(self, path, query, headers):
        if path != self.path:
            return super().answer(path, query, headers)
        self.remember(path, query, headers)
        return self.said


def answers(name):
    """Status, headers and body, each with the key in this form."""
    form = FORMS[name]
    yield 400, {}, json.dumps({"error": {"message": form}}).encode()
    yield 403, {}, f"<html>{form}</html>".encode()
    yield 404, {}, f'{{"h":"{form}"}}'.encode()
    if name in IN_HEADERS:
        yield 302, {"Location": f"https://login.example/?{form}"}, b""
        yield 400, {"Request-Id": form}, b"{}"


def expect_hidden(lake, outcome):
    """Fails where what makes the key secret stands somewhere, also in base64 or without what it is cut by."""
    letters = "".join(c for c in outcome.said if c.isalnum())
    encoded = base64.b64encode(harness.KEY.encode()).decode()[4:-4]
    for secret in (SECRET, SECRET[:12], encoded):
        assert secret not in outcome.said and secret not in letters, outcome
        assert harness.in_every_file(lake, secret) == [], outcome
    assert not harness.in_every_file(lake, HALF[1]), outcome


@pytest.mark.parametrize("name", FORMS)
def test_a_key_in_an_odd_form_is_shown_and_written_nowhere(tmp_path, name):
    for number, answer in enumerate(answers(name)):
        with Echo("/v1/charges", *answer) as stub:
            lake = tmp_path / str(number)
            outcome = harness.sync(stub, lake, "charges", "--json", may_show_key=True).expect(2, 3, 4)
        outcome.expect_said("...")
        expect_hidden(lake, outcome)


@pytest.mark.parametrize("flags", [["--quiet"], ["--dry-run"], ["-vv"]])
@pytest.mark.parametrize("path", ["/v1/account", "/v1/charges"])
def test_flags_do_not_change_that(tmp_path, path, flags):
    page = f"<html>blocked: /?h={FORMS['in a URL']}</html>".encode()
    with Echo(path, 403, {"Content-Type": "text/html"}, page) as stub:
        outcome = harness.sync(stub, tmp_path / "lake", "charges", *flags, may_show_key=True)
    expect_hidden(tmp_path / "lake", outcome.expect(0, 4))
    assert "..." in outcome.err, outcome


def test_a_key_in_the_name_of_a_member_is_not_in_the_record_of_the_run(tmp_path):
    page = {"object": "list", "has_more": False, "url": "/v1/refunds", "data": small()["refunds"][:1]}
    page["data"][0]["x" + harness.KEY] = 1
    with Echo("/v1/refunds", 200, {}, json.dumps(page).encode()) as stub:
        outcome = harness.sync(stub, tmp_path / "lake", "refunds", "--json", may_show_key=True).expect(0)
    assert SECRET not in outcome.said, outcome
    assert not harness.in_every_file(tmp_path / "lake/_stripelake/runs", SECRET)
    assert json.loads(outcome.out.splitlines()[-1])["tables"][0]["unknown"], outcome


def test_characters_that_nobody_sees_or_that_turn_the_text_are_not_shown(tmp_path):
    body = json.dumps({"error": {"message": "No such \u202egnp.exe \u2066x\u200b\ufeff"}}).encode()
    with Echo("/v1/charges", 400, {}, body) as stub:
        outcome = harness.sync(stub, tmp_path / "lake", "charges").expect(3).expect_said("No such gnp.exe x")
    assert not set("\u202e\u2066\u200b\ufeff") & set(outcome.said), outcome


@pytest.mark.parametrize("place", [[], ["--json"]])
def test_a_key_or_a_password_in_the_address_is_not_repeated(home, place):
    for user in ["x" + harness.KEY, "joe:" + SECRET, harness.KEY.replace("_", "%5F")]:
        env = {"STRIPELAKE_API_BASE": f"https://{user}@127.0.0.1:1"}
        outcome = harness.run("sync", "--lake", home / "address", *place, env=env).expect(2)
        outcome.expect_said("127.0.0.1:1", "credentials do not belong into a URL")
        assert SECRET not in outcome.said, outcome
        assert SECRET not in harness.run("sync", "--help", env=env).said
