import pytest

from proctor.runtime import selfcheck
from proctor.runtime.base import EngineError, RequestRefused
from proctor.runtime.choose import make
from proctor.runtime.fake import FakeRuntime
from proctor.runtime.selfcheck import OUT, Bench, fake_script


@pytest.fixture
def bench(tmp_path):
    runtime = FakeRuntime(tmp_path / "home")
    made = Bench(runtime, tmp_path / "home", script=fake_script(runtime))
    yield made
    made.clean()


@pytest.mark.parametrize("check", selfcheck.CHECKS, ids=lambda c: c.__name__)
def test_selfcheck(bench, check):
    check(bench)


@pytest.fixture
def fake(tmp_path):
    return FakeRuntime(tmp_path)


def outcome_of(fake, step, attempt=1, outputs=OUT):
    request = Bench(fake, fake.home, run="run").request(step, attempt=attempt, outputs=outputs)
    return fake.collect(fake.start(request))


def test_without_a_script_a_step_succeeds_at_once(fake):
    outcome = outcome_of(fake, "any")
    assert outcome.failure is None
    assert fake.store.read(outcome.outputs["made"], "fake.txt") == b"any/made\n"


@pytest.mark.parametrize(
    ("told", "judged"),
    [
        ("ok", None),
        ("data_error", "data"),
        ("step_error", "step"),
        ("no_result", "step"),
        ("out_of_memory", "out_of_memory"),
        ("killed", "killed"),
        ("gone", "engine"),
    ],
)
def test_every_scripted_outcome_is_judged_as_meant(fake, told, judged):
    fake.script({"s": {"outcome": told, "message": "why"}})
    failure = outcome_of(fake, "s").failure
    assert (failure and failure.kind) == judged


def test_patterns_attempts_and_metrics(fake):
    fake.script(
        {
            "score.*": {
                "metrics": {"accuracy": {"value": 0.5}},
                "attempts": [{"outcome": "killed"}, {"outcome": "ok"}],
            }
        }
    )
    assert outcome_of(fake, "score.Server", 1).failure.kind == "killed"
    for attempt in (2, 3):
        outcome = outcome_of(fake, "score.Server", attempt)
        assert outcome.failure is None
        assert outcome.result.metrics == {"accuracy": {"value": 0.5}}


def test_refusals_are_raised_at_the_start_and_not_counted(fake):
    fake.script(
        {"r": {"outcome": "refused", "message": "no such image"}, "e": {"outcome": "engine"}}
    )
    with pytest.raises(RequestRefused, match="no such image"):
        outcome_of(fake, "r")
    with pytest.raises(EngineError):
        outcome_of(fake, "e")
    outcome_of(fake, "other")
    assert [start["step"] for start in fake.starts()] == ["other"]
    assert fake.starts("r") == []


def test_a_script_holds_for_what_was_started_under_it(fake):
    fake.script({"s": {"outcome": "hang"}})
    handle = fake.start(Bench(fake, fake.home, run="run").request("s"))
    fake.script({})
    assert make("fake", fake.home).poll(handle).phase == "running"


def test_identities_are_scripted(fake):
    assert fake.identity("proctor/steps") == "fake:proctor/steps"
    fake.script({}, identities={"proctor/steps": "sha256:2"}, fingerprint={"cpu": "x"})
    assert fake.identity("proctor/steps") == "sha256:2"
    assert fake.fingerprint() == {"runtime": "fake", "cpu": "x"}


def test_an_unknown_runtime_is_refused(tmp_path):
    with pytest.raises(RequestRefused, match="auto, docker or process"):
        make("podman", tmp_path)
