"""Match the configurations of two sides, those of a user's own network by FILE.py:FUNCTION.

A spec holds the digest of such a network's text, so an edited network has other ids. Its revisions are still the same
configurations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vnbench.analysis.comparison.sides import Side, renamed
from vnbench.records.spec.trial_spec import TrialSpec


def lasting_id(spec: TrialSpec) -> str:
    """Return the id of a spec that does not change with the text of a user's own network; otherwise its spec_id."""
    if spec.model_id is None:
        return spec.spec_id
    return replace(spec, model_id="").spec_id


def aligned(baseline: Side, candidate: Side) -> tuple[Side, tuple[str, ...]]:
    """Return the candidate with its configurations under the baseline's ids, and a line for each edited network.

    Equal ids match first. What remains of a user's own network matches if each side has one text of it left. If a side
    has several, none matches and the candidate gets a note: which one to compare is not known.
    """
    left = _edited(baseline, other=candidate), _edited(candidate, other=baseline)
    texts = [_texts(specs) for specs in left]
    unclear = {name for name in texts[0].keys() & texts[1].keys() if max(len(one[name]) for one in texts) > 1}
    earlier = {lasting_id(spec): spec for spec in left[0] if spec.model not in unclear}
    new_ids: dict[str, str] = {}
    remarks: set[str] = set()
    for spec in left[1]:
        before = earlier.get(lasting_id(spec))
        if before is not None:
            new_ids[spec.spec_id] = before.spec_id
            ids = f"{before.model_id} before, {spec.model_id} after"
            remarks.add(f"{spec.model}: its text changed ({ids}); it is compared by its name")
    notes = (
        f"{name}: one side has several texts of it; give the records of one text as baseline, and of one as candidate"
        for name in sorted(unclear)
    )
    return replace(renamed(candidate, new_ids), notes=(*candidate.notes, *notes)), tuple(sorted(remarks))


def _edited(side: Side, *, other: Side) -> list[TrialSpec]:
    """Return the specs of users' own networks that the other side does not have."""
    specs = [one.spec for one in side.configurations.values() if one.spec is not None]
    return [spec for spec in specs if spec.model_id is not None and spec.spec_id not in other.configurations]


def _texts(specs: Iterable[TrialSpec]) -> dict[str, set[str | None]]:
    """Return the digests of the text of each network, by FILE.py:FUNCTION."""
    found: dict[str, set[str | None]] = {}
    for spec in specs:
        found.setdefault(spec.model, set()).add(spec.model_id)
    return found
