"""ODRL policies: what their permissions, prohibitions and duties say of a purpose.

ODRL Information Model 2.2 (https://www.w3.org/TR/odrl-model/) and the actions of its vocabulary
(https://www.w3.org/TR/odrl-vocab/). A benchmark copies the data, reads, selects and preprocesses
them; it passes nothing on. Croissant 1.1 also names a DUO term as an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proctor_steps.policy import constraints, duo
from proctor_steps.policy.clauses import Asked, Clause, Says
from proctor_steps.policy.jsonld import Node
from proctor_steps.policy.purposes import TRAITS, all_of

RULES = ("permission", "prohibition", "obligation")
# Done with the data in every run; nothing of the last line is. Of any other, only a person can say.
_DONE = ("use", "reproduce", "copy", "read", "cc:Reproduction")
_COMMERCIAL = ("commercialize", "cc:CommercialUse")
_NEVER = ("distribute", "share", "sell", "give", "lend", "lease", "license", "transfer", "grantUse",
          "export", "stream", "print", "play", "translate", "textToSpeech", "watermark", "write",
          "writeTo", "append", "appendTo", "adHocShare", "cc:Distribution",
          "cc:Sharing")  # fmt: skip
_AFTER = ("attribute", "inform", "delete", "distribute", "shareAlike", "nextPolicy", "attachPolicy",
          "attachSource", "cc:Attribution", "cc:Notice", "cc:ShareAlike",
          "cc:SourceCode")  # fmt: skip


@dataclass(frozen=True)
class _Rule:
    """A rule as judged. ``applies``: it is of this use, and its constraints hold.

    ``duties``: what its constraints ask for after the use.
    """

    applies: bool | None
    words: str
    where: str
    reason: str
    duties: tuple[Clause, ...] = ()


def is_policy(node: Node) -> bool:
    """Whether a node has rules of ODRL's."""
    return any(node.get(name) for name in RULES)


def clauses(policy: Node, ask: Asked) -> list[Clause]:
    """What a policy says of the purpose."""
    found = _permissions(policy, ask)
    permitted = any(clause.says == "permits" for clause in found)
    strategy = {node.name for node in policy.get("conflict")}
    for rule in policy.get("prohibition"):
        clause = _prohibition(rule, policy, ask)
        # Where a policy names no strategy, a conflict voids it: the prohibition stands either way.
        if clause and not (permitted and strategy == {"perm"} and clause.says != "duty"):
            found.append(clause)
    for duty in policy.get("obligation"):
        found += _duty("odrl:obligation", duty, ask)
    for other in policy.get("inheritFrom"):
        reason = "its rules stand elsewhere, and nothing is fetched"
        found.append(Clause("odrl:inheritFrom", other.word, other.where, "undecided", reason))
    return found


# --- permissions ---------------------------------------------------------------------------------


def _permissions(policy: Node, ask: Asked) -> list[Clause]:
    """What permits; else what might; else why none of them does."""
    judged = [(node, _permission(node, policy, ask)) for node in policy.get("permission")]
    granted = [(node, rule) for node, rule in judged if rule.applies]
    if granted:
        found = []
        for node, rule in granted:
            found += [Clause("odrl:permission", rule.words, rule.where, "permits"), *rule.duties]
            for duty in node.get("duty", "obligation"):
                found += _duty("odrl:duty", duty, ask)
        return found
    open_ = [rule for _, rule in judged if rule.applies is None]
    says: Says = "undecided" if open_ else "forbids"
    return [
        Clause("odrl:permission", rule.words, rule.where, says, rule.reason)
        for rule in open_ or [rule for _, rule in judged]
    ]


def _permission(node: Node, policy: Node, ask: Asked) -> _Rule:
    actions = _actions(node, policy)
    grants = [_grants(action, ask) for action in actions]
    of_action = True if True in grants else None if None in grants or not grants else False
    reason = {
        None: "whether that is this use cannot be told from here",
        False: f"{ask.purpose} is not such a use",
    }.get(of_action, "")
    return _judged(node, policy, actions, of_action, reason, ask)


