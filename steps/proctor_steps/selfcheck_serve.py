"""A service that does nothing but answer: with it, a runtime's services are checked."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import Field

from proctor_steps.stage import Stage, StageParams, StepError, StepIO


class Params(StageParams):
    """How to answer."""

    text: str = Field(default="hello", description="what a GET of / gives")
    ready_after: float = Field(default=0, description="/ready gives 503 for so many seconds")
    end_after: float = Field(default=0, description="end with exit code 3 after that; 0: never")


def run(params: Params, io: StepIO) -> None:
    """Serve until somebody ends it."""
    host, _, port = io.contract.listen.rpartition(":")
    if not port:
        raise StepError("this stage is a service: the contract says nothing of where to listen")
    begun = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            late = self.path == "/ready" and time.monotonic() - begun < params.ready_after
            body = params.text.encode()
            self.send_response(503 if late else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer((host, int(port)), Handler) as server:
        io.say("serving")
        server.timeout = 0.1
        while not params.end_after or time.monotonic() - begun < params.end_after:
            server.handle_request()
    print("the service ends, as asked", file=sys.stderr, flush=True)
    sys.exit(3)


STAGE = Stage(
    "selfcheck serve",
    "Serve as told, to check a runtime's services (`proctor runtime check`).",
    Params,
    run,
)
