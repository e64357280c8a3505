"""Which step stands before which, and the cycles among them. Nothing here recurses."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence

from proctor.spec.document import DataPath
from proctor.spec.model import Pipeline, Step

Edges = dict[str, tuple[str, ...]]


def sources(step: Step) -> set[str]:
    """The steps whose outputs a step reads, or shows as evidence."""
    named = {item.source.step for _, item in step.all_inputs.values() if item.source}
    return named | {source.step for source in (step.approval.evidence if step.approval else ())}


def edges(pipeline: Pipeline) -> Edges:
    """Step -> the steps before it, as far as they exist; without those that lead back."""
    return _graph(pipeline)[0]


def back_edges(pipeline: Pipeline) -> Edges:
    """Step -> the steps that it leads back to: itself, or one that stands before it.

    Only a conditional ``next``, and the ``next`` of a step that one leads to, may lead back.
    """
    return _graph(pipeline)[1]


def _graph(pipeline: Pipeline) -> tuple[Edges, Edges]:
    ids = {step.id for step in pipeline.steps}
    conditional = _conditional_targets(pipeline)
    before: dict[str, set[str]] = {id: set() for id in ids}
    back: dict[str, set[str]] = {id: set() for id in ids}
    for step in pipeline.steps:
        served = {id for name in step.services for id in _service_sources(pipeline, name)}
        before[step.id] |= (sources(step) | set(step.after) | served) & ids
        if step.id not in conditional:
            for target in set(step.next.to) & ids:
                before[target].add(step.id)
    for step in pipeline.steps:
        targets = step.next.targets if step.next.branches or step.id in conditional else ()
        for target in dict.fromkeys(id for id in targets if id in ids):
            if stands_before(target, step.id, before):
                back[step.id].add(target)
            else:
                before[target].add(step.id)
    sort = {id: tuple(sorted(before[id])) for id in sorted(before)}
    return sort, {id: tuple(sorted(back[id])) for id in sorted(back)}


def ancestors(pipeline: Pipeline, id: str) -> set[str]:
    """Every step that stands before a step, directly or not."""
    before = edges(pipeline)
    if pipeline.subjects and (source := pipeline.subjects[1].source) and source.step in before:
        # Whoever runs per subject waits for what says which subjects there are.
        partitioned = [step.id for step in pipeline.steps if step.partitioned]
        before |= {each: (*before[each], source.step) for each in partitioned}
    found: set[str] = set()
    todo = list(before[id])
    while todo:
        if (other := todo.pop()) not in found:
            found.add(other)
            todo += before[other]
    return found - {id}


def stands_before(wanted: str, id: str, before: Mapping[str, Collection[str]]) -> bool:
    """Whether a step is another itself, or stands before it."""
    seen: set[str] = set()
    todo = [id]
    while todo:
        if (other := todo.pop()) == wanted:
            return True
        if other not in seen:
            seen.add(other)
            todo += before[other]
    return False


def stretches(pipeline: Pipeline, before: Edges) -> dict[str, int]:
    """Partitioned step -> the number of its stretch, from 1.

    Between two stretches stands a step that waits for all subjects of the first. Every step counts
    the stretches that are over before it begins.
    """
    partitioned = {step.id for step in pipeline.steps if step.partitioned}
    over: dict[str, int] = {}
    for id in order(before):
        over[id] = max(
            (over[u] + (u in partitioned and id not in partitioned) for u in before[id]), default=0
        )
    return {id: over[id] + 1 for id in sorted(partitioned & set(over))}


def _service_sources(pipeline: Pipeline, name: str) -> set[str]:
    """The steps whose outputs a service reads: whoever needs the service waits for them."""
    return pipeline.services[name].sources if name in pipeline.services else set()


def _conditional_targets(pipeline: Pipeline) -> set[str]:
    found: set[str] = set()
    for step in pipeline.steps:
        found.update(t for branch in step.next.branches for t in branch.target)
        if step.next.branches:
            found.update(step.next.otherwise)
    return found


def order(before: Mapping[str, Sequence[str]]) -> list[str]:
    """Each behind those before it; among those that are free to go, the smallest first."""
    waiting = {id: len(upstream) for id, upstream in before.items()}
    after: dict[str, list[str]] = {id: [] for id in before}
    for id, upstream in before.items():
        for source in upstream:
            after[source].append(id)
    ready = sorted(id for id, count in waiting.items() if not count)
    done: list[str] = []
    while ready:
        done.append(heapq.heappop(ready))
        for follower in after[done[-1]]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    return done


def cycles(before: Edges) -> list[list[str]]:
    """One cycle for each knot, written in the order of the work: ``a -> b -> a``."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in before:
        if start not in done:
            cycle = _cycle_from(start, before, done)
            if cycle:
                found.append(cycle)
    return found


def _cycle_from(start: str, before: Edges, done: set[str]) -> list[str] | None:
    """The first cycle met on a depth-first walk; everything walked becomes ``done``."""
    path: list[str] = [start]
    place = {start: 0}
    walks: list[Iterator[str]] = [iter(before[start])]
    cycle: list[str] | None = None
    while walks:
        nearest = next(walks[-1], None)
        if nearest is None:
            walks.pop()
            done.add(path[-1])
            del place[path.pop()]
        elif nearest in place:
            if cycle is None:
                cycle = [nearest, *reversed(path[place[nearest] :])]
        elif nearest not in done:
            place[nearest] = len(path)
            path.append(nearest)
            walks.append(iter(before[nearest]))
    return cycle


def reference(pipeline: Pipeline, source: str, target: str) -> DataPath:
    """Path of the value that puts ``source`` before ``target``."""
    for number, step in enumerate(pipeline.steps):
        path: DataPath = ("steps", number)
        if step.id == source and target in step.next.targets:
            return (*path, "next")
        if step.id != target:
            continue
        for below, item in step.all_inputs.values():
            if item.source and item.source.step == source:
                return (*path, *below)
        if source in step.after:
            return (*path, "after", step.after.index(source))
        for name in step.services:
            if source in _service_sources(pipeline, name):
                return (*path, "services")
        for index, evidence in enumerate(step.approval.evidence if step.approval else ()):
            if evidence.step == source:
                return (*path, "approval", "evidence", index)
    return ("steps",)
