"""The project's images, built by a real engine and looked into."""

import io
import json
import tarfile

import pytest

from proctor.runtime import base_image, images
from proctor.runtime.base import EngineError
from proctor.runtime.choose import choose
from proctor.runtime.host import own_images, steps_digest

pytestmark = pytest.mark.docker

LOCKED = {"network_mode": "none", "read_only": True, "cap_drop": ["ALL"], "user": "4321:4321"}
IMPORT_ALL = """
import importlib, importlib.util, json, pkgutil, sys, proctor_steps
failed = {}
for found in pkgutil.walk_packages(proctor_steps.__path__, "proctor_steps."):
    if ".embedded." in found.name or found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        failed[found.name] = error.name
names = "airflow proctor docker pip mlperf_loadgen onnxruntime openvino torch scipy".split()
there = [name for name in names if importlib.util.find_spec(name)]
print(json.dumps({"failed": failed, "there": there, "python": sys.version_info[:2]}))
"""


@pytest.fixture(scope="module")
def tags(docker_engine):
    return images.build(["steps", "drift", "sut-onnxruntime"], lambda line: None)


def run_in(engine, tag, *command):
    return engine.containers.run(tag, list(command), remove=True, tmpfs={"/tmp": ""}, **LOCKED)


def test_what_is_in_an_image(docker_engine, tags):
    # The program's own commands and tables are beside the steps; no container runs them.
    program = {"typer", "rich"}
    backends = {"mlperf_loadgen", "onnxruntime", "openvino", "torch", "starlette", "uvicorn"}
    wanted = {
        "steps": ([], backends | program | {"scipy"}),
        "drift": (["scipy"], backends | program),
        "sut-onnxruntime": (
            ["mlperf_loadgen", "onnxruntime"],
            {"openvino", "torch", "scipy"} | program,
        ),
    }
    for name, (there, absent) in wanted.items():
        python = "/opt/venv/bin/python"
        told = json.loads(
            run_in(docker_engine, tags[name], python, "-W", "ignore", "-c", IMPORT_ALL)
        )
        assert told["there"] == there
        assert set(told["failed"].values()) <= absent
        assert told["python"] == [3, 11]


def test_compiled_code_is_kept(docker_engine, tags):
    script = "find /opt/venv -name '*.py' | wc -l; find /opt/venv -name '*.pyc' | wc -l"
    sources, compiled = map(int, run_in(docker_engine, tags["steps"], "sh", "-c", script).split())
    assert compiled > 0.95 * sources > 500


def test_an_image_runs_as_nobody_special_and_keeps_no_wheels(docker_engine, tags):
    told = docker_engine.images.get(tags["steps"])
    assert told.attrs["Config"]["User"] == "10001:10001"
    script = "ls -d /wheelhouse 2>/dev/null; which pip; id -u"
    assert run_in(docker_engine, tags["steps"], "sh", "-c", script).split() == [b"4321"]


def test_the_code_inside_is_the_code_here(docker_engine, tags):
    script = (
        "import hashlib, json, pathlib, proctor_steps\n"
        "from proctor_steps.contract import digest, file_sha256\n"
        "root = pathlib.Path(proctor_steps.__file__).parent\n"
        "files = (p for p in root.rglob('*') if p.is_file() and '__pycache__' not in p.parts)\n"
        "files = sorted(files)\n"
        "print(digest([[p.relative_to(root).as_posix(), file_sha256(p)] for p in files]))"
    )
    told = run_in(docker_engine, tags["steps"], "/opt/venv/bin/python", "-c", script)
    assert told.decode().strip() == steps_digest()


def test_an_unchanged_image_is_not_built_again(docker_engine, tags):
    before = docker_engine.images.get(tags["steps"]).id
    said = []
    assert images.build(["steps"], said.append) == {"steps": tags["steps"]}
    assert said == [f"image {tags['steps']}: unchanged"]
    assert docker_engine.images.get("proctor/steps:latest").id == before
    assert images.missing(["steps"]) == []


def test_auto_takes_the_engine(tags, tmp_path):
    runtime, reason = choose("auto", tmp_path, {"proctor/steps", "proctor/sut-onnxruntime"}, str)
    assert runtime.name == "docker" and "images are here" in reason


def test_a_build_that_fails_says_where(docker_engine):
    text = b"FROM scratch\nCOPY nothing /\n"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    context.seek(0)
    with pytest.raises(EngineError, match=r"building proctor/broken failed:.*nothing"):
        images._run_build(docker_engine, context, "proctor/broken", {}, {}, lambda line: None)


def test_a_registry_that_does_not_answer_is_not_waited_for(docker_engine):
    # 192.0.2.0/24 is reserved for documentation: nothing is there.
    assert not base_image._registry_has("192.0.2.1:1/python:3.11-slim")


def test_every_recipe_has_a_name_of_its_own(docker_engine):
    made = [images.tag_of(name) for name in own_images()]
    assert len(set(made)) == len(made) == 5
