"""FSDP2: every process holds a part of the weights, and a checkpoint knows nothing of it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from sempa_lightning.errors import UserError
from sempa_lightning.models.sharding import first_pass, shard, whole


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with replicas, offloading, and checkpoints like those of any other strategy.

    Lightning's own checkpoints number the optimiser's states by all parameters, frozen ones among them, so that another
    strategy would give them to others. Here every tensor is made whole and a checkpoint is the one that DDP would
    write: small, as it holds what is trained, and readable by any number of processes.

    Args:
        replicas: Groups of processes that each hold the model once (HSDP), such as the number of machines: weights
            travel within a group only.
        offload: Keep weights, gradients and the optimiser's state in host memory.
        timeout_minutes: How long a process waits for the others.
        process_group_backend: As torch names it; null is that of the device.
    """

    def __init__(
        self, replicas: int, offload: bool, timeout_minutes: int, process_group_backend: str | None = None
    ) -> None:
        super().__init__(
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timedelta(minutes=timeout_minutes),
        )
        self.replicas = replicas
        self.offload = offload

    @property
    def lightning_restore_optimizer(self) -> bool:
        """States come from the checkpoint that Lightning has read."""
        return True

    def shard(self, policy: nn.Module) -> None:
        """Leave each process its part of the policy.

        Raises:
            UserError: If processes cannot be divided by replicas.
        """
        if self.replicas < 1 or self.world_size % self.replicas:
            raise UserError(
                f"{self.world_size} processes cannot hold the model {self.replicas} times: set"
                " trainer.strategy.replicas to a divisor of their number"
            )
        shape, names = (self.replicas, self.world_size // self.replicas), ("replicate", "shard")
        mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)
        shard(policy, mesh if self.replicas > 1 else mesh["shard"], offload=self.offload)

    def setup(self, trainer: Trainer) -> None:
        """Set up as Lightning does, and run the policy once."""
        super().setup(trainer)
        first_pass(self.lightning_module.policy)  # type: ignore[union-attr, arg-type]

    def model_to_device(self) -> None:
        """Nothing: sharding has placed the weights."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What is trained, whole, on the first process."""
        assert self.lightning_module is not None
        return {name: self._kept(value) for name, value in self.lightning_module.state_dict().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimiser's state, whole, on the first process."""
        state = optimizer.state_dict()
        states = {
            place: {name: self._kept(value) for name, value in values.items()}
            for place, values in state["state"].items()
        }
        return state | {"state": states}

    def load_checkpoint(self, checkpoint_path: _PATH, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint as any strategy does."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take each process's part of the weights."""
        assert self.lightning_module is not None
        own, saved = self.lightning_module.state_dict(), checkpoint["state_dict"]
        parts = {name: _part(value, own[name]) for name, value in saved.items() if name in own}
        self.lightning_module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take each process's part of the optimisers' states."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            places = [place for group in state["param_groups"] for place in group["params"]]
            owners = dict(zip(places, parameters, strict=True))
            states = {
                place: {name: _part(value, owners[place]) for name, value in values.items()}
                for place, values in state["state"].items()
            }
            optimizer.load_state_dict(state | {"state": states})

    def _kept(self, value: Any) -> Any:  # noqa: ANN401 (tensors and numbers of an optimiser)
        if not isinstance(value, DTensor):
            return value
        found = whole(value)
        return found.cpu() if self.is_global_zero else found.new_empty(0)


def _part(value: Any, owner: Tensor) -> Any:  # noqa: ANN401 (as above)
    """This process's part of a whole tensor that belongs to a parameter; what is not of its shape stays as it is."""
    if not isinstance(owner, DTensor) or not isinstance(value, Tensor) or value.shape != owner.shape:
        return value
    mesh = owner.device_mesh
    placed = distribute_tensor(value.to(mesh.device_type), mesh, owner.placements, src_data_rank=None)
    return placed.to(owner.device)
