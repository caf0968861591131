"""Which of the places that could run a cluster is taken. Pure.

A place that has room wins over one that has to get machines first, then the cheapest feasible offer; an unknown price
comes after every known one. Among equals the order given stands, which is the order in which the user (or the
kubeconfig) named the places. Asking the places is not done here.
"""

from __future__ import annotations

from collections.abc import Sequence

from whimbrel.infra.base import Offer
from whimbrel.model.errors import OutOfCapacity


def choose(offers: Sequence[Offer]) -> Offer | None:
    """The offer to take, or None when none is feasible."""
    return next(iter(ranked(offers)), None)


def ranked(offers: Sequence[Offer]) -> list[Offer]:
    """The feasible offers, best first: where nothing has to come first, cheapest first, then as given."""
    feasible = [offer for offer in offers if offer.feasible]
    return sorted(
        feasible,
        key=lambda offer: (bool(offer.note), offer.hourly_price is None, offer.hourly_price or 0.0),
    )


def no_room(offers: Sequence[Offer]) -> OutOfCapacity:
    """The error that says, place by place, why none can run it."""
    if len(offers) == 1:
        reason = offers[0].reason or "it has no room"
        message = f"{offers[0].infra} cannot run this: {reason}"
    else:
        lines = [f"  {offer.infra}: {offer.reason or 'no room'}" for offer in offers]
        message = (
            "\n".join(["Nothing can run this:", *lines])
            if lines
            else "There is no infrastructure to run this."
        )
    return OutOfCapacity(
        message,
        remedy="ask for less (--cpus, --memory, --gpus, --num-nodes), or name another place with --infra",
        details={"offers": [{"infra": offer.infra, "reason": offer.reason} for offer in offers]},
    )
