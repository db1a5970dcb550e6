"""Log-probabilities on disk: what is read is what was written, whatever happens to the files."""

import resource
import subprocess
import sys

import pytest

from sempa_lightning.scoring.logp_cache import LogpCache, key

KEYS = [key([1, 2, place], [3, 0]) for place in range(8)]
# Exact in float32.
LOGPS = [-0.5 - 1.25 * place for place in range(8)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made" / "when needed"


def write(folder, keys=KEYS, logps=LOGPS):
    LogpCache(folder).put(keys, logps)
    return sorted(folder.iterdir())[-1]


def known(folder):
    """What a new process finds, by the place of the key."""
    cache = LogpCache(folder)
    return {place: cache.get([key])[0] for place, key in enumerate(KEYS) if cache.get([key]) is not None}


def test_what_was_put_is_there_in_memory_and_on_disk(folder):
    cache = LogpCache(folder)
    assert cache.get(KEYS[:1]) is None
    assert not folder.exists(), "reading makes nothing"
    cache.put(KEYS, LOGPS)
    assert cache.get(KEYS) == LOGPS
    assert LogpCache(folder).get(KEYS) == LOGPS
    assert LogpCache(folder).get(KEYS[::-1]) == LOGPS[::-1]


def test_all_or_nothing(folder):
    write(folder, KEYS[:4], LOGPS[:4])
    assert LogpCache(folder).get(KEYS[:5]) is None
    assert LogpCache(folder).get(KEYS[:4]) == LOGPS[:4]
    assert LogpCache(folder).get([]) == []


def test_nothing_is_written_twice(folder):
    cache = LogpCache(folder)
    cache.put(KEYS[:4] * 2, LOGPS[:4] * 2)
    (file,) = folder.iterdir()
    size = file.stat().st_size
    cache.put(KEYS[:4], [0.0] * 4)
    assert file.stat().st_size == size
    assert cache.get(KEYS[:4]) == LOGPS[:4], "the first value stays, as on disk"
    cache.put(KEYS, LOGPS)
    assert file.stat().st_size == 2 * size
    assert LogpCache(folder).get(KEYS) == LOGPS


def test_what_one_process_writes_the_next_one_adds_to(folder):
    write(folder, KEYS[:4], LOGPS[:4])
    write(folder, KEYS[4:], LOGPS[4:])
    assert len(list(folder.iterdir())) == 2
    assert LogpCache(folder).get(KEYS) == LOGPS


def test_two_objects_write_in_turn(folder):
    first, second = LogpCache(folder), LogpCache(folder)
    for place in range(0, 8, 2):
        first.put(KEYS[place : place + 1], LOGPS[place : place + 1])
        second.put(KEYS[place + 1 : place + 2], LOGPS[place + 1 : place + 2])
    assert LogpCache(folder).get(KEYS) == LOGPS
    assert first.get(KEYS[:8]) == LOGPS[:8], "each sees what the other has written since it was opened"


def test_what_was_there_first_stays(folder):
    """Also where another process, at the same moment, has found something else in the last bits."""
    first, second = LogpCache(folder), LogpCache(folder)
    first.put(KEYS[:1], [-1.0])
    second.put(KEYS[:2], [-1.5, -2.0])
    first.put(KEYS[:1], [-3.0])
    assert first.get(KEYS[:2]) == [-1.0, -2.0]
    assert second.get(KEYS[:2]) == [-1.5, -2.0]


PROCESS = """
import sys, time
from pathlib import Path
from sempa_lightning.scoring.logp_cache import LogpCache, key

folder, start, first, last = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
cache = LogpCache(folder)
print("ready", flush=True)
while not start.exists():
    time.sleep(0.001)
for number in range(first, last):
    cache.put([key([number], [0])], [float(-number)])
"""


def test_two_processes_write_at_once(folder, tmp_path):
    start = tmp_path / "start"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(folder), str(start), *span], stdout=subprocess.PIPE, text=True
        )
        for span in (("0", "300"), ("200", "500"))
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n", "ready\n"]
    start.touch()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    keys = [key([number], [0]) for number in range(500)]
    assert LogpCache(folder).get(keys) == [float(-number) for number in range(500)]


def test_a_file_cut_at_any_byte(folder):
    file = write(folder)
    content = file.read_bytes()
    record = len(content) // len(KEYS)
    assert record * len(KEYS) == len(content)
    for length in range(len(content)):
        file.write_bytes(content[:length])
        assert known(folder) == {place: LOGPS[place] for place in range(length // record)}


def test_any_byte_with_a_bit_flipped(folder):
    file = write(folder)
    content = file.read_bytes()
    record = len(content) // len(KEYS)
    for at in range(len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert known(folder) == {place: LOGPS[place] for place in range(8) if place != at // record}


def test_a_file_of_other_things(folder):
    file = write(folder)
    for content in (b"", b"\0" * 240, b"\xff" * 241, b"not what was written" * 50):
        file.write_bytes(content)
        assert known(folder) == {}


def test_what_is_damaged_is_written_again(folder):
    file = write(folder)
    file.write_bytes(file.read_bytes()[:40] + b"!" + file.read_bytes()[41:-3])
    assert set(known(folder)) == {0, 2, 3, 4, 5, 6}
    write(folder)
    assert LogpCache(folder).get(KEYS) == LOGPS


def test_a_disk_without_room_is_named(folder):
    """A limit on the size of files stands for it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told:
            write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (file,) = folder.iterdir()
    assert told.value.filename == str(file)
    assert set(known(folder)) <= {0, 1, 2}


def test_keys_tell_apart_what_is_different():
    texts = [([1, 2], [3, 0]), ([1], [2, 3, 0]), ([1, 2, 3], [0]), ([1, 2], [3]), ([2, 1], [3, 0]), ([1, 2], [0, 3])]
    texts += [([], [1, 2, 3, 0]), ([1, 2], [3, 0, 0]), ([258], [3, 0]), ([70_000], [3, 0]), ([70_000 - 65_536], [3, 0])]
    assert len({key(*text) for text in texts}) == len(texts)
    # Written down, so that a change, which forgets all that users have computed, is made on purpose.
    assert key([1, 2], [3, 0]).hex() == "fc9edbde051693a4a2d0a3ca6873d292"
