import pytest

from proctor.runtime import choose as module
from proctor.runtime.base import EngineError, RequestRefused
from proctor.runtime.choose import choose

OWN = {"proctor/steps"}


@pytest.fixture
def no_engine(monkeypatch, tmp_path):
    """As on a machine without an engine: nothing listens at its socket."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    from proctor.runtime import engine

    engine._client.cache_clear()
    yield
    engine._client.cache_clear()


def test_auto_without_an_engine_takes_processes_and_says_so(no_engine, tmp_path):
    runtime, reason = choose("auto", tmp_path, OWN)
    assert runtime.name == "process"
    assert "no Docker engine answers" in reason and "without isolation" in reason


def test_auto_without_an_engine_refuses_foreign_images(no_engine, tmp_path):
    with pytest.raises(RequestRefused, match=r"no Docker engine.*\n.*not alpine"):
        choose("auto", tmp_path, {*OWN, "alpine"})


def test_docker_without_an_engine_is_an_error(no_engine, tmp_path):
    with pytest.raises(EngineError, match="no Docker engine answers"):
        choose("docker", tmp_path, OWN)


def test_what_was_asked_for_is_taken(no_engine, tmp_path):
    for kind in ("process", "fake"):
        runtime, reason = choose(kind, tmp_path, OWN)
        assert runtime.name == kind and reason.startswith("asked for")
    with pytest.raises(RequestRefused, match="choose auto, docker or process"):
        choose("vm", tmp_path, OWN)


def test_auto_with_an_engine_takes_it(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_prepare", lambda images, say, local: None)
    runtime, reason = choose("auto", tmp_path, OWN)
    assert runtime.name == "docker" and "engine answers" in reason


def test_a_build_that_fails_is_the_reason(monkeypatch, tmp_path):
    def fail(images, say, local):
        raise EngineError("pip could not download the packages")

    monkeypatch.setattr(module, "_prepare", fail)
    runtime, reason = choose("auto", tmp_path, OWN)
    assert runtime.name == "process" and "pip could not" in reason
