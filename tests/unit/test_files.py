import errno
import resource

import pytest
import torch

from sempa_lightning.files import naming


@pytest.mark.parametrize("write", ["weights", "tokenizer"])
def test_no_room_is_an_error_of_the_system_to_every_writer(tmp_path, tiny_tokenizer, write):
    """Those of safetensors and of tokenizers have exceptions of their own; a limit on files stands for a full disk."""
    from safetensors.torch import save_file

    limits, path = resource.getrlimit(resource.RLIMIT_FSIZE), str(tmp_path / "file")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told, naming(tmp_path / "adapter"):
            if write == "weights":
                save_file({"a": torch.zeros(1000)}, path)
            else:
                tiny_tokenizer.backend_tokenizer.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (told.value.errno, told.value.filename) == (errno.EFBIG, str(tmp_path / "adapter"))
