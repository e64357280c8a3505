"""Addresses and names that people write down: of coordinators, proxies, sites, doors."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

SITE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_PROXY = re.compile(r"https?://[^\s/?#]+/?")
_DOOR = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")


def site_name(text: str) -> str:
    """A site's name, as it stands in addresses.

    Raises:
        ValueError: it is none; behind a bar, what to do.
    """
    if not SITE.fullmatch(text):
        shown = text if len(text) <= 60 else text[:60] + "…"
        remedy = "use small letters, digits and '-', 40 at most"
        raise ValueError(f"{shown!r} is no site's name|{remedy}")
    return text


def ready_uri(site: str, pipeline: str) -> str:
    """Airflow's asset that has an event whenever a site's run of a pipeline has succeeded."""
    return f"proctor-site://{site}/{pipeline}"


def proxy_address(text: str) -> str:
    """A proxy's address; it may hold a password, so no message repeats it.

    Raises:
        ValueError: it is none.
    """
    if not _PROXY.fullmatch(text):
        raise ValueError("this is no proxy's address|write it as http://proxy.example.org:3128")
    return text


def host_and_port(text: str) -> tuple[str, int]:
    """Where to listen.

    Raises:
        ValueError: it says that of no place.
    """
    found = _DOOR.fullmatch(text)
    if not found or not 0 < int(found["port"]) < 65536:
        raise ValueError(f"{text!r} is no address to listen at|write it as 0.0.0.0:8443")
    return found["host"].strip("[]"), int(found["port"])


def address_problem(url: str) -> str:
    """What is wrong with a coordinator's address, and behind a bar what to do; "" if nothing."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return f"{url!r} is no address|write it as https://coordinator.example.org"
    if "@" in parts.netloc:
        return "an address holds no name or password|the token has a file of its own"
    if parts.query or parts.fragment or parts.path.strip("/") or not host:
        return f"{url!r} is no coordinator's address|write it as https://coordinator.example.org"
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        return f"{url!r} is not https|reports leave over https only; write https://..."
    return ""


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
