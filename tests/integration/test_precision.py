"""Training in half precision: the same steps as in float32, up to rounding."""

import json

import pytest
import torch

FP16 = (
    '+trainer.plugins=[{_target_: lightning.pytorch.plugins.precision.MixedPrecision, precision: "16-mixed",'
    " device: cpu}]"
)


def test_fp16_clips_and_logs_gradients_that_are_not_scaled(train, unmeasured, tmp_path):
    """The scaler multiplies the loss by 65536: clipped before that is undone, gradients would all but vanish."""
    words = [*unmeasured, "objective=preference", "trainer.max_steps=1", "max_grad_norm=0.05", "scheduler=constant"]
    words += ["optimizer._target_=torch.optim.SGD", "~optimizer.betas", "optimizer.lr=10"]
    full = train(tmp_path / "full", *words)
    half = train(tmp_path / "half", *words, "~trainer.precision", FP16)
    norms, weights = [], []
    for run in (full, half):
        norms += [json.loads(line).get("train/grad_norm") for line in run.metrics.read_text().splitlines()]
        weights.append(torch.load(run.checkpoints / "last.ckpt", weights_only=True)["state_dict"])
    first, second = [norm for norm in norms if norm is not None]
    assert first == pytest.approx(second, rel=0.02)
    assert first > 0.05
    updates = [torch.cat([value.flatten() for name, value in state.items() if "lora_B" in name]) for state in weights]
    assert (updates[0] - updates[1]).norm() < 0.05 * updates[0].norm()
