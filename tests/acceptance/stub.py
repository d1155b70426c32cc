"""Turns given objects into a small Stripe API on loopback, with real cursor rules and scripted faults.

It shares no code and no author's assumption with `stripelake fake-stripe`: where the two disagree, one is wrong.
"""

import gzip
import http.server
import json
import threading
import time
import urllib.parse

import objects

ACCOUNT = "acct_1Stub0000000000"
# Which query parameters a list takes beside the cursors; `created` has four comparisons.
FILTERS = {
    "charges": {"created", "customer", "payment_intent", "transfer_group"},
    "refunds": {"created", "charge", "payment_intent"},
    "balance_transactions": {"created", "currency", "payout", "source", "type"},
    "customers": {"created", "email"},
    "prices": {"created", "active", "currency", "product", "type"},
    "subscriptions": {"created", "customer", "price", "status"},
    "subscription_items": {"subscription"},
    "events": {"created", "type", "types", "delivery_success", "related_object"},
}
COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "": lambda a, b: a == b,
}
PERMISSION = {"customers": "rak_customer_read", "prices": "rak_plan_read", "charges": "rak_charge_read"}


class Refusal(Exception):
    """An answer in Stripe's error shape."""

    def __init__(self, status, message, kind="invalid_request_error", **more):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


class Stub:
    """A running server: `url`, and `log` of every request. Use as a context manager.

    `tables`: resource -> objects, newest first. Items of subscriptions are found in them.
    """

    def __init__(self, tables, gzipped=True):
        self.tables = {name: list(tables.get(name, [])) for name in FILTERS}
        self.tables["subscription_items"] = objects.items_of(self.tables["subscriptions"])
        self.gzipped, self.account_id, self.clock_ahead = gzipped, ACCOUNT, 0
        self.log, self.violations, self.faults = [], [], []
        self.lock = threading.Lock()

    def __enter__(self):
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.stub = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def fail(self, kind, path="/v1/", times=None):
        """Answers requests whose path starts so with a fault, `times` times or for ever. See `fault`."""
        self.faults.append({"kind": kind, "path": path, "left": times})

    def asked(self, path):
        """The requests to exactly this path, as dicts with `query` and `headers`."""
        return [request for request in self.log if request["path"] == path]

    def answer(self, path, query, headers):
        """(status, extra headers, body) of one GET."""
        number = self.remember(path, query, headers)
        kind = self.next_fault(path)
        key = headers.get("authorization", "").removeprefix("Bearer ")
        try:
            if kind in ("401", "403", "429", "500", "html", "garbage"):
                return fault(kind, path, key, number)
            if kind in ("204", "206"):
                return int(kind), {"Content-Type": "application/json"}, b""
            if kind == "parameter":
                raise Refusal(400, "Invalid integer: 100", param="limit")
            if not key.startswith(("rk_test_", "sk_test_")):
                raise Refusal(401, f"Invalid API Key provided: {key}")
            body = self.body(path, query)
            if kind == "no_has_more":
                del body["has_more"]
            more = {"Stripe-Version": "2020-08-27"} if kind == "version" else {}
            return 200, {"Content-Type": "application/json"} | more, objects.encode(body, indent=2).encode()
        except Refusal as refusal:
            if refusal.status == 400:
                self.violations.append(f"{path}?{urllib.parse.urlencode(query)}: {refusal}")
            return refusal.status, {"Content-Type": "application/json"}, json.dumps(refusal.body).encode()

    def remember(self, path, query, headers):
        with self.lock:
            self.log.append({"path": path, "query": query, "headers": headers})
            return len(self.log)

    def next_fault(self, path):
        with self.lock:
            for entry in self.faults:
                if path.startswith(entry["path"]) and entry["left"] != 0:
                    entry["left"] = entry["left"] and entry["left"] - 1
                    return entry["kind"]
        return None

    def body(self, path, query):
        """The account, one object, or one page of a list."""
        parts = path.removeprefix("/v1/").split("/")
        if path == "/v1/account":
            return account(self.account_id)
        if parts[0] in self.tables and len(parts) == 1:
            return self.page(parts[0], path, query)
        if parts[0] in self.tables and len(parts) == 2:
            named = [o for o in self.tables[parts[0]] if o["id"] == urllib.parse.unquote(parts[1])]
            if named:
                return embedded(named[0])
            raise Refusal(404, f"No such object: '{parts[1]}'", code="resource_missing", param="id")
        raise Refusal(404, f"Unrecognized request URL (GET: {path}).")

    def page(self, table, path, query):
        """One page: filters first, then the cursor, which must be visible under these filters."""
        values = dict(query)
        if len(values) != len(query):
            raise Refusal(400, "a parameter is given twice")
        limit = number(values.pop("limit", "10"), "limit")
        if not 1 <= limit <= 100:
            raise Refusal(400, "limit must be between 1 and 100", param="limit")
        after, before = values.pop("starting_after", None), values.pop("ending_before", None)
        if after is not None and before is not None:
            raise Refusal(400, "starting_after and ending_before exclude each other")
        shown = filtered(table, self.tables[table], values)
        if after is not None:
            rest = shown[place(shown, after, "starting_after") + 1 :]
            data, has_more = rest[:limit], len(rest) > limit
        elif before is not None:
            rest = shown[: place(shown, before, "ending_before")]
            data, has_more = rest[-limit:], len(rest) > limit
        else:
            data, has_more = shown[:limit], len(shown) > limit
        return {"object": "list", "data": [embedded(o) for o in data], "has_more": has_more, "url": path}


