"""Turns the charges of an account into Singer messages with tap-stripe: `rival_tap.py URL KEY OUT`.

The tap has no setting for another server, so its requests are sent elsewhere one layer below it. It writes JSON;
what a Singer target would cost to make Parquet of it is left out.
"""

import datetime
import json
import sys
from pathlib import Path

import stripe
import tap_stripe

# Longer than the fake account is old.
DAYS = 740


def send_to(url: str) -> None:
    send = stripe.http_client.RequestsClient.request

    def redirected(self, method, address, *rest):
        return send(self, method, address.replace(stripe.api_base, url, 1), *rest)

    stripe.http_client.RequestsClient.request = redirected


def selected() -> dict:
    """The tap's own catalog with all of charges and nothing else chosen."""
    catalog = tap_stripe.discover()
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            entry["metadata"]["selected"] = stream["tap_stream_id"] == "charges"
    return catalog


def main() -> None:
    url, key, out = sys.argv[1:]
    folder = Path(out)
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=DAYS)
    config = {
        # None stands for the account of the key.
        "account_id": None,
        "client_secret": key,
        "start_date": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "catalog.json").write_text(json.dumps(selected()))
    # The fake account cannot expand; without the refunds of each charge the tap has less to do.
    tap_stripe.STREAM_TO_EXPAND_FIELDS["charges"] = []
    send_to(url)
    sys.argv[1:] = ["--config", str(folder / "config.json"), "--catalog", str(folder / "catalog.json")]
    with open(folder / "charges.ndjson", "w", encoding="utf-8") as sys.stdout:
        tap_stripe.main()
    sys.stdout = sys.__stdout__


if __name__ == "__main__":
    main()
