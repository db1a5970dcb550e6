import os
import signal
import subprocess
import sys

from sempa_lightning.evaluation.claim import claimed

HOLD = """
import sys, time
from pathlib import Path
from sempa_lightning.evaluation.claim import claimed
with claimed(Path(sys.argv[1])) as claim, claim.working():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_claim_ends_with_its_process_which_is_counted(tmp_path):
    path = tmp_path / "a" / "task"
    for deaths in (1, 2):
        command = [sys.executable, "-c", HOLD, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "held\n"
            with claimed(path) as claim:
                assert claim is None
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with claimed(path) as claim:
            assert claim.begun == deaths
    with claimed(path) as claim:
        claim.forget()
        assert claim.begun == 0


def test_work_that_ends_in_any_other_way_is_not_counted(tmp_path):
    for error in (ZeroDivisionError, KeyboardInterrupt, None):
        with claimed(tmp_path / "task") as claim:
            try:
                with claim.working():
                    assert claim.begun == 1
                    if error:
                        raise error
            except (ZeroDivisionError, KeyboardInterrupt):
                assert error
            assert claim.begun == 0


def test_a_place_is_claimed_once_at_a_time(tmp_path):
    with claimed(tmp_path / "one") as one, claimed(tmp_path / "one") as again, claimed(tmp_path / "two") as two:
        assert one is not None
        assert again is None
        assert two is not None
    with claimed(tmp_path / "one") as one:
        assert one is not None
