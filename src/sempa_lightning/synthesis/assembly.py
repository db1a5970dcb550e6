"""From all outputs to training rows, with an account of every one that is in none."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

from sempa_lightning.artifacts import SynthesisDir
from sempa_lightning.data.cache import content_hash
from sempa_lightning.files import replacing
from sempa_lightning.synthesis.arrangement import Arrange, Ranking
from sempa_lightning.synthesis.draft import Draft, json_line
from sempa_lightning.synthesis.filters import words

Filters = Mapping[str, Callable[[Draft], bool]]

DUPLICATE = "duplicate"
UNUSED = "neither chosen nor rejected"
_EXAMPLES = 3


@dataclass
class Account:
    """What became of the outputs: `outputs == kept + sum(rejected.values())`.

    Attributes:
        outputs: All of them.
        kept: Those that are a candidate of a row.
        rows: Rows written.
        rejected: The others, by reason.
        examples: The first rows.
    """

    outputs: int = 0
    kept: int = 0
    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: list[Ranking] = field(default_factory=list)

    def __str__(self) -> str:
        """Tell the numbers in one line."""
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.rejected.most_common())
        return f"{self.outputs} outputs, {self.kept} kept" + (f", rejected: {reasons}" if reasons else "")

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for the manifest."""
        return {
            "outputs": self.outputs,
            "kept": self.kept,
            "rows": self.rows,
            "rejected": dict(self.rejected.most_common()),
        }


def assemble(drafts: Iterable[Draft], filters: Filters, arrange: Arrange, folder: SynthesisDir) -> Account:
    """Write the rows, and what is in none with the reason; both files whole or not at all.

    An output is rejected by the first filter that it does not pass, and if the same words came before, for whatever
    sentence: what a model says to several sentences is a paraphrase of none. Without any row there is no file of rows.

    Args:
        drafts: All outputs; those of one prompt for one sentence in a row.
        filters: Checks by name.
        arrange: Makes rows of what is left of a sentence's outputs for a prompt.
        folder: Where the files are written.
    """
    account, seen = Account(), set[str]()
    with contextlib.ExitStack() as files:
        rows, rejected = (
            files.enter_context(files.enter_context(replacing(path)).open("w", encoding="utf-8"))
            for path in (folder.rows, folder.rejected)
        )
        for _, group in groupby(drafts, key=lambda draft: (draft.anchor, draft.prompt)):
            members = [_judged(draft, filters, seen) for draft in group]
            rankings = arrange([draft for draft in members if draft.reason is None])
            used = {id(draft) for ranking in rankings for part in ranking for draft in part}
            rows.writelines(json_line(_row(ranking)) for ranking in rankings)
            for draft in members:
                if id(draft) not in used:
                    reason = draft.reason or UNUSED
                    rejected.write(json_line(asdict(replace(draft, reason=reason))))
                    account.rejected[reason] += 1
            account.outputs += len(members)
            account.kept += len(used)
            account.rows += len(rankings)
            account.examples += rankings[: _EXAMPLES - len(account.examples)]
    if not account.rows:
        folder.rows.unlink()
    return account


def _judged(draft: Draft, filters: Filters, seen: set[str]) -> Draft:
    """The output with the reason why it is rejected, if there is one; if not, its words are `seen` from then on."""
    reason = draft.reason or next((name for name, rejects in filters.items() if rejects(draft)), None)
    key = content_hash(*words(draft.text))
    if reason is None and key in seen:
        reason = DUPLICATE
    if reason is None:
        seen.add(key)
    return replace(draft, reason=reason)


def _row(ranking: Ranking) -> dict[str, Any]:
    """A row as `data=rows` reads it; the cosines are those of the chosen, then of the rejected."""
    first, *_ = candidates = [*ranking.chosen, *ranking.rejected]
    return {
        "anchor": first.anchor,
        "chosen": [draft.text for draft in ranking.chosen],
        "rejected": [draft.text for draft in ranking.rejected],
        "prompt": first.prompt,
        "cosines": [draft.cosine for draft in candidates],
    }
