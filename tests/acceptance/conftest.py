"""Turns servers and lakes into fixtures, each made once for the whole session."""

import pathlib

import pytest

import duck
import fake as fakes
import harness
import seaweed as seaweeds


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder for the lakes of the session."""
    return tmp_path_factory.mktemp("lakes")


@pytest.fixture(scope="session")
def fake():
    """The program's own fake account with 3,000 charges."""
    with fakes.Fake(charges=3_000, seed=7) as running:
        yield running


@pytest.fixture(scope="session")
def seaweed():
    """A real S3 server with the bucket `lake`."""
    with seaweeds.Seaweed() as running:
        yield running


@pytest.fixture(scope="session")
def lake(fake, home):
    """A lake on disk, synced once from `fake`. Tests only read it."""
    path = home / "local"
    harness.sync(fake, path, key=fake.key).expect(0)
    return path


@pytest.fixture
def con(lake):
    """DuckDB with one view per table of `lake`."""
    with duck.connect() as connection:
        yield duck.views(connection, lake)


@pytest.fixture(scope="session")
def s3_lake(fake, seaweed):
    """The same lake behind S3."""
    url = "s3://lake/stripe/test"
    harness.sync(fake, url, key=fake.key, env=seaweed.env).expect(0)
    return url


@pytest.fixture(scope="session")
def samples():
    """The folder of published sample objects, one file per resource."""
    return pathlib.Path(__file__).parents[1] / "data/samples"
