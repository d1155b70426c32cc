"""Turns the charges of an account into Parquet with dlt's REST client and filesystem destination: `rival_dlt.py URL KEY OUT`."""

import os
import sys
from pathlib import Path

url, key, out = sys.argv[1:]
folder = Path(out).resolve()
# dlt reads these when it is imported: nothing outside of the folder, and no telemetry.
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
os.environ["DLT_DATA_DIR"] = str(folder / "dlt")
os.environ["DLT_CONFIG_FOLDER"] = str(folder / "dlt")

import dlt  # noqa: E402
from dlt.sources.helpers.rest_client import RESTClient  # noqa: E402
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth  # noqa: E402
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator  # noqa: E402


@dlt.resource(name="charges", primary_key="id", write_disposition="replace")
def charges():
    client = RESTClient(
        base_url=url,
        auth=BearerTokenAuth(key),
        paginator=JSONResponseCursorPaginator(
            cursor_path="data[-1].id", cursor_param="starting_after", has_more_path="has_more"
        ),
        data_selector="data",
    )
    yield from client.paginate("/v1/charges", params={"limit": 100})


def main() -> None:
    pipeline = dlt.pipeline(
        pipeline_name="rival",
        pipelines_dir=str(folder / "dlt"),
        destination=dlt.destinations.filesystem(bucket_url=folder.as_uri()),
        dataset_name="lake",
    )
    pipeline.run(charges(), loader_file_format="parquet").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
