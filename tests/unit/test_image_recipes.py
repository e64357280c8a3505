"""The images' recipes, without an engine: what is in them, what their tags depend on."""

import ast
import re
import sys
from importlib import metadata

import pytest

from proctor.runtime import host, images
from proctor.runtime.artifacts import LocalArtifacts
from proctor.runtime.attempt import Attempt
from proctor.runtime.base import RequestRefused, StartRequest
from proctor.runtime.container import user
from proctor.runtime.host import own_image, own_images, requirements
from proctor_steps.contract import load_contract

BACKENDS = {"onnxruntime", "openvino", "torch", "mlcommons-loadgen"}
TERMINAL = {"cli.py", "commands.py", "show.py"}
SERVER = {"httptools", "starlette", "uvicorn", "uvloop"}


def test_the_projects_images():
    assert own_images() == ("drift", "steps", "sut-onnxruntime", "sut-openvino", "sut-torch")
    assert own_image("proctor/steps") == "steps" == own_image("proctor/steps:latest")
    for other in ("steps", "proctor/none", "proctor/steps:1", "x/proctor/steps", "proctor/../x"):
        assert own_image(other) is None


def test_no_image_holds_airflow_or_the_engines_client():
    for image in own_images():
        names = closure(requirements(image))
        assert not [name for name in names if "airflow" in name or name in ("docker", "proctor")]


def test_only_the_sut_images_measure():
    assert not (BACKENDS | SERVER) & set(requirements("steps"))
    for backend in ("onnxruntime", "openvino", "torch"):
        extra = set(requirements(f"sut-{backend}")) - set(requirements("steps"))
        assert extra == {"mlcommons-loadgen", backend} | SERVER


def test_only_the_image_that_judges_has_the_statistics():
    assert set(requirements("drift")) - set(requirements("steps")) == {"scipy"}
    found = {path.parent.name for path in host.steps_files() if path.suffix == ".py"
             and "scipy" in imports(path)}  # fmt: skip
    assert found == {"drift"}


def test_the_images_hold_whatever_the_steps_import():
    """Backends, LoadGen and the server aside, which only the SUT images have, and scipy.

    What the steps offer on the terminal is no step: the program ``proctor`` alone imports it.
    """
    known = {name for names in closure_names().values() for name in names}
    missing = {}
    for path in host.steps_files():
        # What made the embedded data is run by hand, where everything is installed.
        if path.suffix == ".py" and "embedded" not in path.parts and path.name not in TERMINAL:
            for module in imports(path):
                if module not in known and module not in sys.stdlib_module_names:
                    missing.setdefault(module, path.name)
    allowed = {
        "proctor_steps",
        "torch",
        "openvino",
        "onnxruntime",
        "mlperf_loadgen",
        "scipy",
    } | SERVER
    assert {m: f for m, f in missing.items() if m not in allowed} == {}


def imports(path):
    """Top-level names of what a module imports, but for what only type checkers read."""
    tree = ast.parse(path.read_text())
    skipped = [
        n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    hidden = {id(inner) for n in skipped for inner in ast.walk(n)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names):
    """The packages that installing these would bring, as they are installed here."""
    found, waiting = set(), [canonical(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for needed in metadata.requires(name) or ():
            if "extra ==" not in needed:
                waiting.append(canonical(re.match(r"[A-Za-z0-9._-]+", needed)[0]))
        waiting = [w for w in waiting if installed(w)]
    return found


def installed(name):
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def closure_names():
    """Package -> the modules it provides, for what the steps image holds."""
    wanted, provided = closure(requirements("steps")), {}
    for module, packages in metadata.packages_distributions().items():
        for package in packages:
            if canonical(package) in wanted:
                provided.setdefault(package, []).append(module)
    return provided


def test_every_package_of_an_image_is_pinned():
    pinned = {canonical(line.split("==")[0]) for line in images.constraints().splitlines()}
    for image in own_images():
        assert {canonical(n) for n in requirements(image)} <= pinned


def test_pins_name_no_other_indexs_build(monkeypatch, tmp_path):
    (tmp_path / "constraints.txt").write_text("torch==2.13.0+cpu\nnumpy==2.4.6 ; x\n")
    monkeypatch.setattr(images, "shipped", lambda name: tmp_path / name)
    assert images.constraints() == "torch==2.13.0\nnumpy==2.4.6 ; x\n"


def test_a_tag_follows_code_and_recipe(monkeypatch):
    tag = images.tag_of("steps")
    assert re.fullmatch(r"proctor/steps:[0-9a-f]{12}", tag)
    assert tag == images.tag_of("steps") != images.tag_of("sut-torch")
    for name, value in (("constraints", lambda: "x==1"), ("host.steps_digest", lambda: "other")):
        with monkeypatch.context() as changed:
            changed.setattr(f"proctor.runtime.images.{name}", value)
            assert images.tag_of("steps") != tag


def test_an_unknown_image_is_not_built():
    with pytest.raises(RequestRefused, match="no image nothing in containers/"):
        images.build(["nothing"])


def test_root_is_never_the_steps_user(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert user() == (10001, 10001)
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    monkeypatch.setattr("os.getegid", lambda: 5678)
    assert user() == (1234, 5678)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"outputs": [{"name": "a", "mount_path": f"/{i}"} for i in "xy"]}, "once"),
        ({"secrets": ["../x"]}, "named by letters"),
        ({"secrets": [".."]}, "named by letters"),
        ({"deadline_seconds": 0}, "positive"),
        ({"attempt": 0}, "counted from 1"),
    ],
)
def test_requests_that_no_runtime_can_serve(tmp_path, change, words):
    base = {"pipeline": "p", "run": "r", "step": "s", "attempt": 1, "image": "i", "command": ["c"]}
    request = StartRequest.model_validate({**base, **change})

    with pytest.raises(RequestRefused, match=words):
        Attempt.of(tmp_path, request).prepare(request, LocalArtifacts(tmp_path), container=False)


@pytest.mark.parametrize(
    ("image", "digest", "told"),
    [
        ("proctor/steps", "sha256:ab", "proctor/steps@sha256:ab"),
        ("host:5000/x/y:1@sha256:00", "sha256:ab", "host:5000/x/y:1@sha256:ab"),
        ("proctor/steps", "", ""),  # a process is in no container
    ],
)
def test_a_step_is_told_its_image_by_digest(tmp_path, image, digest, told):
    request = StartRequest(
        pipeline="p", run="r", step="s", attempt=1, image=image, command=("c",), deadline_seconds=9
    )
    attempt = Attempt.of(tmp_path, request)
    attempt.prepare(request, LocalArtifacts(tmp_path), container=bool(digest), image_digest=digest)
    assert load_contract(attempt.step_dir).image == told
