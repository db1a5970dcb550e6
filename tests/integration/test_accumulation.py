"""The size of a micro-batch decides about memory and speed, not about results."""

import pytest
import torch


@pytest.mark.parametrize(
    ("precision", "dtype", "choice"),
    [
        # With its own eps, Adam would make a whole step of the rounding of a gradient near zero.
        ("32-true", torch.float32, ["objective=preference", "+optimizer.eps=1e-4"]),
        ("64-true", torch.float64, ["objective=preference_nll_kl", "loss=mpo"]),  # sees the whole step
        ("64-true", torch.float64, ["objective=joint"]),
        ("64-true", torch.float64, ["objective=joint", "data.negatives.in_batch=3"]),
    ],
)
def test_accumulated_steps_equal_whole_ones(train, every_step, unmeasured, steps, tmp_path, precision, dtype, choice):
    """Five steps, four of 8 rows and one of 7, in one forward pass each or in several."""
    words = [*every_step, *unmeasured, f"trainer.precision={precision}", *choice, "data.max_rows=39"]
    whole, parts = (
        steps(train(tmp_path / str(tokens), f"data.micro_batch_tokens={tokens}", *words)) for tokens in (4096, 256)
    )
    assert len(whole.losses) == 5
    assert {weight.dtype for weight in whole.weights.values()} == {dtype}
    whole.assert_equal(parts, tolerance=1e-6)
