"""The control by hand."""

import json

from sempa_lightning.data.rows import Row
from sempa_lightning.data.sources.swapped import Swapped
from sempa_lightning.data.sources.triplets import Triplets
from sempa_lightning.data.table import FileTable


def test_best_and_first_change_places(tmp_path):
    file = tmp_path / "rows.jsonl"
    records = [
        {"anchor": "a", "chosen": ["b", "c"], "rejected": ["x", "y"]},
        {"anchor": "d", "chosen": "e", "rejected": []},
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    rows = Triplets(FileTable(str(file)), anchor="anchor", chosen="chosen", rejected="rejected")
    assert list(Swapped(rows)) == [Row("a", ("x", "c"), ("b", "y")), Row("d", ("e",), ())]
    assert list(Swapped(Swapped(rows))) == list(rows)
    assert Swapped(rows).missing is None
