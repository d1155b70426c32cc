"""Turns a list of faults into a fake account that misbehaves, and tells what it was asked."""

import json
import pathlib
import tempfile

import fake
import harness


def toml(value):
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


class Misbehaving(fake.Fake):
    """`fake-stripe --faults` with these faults, each a dict of the keys of one `[[fault]]`."""

    def __init__(self, *faults, charges=250, seed=7, now=None, flags=(), **settings):
        super().__init__(charges=charges, seed=seed, now=now)
        lines = [f"{name} = {toml(value)}" for name, value in settings.items()]
        for fault in faults:
            lines += ["[[fault]]"] + [f"{name} = {toml(value)}" for name, value in fault.items()]
        self.folder = tempfile.TemporaryDirectory(prefix="stripelake-faults-")
        path = pathlib.Path(self.folder.name) / "faults.toml"
        path.write_text("\n".join(lines) + "\n")
        self.args += ["--faults", str(path), *flags]

    def stats(self):
        """Requests by path, status, fault and second."""
        return self.get("/_fake/stats")

    def __exit__(self, *more):
        super().__exit__(*more)
        self.folder.cleanup()


def sync(server, lake, *args, timeout="6s", rate="500", progress="none", key=None, patience=120, **options):
    """A sync that is less patient with a connection than a user would be."""
    base = ["sync", "--lake", lake, "--api-base", server.url, "--rate", rate, "--progress", progress]
    base += ["--timeout", timeout]
    return harness.run(*base, *args, key=key or server.key, timeout=patience, **options)
