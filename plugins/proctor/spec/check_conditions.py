"""Rules for conditions, for what a conditional ``next`` leads to, and for the way back."""

from __future__ import annotations

from collections.abc import Iterator

from proctor.spec import graph
from proctor.spec.context import Context
from proctor.spec.document import DataPath
from proctor.spec.errors import Problem, did_you_mean
from proctor.spec.model import Condition, SourceRef, Step


def conditions(context: Context) -> Iterator[Problem]:
    """Every rule of them."""
    yield from _definitions(context)
    yield from _uses(context)
    yield from _ways_back(context)
    yield from _last_step(context)


def _definitions(context: Context) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, item in enumerate(context.pipeline.conditions):
        path: DataPath = ("conditions", index)
        if not item.id:
            yield context.at(path, "the condition has no 'id'", "add 'id:'")
        elif item.id in seen:
            message = f"the condition {item.id!r} is here twice"
            yield context.at((*path, "id"), message, "rename one of them")
        seen.add(item.id)
        kinds = [key for key in ("function_name", "files", "value") if getattr(item, key)]
        if len(kinds) != 1:
            message = f"a condition asks one thing, this has {', '.join(kinds) or 'none'}"
            yield context.at(path, message, "write 'files', 'value' or 'function_name'")
        for key, source in _sources(item):
            yield from _output(context, (*path, key, "of"), source)
        if item.value and not {"equals", "at_least", "at_most"} & item.value.model_fields_set:
            remedy = "add 'equals', 'at_least' or 'at_most'"
            message = "nothing says what the value must be"
            yield context.at_key((*path, "value"), message, remedy)


def _sources(item: Condition) -> Iterator[tuple[str, SourceRef]]:
    if item.files:
        yield "files", item.files.of
    if item.value:
        yield "value", item.value.of


def _output(context: Context, path: DataPath, source: SourceRef) -> Iterator[Problem]:
    if source.step not in context.index:
        remedy = did_you_mean(source.step, context.index)
        yield context.at(path, f"there is no step {source.step!r}", remedy)
    elif source.output not in context.step(source.step).all_outputs:
        message = f"the step {source.step!r} has no output {source.output!r}"
        remedy = did_you_mean(source.output, context.step(source.step).all_outputs)
        yield context.at(path, message, remedy)


def _uses(context: Context) -> Iterator[Problem]:
    pipeline = context.pipeline
    known = {item.id: item for item in pipeline.conditions}
    before = graph.edges(pipeline)
    for number, step in enumerate(pipeline.steps):
        if step.next.branches and step.matrix:
            at: DataPath = ("steps", number, "next")
            message = f"{step.id!r} has a matrix, so it has no one way to go on"
            yield context.at_key(at, message, "let a step that gathers its cells decide")
        for index, branch in enumerate(step.next.branches):
            path: DataPath = ("steps", number, "next", "if", index, "condition")
            if branch.condition not in known:
                if "conditions" not in context.broken.top:
                    message = f"there is no condition {branch.condition!r}"
                    yield context.at(path, message, did_you_mean(branch.condition, known))
                continue
            for _, source in _sources(known[branch.condition]):
                there = source.step in context.index and step.id in before
                if there and not graph.stands_before(source.step, step.id, before):
                    message = f"{branch.condition!r} looks at {source.step!r}, which does not"
                    message += f" stand before {step.id!r}"
                    yield context.at(path, message, "let it look at what is there by then")


def _ways_back(context: Context) -> Iterator[Problem]:
    pipeline = context.pipeline
    before, back = graph.edges(pipeline), graph.back_edges(pipeline)
    stretch = graph.stretches(pipeline, before)
    for number, step in enumerate(pipeline.steps):
        path: DataPath = ("steps", number, "next")
        for target in back.get(step.id, ()):
            if target == step.id and target not in _asked(step):
                continue  # `else` itself: wait and look again
            if step.id not in stretch:
                message = f"{step.id!r} leads back to {target!r}, and runs once"
                yield context.at_key(path, message, "only a subject goes back: 'partition: true'")
            elif stretch.get(target) != stretch[step.id]:
                message = f"{step.id!r} leads back to {target!r}, which no subject reaches again"
                remedy = "a step that waits for all subjects stands between them"
                yield context.at_key(path, message, remedy)
        if not step.next.branches and len(back.get(step.id, ())) > 1:
            message = f"{step.id!r} leads back to several steps"
            yield context.at_key(path, message, "name the one to begin with")


def _asked(step: Step) -> set[str]:
    return {target for branch in step.next.branches for target in branch.target}


def _last_step(context: Context) -> Iterator[Problem]:
    """In a file in MedPerf's way, where every step says what follows, one step is the last."""
    steps = context.pipeline.steps
    if not any("next" in step.model_fields_set for step in steps) or context.broken.steps:
        return
    if any(s.after or s.inputs or s.outputs or s.approval or s.review for s in steps):
        return  # in the native way, where order follows from inputs
    last = [(n, step) for n, step in enumerate(steps) if not step.next.targets]
    if not last:
        message = "no step is the last one: each names a next"
        yield context.at_key(("steps",), message, "write 'next: null' in the last step")
    for number, step in last[1:]:
        message = f"{step.id!r} names no next step, and so does {last[0][1].id!r}"
        remedy = "one step is the last; let the other name what follows, or gather both in one"
        yield context.at(("steps", number), message, remedy)
    for number, step in last:
        if step.partitioned:
            message = f"the last step {step.id!r} runs per subject"
            remedy = "let a step that runs once gather the subjects (type: dummy does nothing)"
            yield context.at(("steps", number), message, remedy)
