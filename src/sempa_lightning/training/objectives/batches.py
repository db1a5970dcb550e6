"""What an objective takes of a step: micro-batches of the kind that it is written for."""

from sempa_lightning.errors import UserError
from sempa_lightning.types import PreferenceBatch, StepBatch, TextBatch


def preference_batches(objective: object, step: StepBatch) -> list[PreferenceBatch]:
    """The micro-batches of a step of preference rows.

    Raises:
        UserError: If it is a step of plain text.
    """
    found = [batch for batch in step.micro_batches if isinstance(batch, PreferenceBatch)]
    if len(found) < len(step.micro_batches):
        raise UserError(
            f"{type(objective).__name__} is trained on anchors with candidates, but the data are plain text: set"
            " objective=next_token, or data=<preference data>"
        )
    return found


def text_batches(objective: object, step: StepBatch) -> list[TextBatch]:
    """The micro-batches of a step of plain text.

    Raises:
        UserError: If it is a step of preference rows.
    """
    found = [batch for batch in step.micro_batches if isinstance(batch, TextBatch)]
    if len(found) < len(step.micro_batches):
        raise UserError(
            f"{type(objective).__name__} is trained on plain text, but the data are anchors with candidates: set"
            " data=wikipedia, or objective=sft for the likelihood of what is chosen"
        )
    return found
