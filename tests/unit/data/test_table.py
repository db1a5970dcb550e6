"""Records from files as they are found in the wild, and what is said about broken ones."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sempa_lightning.data.table import FileTable, HubTable, cell, table
from sempa_lightning.errors import UserError


def message(file: Path | str | None) -> str:
    """What reading the file complains about, which must be one line."""
    with pytest.raises(UserError) as error:
        list(FileTable(None if file is None else str(file)))
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_simcse_csv_keeps_every_cell_as_text(tmp_path):
    file = tmp_path / "nli_for_simcse.csv"
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["sent0", "sent1", "hard_neg"])
        writer.writerow(['He said "no", twice.', "nan", ""])
        writer.writerow(["NA", "1.0", "two\nlines"])
    assert list(FileTable(str(file))) == [
        {"sent0": 'He said "no", twice.', "sent1": "nan", "hard_neg": ""},
        {"sent0": "NA", "sent1": "1.0", "hard_neg": "two\nlines"},
    ]


def test_tsv_with_windows_line_ends_and_byte_order_mark(tmp_path):
    file = write(tmp_path / "dev.tsv", b'\xef\xbb\xbfa\tb\r\n"x ""y"""\tz, w\r\n\r\n1\t2\r\n')
    assert list(FileTable(str(file))) == [{"a": 'x "y"', "b": "z, w"}, {"a": "1", "b": "2"}]


def test_jsonl_keeps_types_and_skips_blank_lines(tmp_path):
    file = write(tmp_path / "rows.JSONL", '{"a": ["x", "y"], "b": null}\n\n{"a": "\u2028"}\n')
    assert list(FileTable(str(file))) == [{"a": ["x", "y"], "b": None}, {"a": "\u2028"}]


def test_parquet(tmp_path):
    records = [{"a": "x", "b": ["1", "2"]}, {"a": "nan", "b": []}]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "rows.parquet")
    assert list(FileTable(str(tmp_path / "rows.parquet"))) == records


def test_path_inside_the_package():
    records = FileTable("pkg://sempa_lightning/assets/demo/dev.jsonl")
    assert records.missing is None
    assert set(next(iter(records))) == {"anchor", "chosen", "rejected"}


def test_missing_file(tmp_path):
    assert "no file" in (FileTable(str(tmp_path / "none.csv")).missing or "")
    assert "none.csv; give data.path=<a .csv, .tsv, .jsonl, .parquet, .txt, .json file>" in message(
        tmp_path / "none.csv"
    )
    assert "no data file is named; give data.path=" in message(None)


def test_folder_is_no_file(tmp_path):
    assert "is a folder" in message(tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_empty_file(tmp_path, suffix):
    assert "holds no record" in message(write(tmp_path / f"empty.{suffix}", ""))


def test_header_alone_is_empty(tmp_path):
    assert "holds no record" in message(write(tmp_path / "empty.csv", "sent0,sent1\n"))


def test_unknown_suffix(tmp_path):
    assert "unknown kind of file; give one of .csv, .tsv" in message(write(tmp_path / "rows.xlsx", "a"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_binary_file(tmp_path, suffix):
    assert "line 1: binary data" in message(write(tmp_path / f"rows.{suffix}", b"PK\x00\x01\n"))


def test_wrong_encoding_says_where(tmp_path):
    latin = write(tmp_path / "rows.csv", "sent0,sent1\ncaf\u00e9,x\n".encode("latin-1"))
    assert "not UTF-8 text" in message(latin)
    utf16 = write(tmp_path / "rows.jsonl", '{"a": 1}\n'.encode("utf-16"))
    assert "not UTF-8 text" in message(utf16)


def test_malformed_json_line_is_numbered(tmp_path):
    file = write(tmp_path / "rows.jsonl", '{"a": 1}\n\n{"a": \n')
    assert f"{file}, line 3: not JSON" in message(file)


def test_json_line_that_is_no_object(tmp_path):
    assert "line 1: a list instead of a JSON object" in message(write(tmp_path / "rows.jsonl", "[1]\n"))


def test_json_list_in_many_lines(tmp_path):
    assert "line 1: not JSON" in message(write(tmp_path / "rows.jsonl", json.dumps([{"a": 1}], indent=1)))


def test_csv_row_of_another_length(tmp_path):
    file = write(tmp_path / "rows.csv", "a,b\n1,2\n1,2,3\n")
    assert f"{file}, line 3: 3 cells, but the first line names 2 columns" in message(file)


def test_csv_quote_that_never_closes(tmp_path):
    assert "malformed quoting" in message(write(tmp_path / "rows.csv", 'a,b\n1,"2\n3,4\n'))


def test_csv_column_named_twice(tmp_path):
    assert "a column name comes twice among a, a" in message(write(tmp_path / "rows.csv", "a,a\n1,2\n"))


def test_parquet_that_is_none(tmp_path):
    assert "is no parquet file" in message(write(tmp_path / "rows.parquet", "PAR1 is how it should begin"))


def test_missing_column_lists_those_there_are():
    assert cell({"a": 1}, "a", "rows.csv, record 1") == 1
    with pytest.raises(UserError, match=r"rows\.csv, record 2 has no column 'anchor'; it has 'a', 'b'"):
        cell({"a": 1, "b": 2}, "anchor", "rows.csv, record 2")


def test_a_path_takes_the_place_of_the_hub():
    hub = HubTable("owner/name")
    assert table(None, hub) is hub
    assert table("rows.csv", hub).name == "rows.csv"
    assert table(None).missing == "no data file is named"


@pytest.mark.parametrize("file", [None, "rows.csv"])
def test_hub_out_of_reach_says_what_to_do(monkeypatch, file):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot read sempa-lightning/none from the Hub: .*give its path"):
        list(HubTable("sempa-lightning/none", file=file))
