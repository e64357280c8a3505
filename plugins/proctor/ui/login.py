"""The one-time login link: a nonce in the URL's fragment, taken once, for Airflow's own cookie."""

from __future__ import annotations

import hmac
import json
import time
from pathlib import Path
from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

from proctor.site.settings import SIMPLE_ROLES

VALID_SECONDS = 60.0

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Proctor: logging in</title>
<link rel="stylesheet" href="/proctor/static/pages.css">
<main><h1>Logging in&hellip;</h1><p id="say" role="status">One moment.</p></main>
<script src="login.js"></script></html>"""

SCRIPT = """const nonce = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
fetch("take", {method: "POST", headers: {"Content-Type": "application/json"},
  body: JSON.stringify({nonce}), credentials: "same-origin"}).then(answer => {
    if (answer.ok) location.replace("/");
    else document.getElementById("say").textContent =
      "This link was used already or is older than a minute. Get a new one in a terminal: " +
      "proctor login (with the --home that Proctor was started with).";
  });
"""


def take_nonce(folder: Path, given: str) -> str:
    """Who logs in where ``given`` is the waiting nonce, then used up; else "".

    A wrong guess burns none.
    """
    path = folder / "login.json"
    try:
        waiting = json.loads(path.read_text())
        age, nonce = time.time() - float(waiting["made_at"]), str(waiting["nonce"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    same = hmac.compare_digest(nonce.encode(), given.encode(errors="replace"))
    if not (same and age <= VALID_SECONDS):
        return ""
    try:
        path.unlink()
    except FileNotFoundError:
        return ""  # another request was faster: a nonce is good for one
    return str(waiting["user"])


def token_of(manager: Any, name: str, role: str) -> str:
    """A session's token for the user of that name, as the auth manager makes it."""
    if isinstance(manager, SimpleAuthManager):
        user = SimpleAuthManagerUser(username=name, role=SIMPLE_ROLES[role])
        return str(manager.generate_jwt(user))
    return str(manager.token_of(name, role))
