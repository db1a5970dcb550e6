"""How long do all sentences of the STS sets take to embed, beside sentence-transformers? On the same weights.

SEMPA_DATA_DIR=<folder> python benchmarks/encode.py [--limit 1000] [--rounds 1]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import Connection
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from peers import (
    MODELS,
    PeakMemory,
    TokenCounter,
    Worker,
    component,
    data_path,
    gpt2_tokenizer,
    require,
    spread,
    tell,
)
from sempa_lightning.data.scored_pairs import PairSource, SemEvalFolder, SickFile, StsBenchmarkFile
from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import decoder, load_causal_lm
from sempa_lightning.models.embedder import Embedder, Readout
from sempa_lightning.prompts.template import PromptTemplate

BATCH_SIZE = 32
WARM_UP = 64
COSINE_BAR = 0.9999
KNOWLEDGE_ENHANCEMENT = PromptTemplate(
    "The essence of a sentence is often captured by its main subjects and actions, while descriptive terms provide"
    " additional but less central details. With this in mind , this sentence :"
    ' "{sentence}" means in one word:"'
)


class Answer(NamedTuple):
    """What a side tells of some sentences.

    Attributes:
        seconds: To encode them all.
        tokens: Tokens that the decoder was run on, padding included.
        peak_gb: Peak memory since the first call, above the model.
        vectors: Embeddings, in input order.
    """

    seconds: float
    tokens: int
    peak_gb: float
    vectors: np.ndarray


def readouts() -> dict[str, Readout]:
    """PromptEOL, and the same with the longer prompt of knowledge enhancement (last layer here, too)."""
    prompt_eol = component("readout/prompt_eol.yaml")
    return {"prompteol": prompt_eol, "ke": replace(prompt_eol, template=KNOWLEDGE_ENHANCEMENT)}


def serve(
    connection: Connection, counter: TokenCounter, memory: PeakMemory, encode: Callable[[str, list[str]], np.ndarray]
) -> None:
    """Answer every call: the name of a readout, and what to encode with it."""
    memory.reset()
    while True:
        name, texts = connection.recv()
        before, start = counter.tokens, time.perf_counter()
        vectors = encode(name, texts)
        seconds = time.perf_counter() - start
        connection.send(Answer(seconds, counter.tokens - before, memory.gb(), vectors))


def run_peer(connection: Connection, folder: str) -> None:
    """The side of sentence-transformers: its calls hold whole prompts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    # Padding on the right: attention and rotary positions see the same tokens either way, and so does our side.
    transformer = Transformer(folder, processor_kwargs={"padding_side": "right"})
    pooling = Pooling(transformer.get_embedding_dimension(), "lasttoken")
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    connection.send(f"batches of {BATCH_SIZE}, sorted by length, padded on the right, whole prompts as texts")

    def encode(_: str, texts: list[str]) -> np.ndarray:
        return model.encode(texts, batch_size=BATCH_SIZE, show_progress_bar=False)

    serve(connection, TokenCounter(transformer.model), PeakMemory(torch.device("cpu")), encode)


def run_ours(connection: Connection, folder: str) -> None:
    """Our side: its calls hold sentences."""
    model, tokenizer = load_causal_lm(folder)
    embedders = {name: Embedder(model, tokenizer, readout, BATCH_SIZE) for name, readout in readouts().items()}
    connection.send(f"batches of {BATCH_SIZE}, sorted by length, each distinct sentence and the common prefix once")

    def encode(name: str, texts: list[str]) -> np.ndarray:
        return embedders[name].encode(texts).numpy()

    serve(connection, TokenCounter(decoder(model)), PeakMemory(torch.device("cpu")), encode)


