"""W&B, online with a key and offline without one."""

import os
from netrc import NetrcParseError, netrc

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(project: str, name: str, save_dir: str, group: str | None, tags: list[str]) -> WandbLogger:
    """Log to W&B; where no key is found, to an offline run that `wandb sync` uploads later."""
    offline = os.environ.get("WANDB_MODE") == "offline" or not _has_key()
    return WandbLogger(project=project, name=name, save_dir=save_dir, group=group, tags=tags, offline=offline)


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False
