"""The stages that Proctor's own images run, and the module of each; nothing is imported for it."""

from __future__ import annotations

from typing import Final

IMAGE_PREFIX: Final = "proctor/"  # of the names of those images

MODULES: Final = {
    "dataset fetch": "dataset.fetch",
    "dataset filter-coco": "dataset.filter_coco",
    "dataset policy": "policy.usage",
    "dataset inventory": "dataset.inventory",
    "dataset catalogue": "dataset.catalogue",
    "model fetch": "model.fetch",
    "subjects list": "dataset.subjects",
    "sut serve": "sut.serve",
    "loadgen tune": "loadgen.tune",
    "loadgen run": "loadgen.run",
    "accuracy score": "accuracy.score",
    "compliance verify": "compliance.verify",
    "report html": "report.html",
    "drift judge": "drift.stage",
    "submission preflight": "submission.preflight",
    "submission package": "submission.package",
    "submission check": "submission.check.stage",
    "submission official-check": "submission.check.second",
    "submission upload": "submission.upload",
    "medperf subjects": "medperf.subjects",
    "medperf conditions": "medperf.conditions",
    "selfcheck act": "selfcheck",
    "selfcheck serve": "selfcheck_serve",
}