def _grants(action: Node, ask: Asked) -> bool | None:
    """Whether a permission of this action is one of what is done here."""
    if duo.is_duo(action.word):
        says = duo.clause(action.word, action.where, ask).says
        return {"permits": True, "forbids": False}.get(says)
    commercial = action.name in _COMMERCIAL and "commercial" in TRAITS[ask.purpose]
    return True if commercial or action.name == "use" else None


# --- prohibitions and duties ---------------------------------------------------------------------


def _prohibition(node: Node, policy: Node, ask: Asked) -> Clause | None:
    actions = _actions(node, policy)
    each = [_is_done(action, ask) for action in actions]
    of_action = True if True in each else None if None in each or not each else False
    unclear = "whether that is done here cannot be told" if of_action is None else ""
    rule = _judged(node, policy, actions, of_action, unclear, ask)
    if rule.applies:
        return Clause("odrl:prohibition", rule.words, rule.where, "forbids", "it is prohibited")
    if rule.applies is None:
        return Clause("odrl:prohibition", rule.words, rule.where, "undecided", rule.reason)
    if of_action is False and not all(a.name in _COMMERCIAL for a in actions):
        return Clause("odrl:prohibition", rule.words, rule.where, "duty", "it must not be done")
    return None


def _is_done(action: Node, ask: Asked) -> bool | None:
    if duo.is_duo(action.word):
        return constraints.is_purpose(action.word, ask)
    if action.name in _COMMERCIAL:
        return "commercial" in TRAITS[ask.purpose]
    return True if action.name in _DONE else False if action.name in _NEVER else None


def _duty(kind: str, node: Node, ask: Asked) -> list[Clause]:
    """Duties that follow from the use are told; one that may have to come first is not presumed."""
    found = []
    for action in _actions(node, node) or [node]:
        if duo.is_duo(action.word):
            found.append(duo.clause(action.word, action.where, ask))
        elif action.name in _AFTER:
            found.append(Clause(kind, action.name, action.where, "duty"))
        else:
            reason = "whether that was done cannot be told from here"
            words = action.name or "a duty without words"
            found.append(Clause(kind, words, action.where, "undecided", reason))
    return found


# --- any rule ------------------------------------------------------------------------------------


def _judged(
    node: Node,
    policy: Node,
    actions: Sequence[Node],
    of_action: bool | None,
    reason: str,
    ask: Asked,
) -> _Rule:
    """The rule's action with its constraints, its asset and its parties."""
    limits = [*node.get("constraint"), *(r for a in actions for r in a.get("refinement"))]
    found = constraints.judge(limits, ask)
    applies = all_of([of_action, constraints.together(found), *_others(node, policy, ask)])
    words = ", ".join([a.name or "an action without words" for a in actions] or ["no action"])
    words = ", ".join([words, *(judged.text for judged in found)])
    unmet = next((judged for judged in found if judged.holds is not True), None)
    if unmet is not None and of_action is not False:
        told = "cannot be judged" if unmet.holds is None else "does not hold"
        note = f": {unmet.note}" if unmet.note else ""
        return _Rule(applies, words, unmet.where, f"its constraint {told}{note}")
    if applies is None and not reason:
        reason = "it is of a certain party or of another asset, which cannot be told from here"
    return _Rule(
        applies, words, node.where, reason, tuple(duty for each in found for duty in each.duties)
    )


def _others(node: Node, policy: Node, ask: Asked) -> list[bool | None]:
    """``None`` for a rule of a certain party, or of something else than the dataset."""
    parties = [*node.get("assignee"), *policy.get("assignee")]
    targets = [t.word for t in (node.get("target") or policy.get("target"))]
    strange = bool(targets) and bool(ask.asset) and not set(targets) & ask.asset
    return [None] if parties or strange else []


def _actions(node: Node, policy: Node) -> list[Node]:
    """The rule's actions, or the policy's (a compact policy); ``rdf:value`` names a refined one."""
    return [_named(action) for action in node.get("action") or policy.get("action")]


def _named(action: Node) -> Node:
    inner = action.one("rdf:value", "value")
    if inner is None or action.word:
        return action
    value = {**action.value, "@id": inner.word}
    return Node(value, action.where, action.prefixes)
