"""Does a corpus whose processes are killed twice have the bytes of one that was embedded in one go?

SEMPA_DATA_DIR=<folder> python benchmarks/embed_kill.py [--sentences 200000] [--model nano] [--folder <folder>]
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path

from peers import nli_rows, tell
from sempa_lightning.artifacts import EmbeddingDir
from sempa_lightning.errors import UserError

PARTS = 40


def sentences() -> Iterator[str]:
    """Yield sentences of the NLI triplets, over and over, all different for their numbers."""
    number = count()
    while True:
        for row in nli_rows():
            for text in (row.anchor, *row.chosen, *row.rejected):
                yield f"{' '.join(text.split())} {next(number)}"


def parts_of(folder: EmbeddingDir) -> list[Path]:
    """The parts that are there."""
    return sorted(folder.path.glob("part-*.parquet"))


def digests(folder: EmbeddingDir) -> dict[str, str]:
    """The sha256 of each part, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts_of(folder)}


def start(words: Sequence[str], folder: EmbeddingDir) -> subprocess.Popen[bytes]:
    """Embed into the folder, in a process group of its own, one thread for each process of it."""
    command = [sys.executable, "-m", "sempa_lightning.embed", *words, f"hydra.run.dir={folder.path}"]
    # A vector follows from the number of threads, too, which is otherwise that of the cores divided by the processes.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


def finish(words: Sequence[str], folder: EmbeddingDir) -> float:
    """Embed what is missing, and tell the seconds.

    Raises:
        UserError: If it fails.
    """
    begin = time.perf_counter()
    if code := start(words, folder).wait():
        raise UserError(f"embedding into {folder.path} ended with code {code}")
    return time.perf_counter() - begin


def kill(words: Sequence[str], folder: EmbeddingDir, parts: int, seconds: float) -> int:
    """Embed, and kill all processes some seconds after so many parts are there; tell how many there were then.

    Raises:
        UserError: If it ended before.
    """
    process = start(words, folder)
    while process.poll() is None and len(parts_of(folder)) < parts:
        time.sleep(0.05)
    time.sleep(seconds)
    if process.poll() is not None:
        raise UserError(f"embedding into {folder.path} ended before it was killed, with code {process.returncode}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(parts_of(folder))


def main(args: argparse.Namespace) -> None:
    """Embed in one process; then in two that are killed twice, each time at a random moment; compare.

    Raises:
        UserError: If a byte differs.
    """
    with tempfile.TemporaryDirectory() as temporary:
        base, moments = Path(args.folder or temporary), random.Random(args.seed)
        base.mkdir(parents=True, exist_ok=True)
        corpus = base / "sentences.txt"
        with corpus.open("w", encoding="utf-8") as lines:
            lines.writelines(f"{text}\n" for text in islice(sentences(), args.sentences))
        words = [f"model={args.model}", f"corpus={corpus}", f"part_rows={-(-args.sentences // PARTS)}", "device=cpu"]
        whole, killed = EmbeddingDir(base / "whole"), EmbeddingDir(base / "killed")
        seconds = finish(words, whole)
        expected = digests(whole)
        print(f"uninterrupted, one process: {len(expected)} parts, {seconds:.0f} s", flush=True)

        words.append("processes=2")
        begin, there = time.perf_counter(), []
        for first, last in ((1, PARTS // 2), (PARTS // 2, PARTS - 5)):
            parts, pause = moments.randint(first, last), moments.uniform(0, seconds / PARTS)
            there.append(kill(words, killed, parts, pause))
            print(f"two processes, killed with {there[-1]} parts there", flush=True)
        finish(words, killed)
        again = time.perf_counter() - begin
        print(f"killed twice and gone on with: {len(parts_of(killed))} parts, {again:.0f} s", flush=True)
        if digests(killed) != expected:
            raise UserError(f"the parts in {whole.path} and {killed.path} differ")
        print("all parts have the same bytes")
    result = {"model": args.model, "sentences": args.sentences, "parts": len(expected), "there_when_killed": there}
    print(json.dumps({**result, "seconds": seconds, "seconds_killed": again, "same_bytes": True}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=4000)
    parser.add_argument("--model", default="tiny_random", help="an option of conf/model")
    parser.add_argument("--folder", help="where corpus and vectors are kept; otherwise they are removed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    tell(partial(main, parser.parse_args()))
