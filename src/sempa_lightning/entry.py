"""What the entry points share: where `conf/` is, how a run is started, and how an error is told."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sempa_lightning.errors import UserError


def conf_dir() -> str:
    """Find the config tree: inside the installed package, else at the root of the checkout.

    Raises:
        UserError: If it is in neither place.
    """
    package = Path(__file__).parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise UserError(f"no conf/ in {package} nor in {package.parents[1]}: reinstall sempa_lightning")


def run_main(main: Callable[[], Any]) -> None:
    """Run a Hydra main; tell what the user can put right in one line, and exit with 1.

    Anything else is a defect of ours and keeps its traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions reach us instead of Hydra's own report
    try:
        main()
    except Exception as error:
        if not (message := _message(error)):
            raise
        sys.stderr.write(f"error: {message}\n")
        sys.exit(1)


def _message(error: BaseException) -> str | None:
    from hydra.errors import HydraException, InstantiationException

    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return _message(error.__cause__)
    if isinstance(error, (UserError, HydraException)):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return None