def filtered(table, rows, values):
    """The rows that a list shows under these parameters, hidden ones left out as Stripe does."""
    values = dict(values)
    if table == "subscriptions":
        status = values.pop("status", None)
        rows = [o for o in rows if status == "all" or state(o, status)]
    if table == "prices" and "active" not in values:
        rows = [o for o in rows if o.get("active") is not False]
    if table == "subscription_items" and "subscription" not in values:
        raise Refusal(400, "Missing required param: subscription.", param="subscription")
    for name, value in values.items():
        base, _, comparison = name.partition("[")
        if base not in FILTERS[table] or (comparison and base not in ("created", "types")):
            raise Refusal(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        if base == "created":
            compare = COMPARE.get(comparison.removesuffix("]"))
            if compare is None:
                raise Refusal(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
            bound = number(value, name)
            rows = [o for o in rows if compare(o["created"], bound)]
        elif base == "active":
            rows = [o for o in rows if (o.get("active") is not False) == (value == "true")]
        else:
            rows = [o for o in rows if o.get(name) == value]
    return rows


def state(subscription, status):
    """Without a status, Stripe leaves the canceled ones out."""
    return subscription.get("status") == status if status else subscription.get("status") != "canceled"


def place(rows, cursor, param):
    for index, row in enumerate(rows):
        if row["id"] == cursor:
            return index
    raise Refusal(400, f"No such object: '{cursor}'", code="resource_missing", param=param)


def number(text, param):
    if not text.lstrip("-").isdigit():
        raise Refusal(400, f"Invalid integer: {text}", param=param)
    return int(text)


def embedded(row):
    """A subscription shows its first ten items; the rest is read from their own list."""
    held = row.get("items")
    if row.get("object") != "subscription" or len(held["data"]) <= 10:
        return row
    return row | {"items": held | {"data": held["data"][:10], "has_more": True}}


def account(name):
    """The account behind the key; it has no `livemode`."""
    return {"id": name, "object": "account", "country": "US", "created": objects.NOW - objects.SPAN * 2}


def fault(kind, path, key, request_number):
    """A scripted answer. Each of them repeats the key, so that a client which prints answers shows it."""
    said = {"Content-Type": "application/json", "X-Echo": key}
    if kind == "html":
        page = f"<!DOCTYPE html><html><body>Welcome to our Wi-Fi, {key}</body></html>"
        return 200, {"Content-Type": "text/html", "X-Echo": key}, page.encode()
    if kind == "garbage":
        return 200, said, b'{"object": "list", "data": [{"id": "ch_1", ' + key.encode()
    if kind == "429":
        reason = {"Stripe-Rate-Limited-Reason": "endpoint-rate"}
        error = {"type": "rate_limit_error", "code": "rate_limit", "message": f"Too many requests. {key}"}
        return 429, said | reason, json.dumps({"error": error}).encode()
    if kind == "500":
        error = {"type": "api_error", "message": f"Something went wrong on our side. {key}"}
        return 500, said, json.dumps({"error": error}).encode()
    if kind == "401":
        error = {"type": "invalid_request_error", "message": f"Invalid API Key provided: {key}"}
        return 401, said, json.dumps({"error": error}).encode()
    permission = PERMISSION.get(path.split("/")[2], "rak_charge_read")
    text = f"The provided key '{key}' does not have the required permissions for this endpoint. "
    text += f"Having the '{permission}' permission would allow this request to continue."
    error = {"type": "invalid_request_error", "code": "more_permissions_required", "message": text}
    return 403, said, json.dumps({"error": error}).encode()


class Server(http.server.ThreadingHTTPServer):
    """At most 64 connections at once; a client that opens more waits in the backlog."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *args):
        super().__init__(*args)
        self.room = threading.BoundedSemaphore(64)

    def process_request(self, request, client_address):
        self.room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.room.release()

    def handle_error(self, request, client_address):
        """A client that hangs up is not an error of the server."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True

    def do_GET(self):
        stub = self.server.stub
        target = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qsl(target.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, more, body = stub.answer(target.path, query, headers)
        if stub.gzipped and "gzip" in headers.get("accept-encoding", ""):
            body, more = gzip.compress(body, 1), more | {"Content-Encoding": "gzip"}
        self.send_response_only(status)
        version = headers.get("stripe-version", "2026-05-27.dahlia")
        fixed = {"Date": self.date_time_string(time.time() + stub.clock_ahead), "Request-Id": f"req_stub{len(stub.log):06d}"}
        for name, value in (fixed | {"Stripe-Version": version} | more).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.server.stub.violations.append(f"POST {self.path}: expected GET only")
        self.send_error(405)

    do_PUT = do_DELETE = do_PATCH = do_HEAD = do_POST

    def log_message(self, *_):
        """The log is `Stub.log`."""
