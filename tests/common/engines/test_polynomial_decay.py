from __future__ import annotations

import pytest

from common.engines.polynomial_decay import polynomial_decay
from common.errors import UserError


def test_the_factor_falls_by_a_power_of_what_is_left() -> None:
    factor = polynomial_decay(steps=4, power=2.0)
    assert [factor(step) for step in range(5)] == [1.0, 0.5625, 0.25, 0.0625, 0.0]  # ((4 - step) / 4)^2


def test_going_on_at_zero_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"came to zero after 4 iterations and the training goes on; set schedule_epochs"
    ):
        polynomial_decay(steps=4, power=0.9)(5)


def test_a_constant_rate_has_no_end() -> None:
    assert polynomial_decay(steps=4, power=0.0)(9) == 1.0


@pytest.mark.parametrize("steps", [0, -2])
def test_no_steps_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=f"schedule_epochs: .* got {steps} iterations"):
        polynomial_decay(steps=steps, power=0.9)
