"""A tiny random model of many architectures through train, evaluate, embed and export.

`python tests/architectures/docs_table.py` walks them all, in minutes.
"""

import logging
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from docs_table import PAGE, cells, outcome_row, rows_of
from tiny import ARCHITECTURES

# One of each kind: positions learned, rotary, ALiBi or none; windows; experts; recurrence; encoders; odd classes.
CHOSEN = [
    "bart",
    "bert",
    "bloom",
    "ctrl",
    "deepseek_v3",
    "falcon_h1",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gptj",
    "jamba",
    "lfm2",
    "llama4_text",
    "mamba",
    "mamba2",
    "mixtral",
    "mpt",
    "olmo2",
    "opt",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen3",
    "recurrent_gemma",
    "roc_bert, is_decoder",
    "rwkv",
    "xglm",
    "xlnet",
]


def test_the_docs_list_every_architecture():
    assert list(rows_of(PAGE)) == list(ARCHITECTURES)
    assert not {"", "none"} & {cells(line)[1] for line in rows_of(PAGE).values()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", CHOSEN)
def test_an_architecture_is_what_the_docs_say(architecture, tiny_tokenizer):
    """Any error but the package's own fails here, and so does a number that is off."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    assert cells(outcome_row(architecture, tiny_tokenizer)) == cells(rows_of(PAGE)[architecture])
