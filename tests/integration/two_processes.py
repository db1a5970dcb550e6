"""One of two processes that train together, run after run as words come in: starting up takes longer than a run."""

import contextlib
import json
import os
import sys

from sempa_lightning.train import main

if __name__ == "__main__":
    for line in sys.stdin:
        sys.argv, code = ["train", *json.loads(line)], 0
        try:
            with contextlib.redirect_stdout(sys.stderr):
                main()
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()
        if code:
            os._exit(1)  # the other one must not wait
