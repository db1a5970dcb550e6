"""Plain text from files, and what is taken out of it."""

import lzma

import pytest

from sempa_lightning.data.text import OverlapFilter, TextFiles
from sempa_lightning.errors import UserError


@pytest.mark.parametrize(
    ("paragraph", "held"),
    [
        ("Before. A man is peeling a potato. After.", True),
        ("As he said, a MAN is  peeling a potato, and left.", True),  # anywhere, whatever case and punctuation
        ("A man is peeling a pear.", False),
        ("A man is peeling potatoes.", False),  # whole words
        ("Then: yes. A dog barks! No.", True),  # a short sentence on its own
        ("He says a dog barks loudly.", False),  # but not inside another
        ("", False),
    ],
)
def test_overlap(paragraph, held):
    sentences = OverlapFilter(["A man is peeling a potato.", "A dog barks.", "", "A man is peeling a plum"])
    assert (paragraph in sentences) is held


def test_documents_are_blocks_and_paragraphs_lines(tmp_path):
    plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.xz"
    plain.write_text("\n\n one \ntwo\n\n\nthree five seven nine ten.\n", encoding="utf-8")
    packed.write_bytes(lzma.compress(b"four\nthree five seven nine ten, six\n\nThree, five seven nine ten!"))
    texts = TextFiles([str(plain), str(packed)], exclude=[["Three five seven nine ten"]])
    assert list(texts) == ["one\ntwo", "four"]
    assert texts.removed == 3
    assert list(texts) == ["one\ntwo", "four"], "it can be read again"
    assert texts.removed == 3


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match="no text file"):
        TextFiles([str(tmp_path / "none.txt")])
    for name, content in {"latin.txt": b"caf\xe9\n", "broken.txt.xz": b"not lzma"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}, (after )?line [0-9]+: (not UTF-8 text|damaged .xz file)"):
            list(TextFiles([str(tmp_path / name)]))