def sts_sentences(limit: int | None) -> list[str]:
    """Both sentences of each pair in a row, as an evaluator passes them, set after set."""
    sources: list[PairSource] = [
        *(SemEvalFolder(str(data_path("sts", name))) for name in ("STS12", "STS13", "STS14", "STS15", "STS16")),
        StsBenchmarkFile(str(data_path("sts", "STSBenchmark", "sts-test.csv"))),
        SickFile(str(data_path("sick", "SICK_test_annotated.txt"))),
    ]
    pairs = (((pair.sentence1, pair.sentence2) for pair in source) for source in sources)
    return [sentence for of_set in pairs for sentence in islice(chain.from_iterable(of_set), limit)]


def min_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The worst agreement of two sides on a sentence."""
    return torch.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b), dim=-1).min().item()


class Bench:
    """Two processes that encode the same sentences one after the other.

    Args:
        peer: sentence-transformers.
        ours: This package.
    """

    def __init__(self, peer: Worker, ours: Worker) -> None:
        self._workers = (peer, ours)
        self._tokenizer = gpt2_tokenizer()
        self._calls = 0
        self.worst = 1.0

    def encode(self, name: str, readout: Readout, sentences: Sequence[str]) -> tuple[Answer, Answer]:
        """Let both encode, each beginning every other time.

        Raises:
            UserError: If their vectors differ.
        """
        prompts = [readout.template.prompt(self._tokenizer, readout.preprocess(text)) for text in sentences]
        texts = (prompts, list(sentences))
        self._calls += 1
        order = (0, 1) if self._calls % 2 else (1, 0)
        answers = {place: self._workers[place].ask((name, texts[place])) for place in order}
        cosine = min_cosine(answers[0].vectors, answers[1].vectors)
        self.worst = min(self.worst, cosine)
        if not cosine >= COSINE_BAR:
            raise UserError(f"the vectors of the two sides differ: a cosine is {cosine:.6f}, below {COSINE_BAR}")
        return answers[0], answers[1]


def measure(bench: Bench, name: str, readout: Readout, sentences: Sequence[str], rounds: int) -> float:
    """Encode all sentences in one call, round by round, and print a table; return the median ratio of seconds."""
    print(f"\n{name}: {readout.template.text}\n{len(sentences)} sentences, {len(set(sentences))} of them distinct")
    print(f"{'peer s':>9}{'ours s':>9}{'ratio':>8}{'peer tokens':>13}{'ours':>10}{'peer GB':>9}{'ours':>7}")
    bench.encode(name, readout, sentences[:WARM_UP])
    ratios = []
    for _ in range(rounds):
        peer, ours = bench.encode(name, readout, sentences)
        ratios.append(peer.seconds / ours.seconds)
        print(
            f"{peer.seconds:>9.1f}{ours.seconds:>9.1f}{ratios[-1]:>8.2f}{peer.tokens:>13}{ours.tokens:>10}"
            f"{peer.peak_gb:>9.2f}{ours.peak_gb:>7.2f}",
            flush=True,
        )
    print(f"ratio {spread(ratios)}")
    return median(ratios)


def main(args: argparse.Namespace) -> None:
    """Compare readout by readout.

    Raises:
        UserError: If sentence-transformers or data are missing, or vectors differ.
    """
    require("sentence-transformers")
    sentences = sts_sentences(args.limit)
    tokenizer = gpt2_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        MODELS[args.model](tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with (
            Worker("sentence-transformers", run_peer, folder, threads=args.threads) as peer,
            Worker("ours", run_ours, folder, threads=args.threads) as ours,
        ):
            print(f"peer: {peer.answer()}\nours: {ours.answer()}")
            bench = Bench(peer, ours)
            speedups = {
                f"speedup_{name}": measure(bench, name, readout, sentences, args.rounds)
                for name, readout in readouts().items()
            }
    print(json.dumps({"model": args.model, **speedups, "min_cosine": bench.worst}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(MODELS), default="small")
    parser.add_argument("--limit", type=int, help="sentences of each set, all by default")
    parser.add_argument("--rounds", type=int, default=1, help="how often to encode them")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch on each side")
    tell(partial(main, parser.parse_args()))
