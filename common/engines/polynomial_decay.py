"""A learning rate that falls to zero by a power of what is left of the training."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UserError

__all__ = ["polynomial_decay"]


def polynomial_decay(*, steps: int, power: float) -> Callable[[int], float]:
    """Give the factor (1 - step / steps) ^ power of each step, for LambdaLR.

    A program that trains in rounds, as federated learning does, goes on with the same trainer and raises its
    ``max_epochs``; the factor would stay at zero without a word after the first round, and so is refused there.

    Args:
        steps: iterations of the whole training.
        power: exponent of the fall; 0 keeps the rate constant.

    Returns:
        a function of the number of iterations that are done. It raises a UserError beyond the last step.

    Raises:
        UserError: there are no steps.
    """
    if not steps > 0:
        raise UserError(f"schedule_epochs: the learning rate needs 1 epoch or more, got {steps} iterations")

    def factor(step: int) -> float:
        if power and step > steps:
            raise UserError(
                f"the learning rate came to zero after {steps} iterations and the training goes on; set "
                "schedule_epochs to the epochs of all rounds together"
            )
        return float((1 - step / steps) ** power) if power else 1.0

    return factor
