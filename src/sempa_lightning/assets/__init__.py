"""Files that travel inside the package: the `nano` model and the demonstration data."""

from importlib.resources import files
from pathlib import Path

_SCHEME = "pkg://"


def local_path(location: str) -> Path:
    """Turn `pkg://package/inner/file` into the path of that installed file; other locations are plain paths.

    Hydra's own search path uses the same notation. It keeps saved configs free of machine paths.
    """
    if not location.startswith(_SCHEME):
        return Path(location).expanduser()
    package, _, inner = location.removeprefix(_SCHEME).partition("/")
    return Path(str(files(package))) / inner
