"""What each component is worth: Shapley shares, leaving one out, adding one in, with intervals over users or items.

Every figure here is a weighted sum of the losses of variants, so that one bootstrap of these losses serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial
from typing import Literal, get_args

Kind = Literal["shapley", "leave_one_out", "add_one_in"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def gain_weights(component: str, components: Sequence[str], kind: Kind) -> dict[frozenset[str], float]:
    """What to multiply the losses of the variants with, so that they sum to the gain of a component.

    A gain is the loss without the component less the loss with it: to all others (`leave_one_out`), to none
    (`add_one_in`), or averaged over all orders in which the components can be added one after the other (`shapley`,
    Shapley 1953): then the gains of all components sum to that of all together.

    >>> [(sorted(chosen), weight) for chosen, weight in gain_weights("a", ["a", "b"], "leave_one_out").items()]
    [(['b'], 1.0), (['a', 'b'], -1.0)]
    """
    others = [name for name in components if name != component]
    n = len(components)
    weights: dict[frozenset[str], float] = {}
    for mask in range(2 ** len(others)):
        before = frozenset(name for k, name in enumerate(others) if mask >> k & 1)
        size = len(before)
        weight = {
            "shapley": factorial(size) * factorial(n - size - 1) / factorial(n),
            "leave_one_out": float(size == n - 1),
            "add_one_in": float(size == 0),
        }[kind]
        if weight:
            weights[before], weights[before | {component}] = weight, -weight
    return weights
