"""Writes down what the engine says of one home's containers, in a process of its own."""

import json
import sys
from pathlib import Path

import docker


def main() -> None:
    home, out = sys.argv[1:]
    client = docker.from_env(timeout=None)
    labels = {"type": "container", "label": [f"proctor.home={home}"]}
    with Path(out).open("a", buffering=1) as file:
        events = client.events(decode=True, filters=labels)
        file.write("{}\n")  # it listens
        for event in events:
            file.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    main()
