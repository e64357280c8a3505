"""Writes down what the engine says of one home's containers, in a process of its own."""

import contextlib
import json
import sys
import time
from pathlib import Path

import docker
import docker.errors
import requests

_GONE = (docker.errors.DockerException, requests.RequestException, OSError, ValueError)


def main() -> None:
    home, out = sys.argv[1:]
    filters = {"type": "container", "label": [f"proctor.home={home}"]}
    since = int(time.time())
    with Path(out).open("a", buffering=1) as file:
        while True:
            with contextlib.suppress(*_GONE):
                client = docker.from_env(timeout=None)
                events = client.events(decode=True, filters=filters, since=since)
                file.write("{}\n")  # it listens
                for event in events:
                    since = event["time"]
                    file.write(json.dumps(event) + "\n")
            time.sleep(0.2)  # the engine has gone: until it is back


if __name__ == "__main__":
    main()
