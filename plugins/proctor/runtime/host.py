"""What of this host shapes a result: its fingerprint, and the code that processes run."""

from __future__ import annotations

import os
import platform
import re
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from proctor.runtime.base import RequestRefused
from proctor.shipped import shipped
from proctor_steps.contract import digest, file_sha256
from proctor_steps.stages import IMAGE_PREFIX

CERTIFICATE_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
)
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_GPU_DRIVER = Path("/sys/module/nvidia/version")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def own_image(image: str) -> str | None:
    """The folder's name in containers/ of one of the project's own images, else ``None``."""
    name = image.removeprefix(IMAGE_PREFIX).removesuffix(":latest")
    return name if image.startswith(IMAGE_PREFIX) and name in own_images() else None


def own_images() -> tuple[str, ...]:
    """Names of the project's images, without their prefix."""
    return tuple(sorted(p.parent.name for p in shipped("containers").glob("*/requirements.txt")))


def requirements(image: str) -> tuple[str, ...]:
    """Names of the packages that one of the project's images holds, ``-r`` lines followed."""
    return tuple(_requirements(shipped("containers") / image / "requirements.txt"))


def _requirements(path: Path) -> list[str]:
    found: list[str] = []
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found += _requirements(path.parent / text[3:].strip())
        elif name := _REQUIREMENT.match(text):
            found.append(name[0])
    return found


def steps_package() -> Path:
    """The folder of the installed ``proctor_steps``."""
    spec = util.find_spec("proctor_steps")
    if spec is None or spec.origin is None:
        raise RequestRefused("the package proctor_steps is not installed beside proctor")
    return Path(spec.origin).parent


def steps_files() -> list[Path]:
    """The package's files, sorted: code, rules, embedded data."""
    found = (p for p in steps_package().rglob("*") if p.is_file())
    return sorted(p for p in found if "__pycache__" not in p.parts)


def steps_digest() -> str:
    """Digest of all files of ``proctor_steps``."""
    root = steps_package()
    return digest([[p.relative_to(root).as_posix(), file_sha256(p)] for p in steps_files()])


def code_identity(image: str) -> str:
    """What a step of one of the project's images runs here: its code and the versions it uses.

    Raises:
        RequestRefused: a package that the image would hold is not installed.
    """
    versions: dict[str, str] = {"python": platform.python_version()}
    missing = []
    for name in requirements(image):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise RequestRefused(
            f"image {IMAGE_PREFIX}{image} as a process needs {', '.join(missing)}; "
            f"pip install {' '.join(missing)}, or use a Docker engine"
        )
    return digest({"steps": steps_digest(), "versions": versions})


def certificate_variables() -> dict[str, str]:
    """Where this host keeps the certificates it trusts, as programs are told."""
    values = {name: os.environ.get(name, "") for name in CERTIFICATE_VARIABLES}
    return {name: value for name, value in values.items() if value and Path(value).exists()}


def proxy_variables() -> dict[str, str]:
    """The way out, for a step that may use the network; not where it holds a password."""
    names = [name for each in _PROXIES for name in (each, each.upper())]
    values = {name: os.environ.get(name, "") for name in names}
    return {name: value for name, value in values.items() if value and "@" not in value}


def fingerprint() -> dict[str, Any]:
    """What of this host shapes a measurement; the same at every call until the host changes."""
    return {
        "host": platform.node(),
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": _cpu_model(),
        "cpus": os.cpu_count() or 0,
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "cgroup": 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "governor": _first_line(_GOVERNOR),
        "transparent_hugepage": _first_line(_HUGE_PAGES),
        **({"gpu_driver": driver} if (driver := _first_line(_GPU_DRIVER)) else {}),
    }


@lru_cache(maxsize=1)
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
