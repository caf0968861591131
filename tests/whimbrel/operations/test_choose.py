"""Which of the places is taken."""

from whimbrel.infra.base import Offer
from whimbrel.optimizer.choose import choose, no_room


def test_the_cheapest_feasible_offer_wins_and_the_order_decides_among_equals() -> None:
    offers = [
        Offer(infra="a", feasible=False, hourly_price=0),
        Offer(infra="b", feasible=True, hourly_price=None),
        Offer(infra="c", feasible=True, hourly_price=2),
        Offer(infra="d", feasible=True, hourly_price=1),
        Offer(infra="e", feasible=True, hourly_price=1),
    ]
    chosen = choose(offers)
    assert chosen is not None
    assert chosen.infra == "d"
    assert choose(offers[:1]) is None


def test_when_nothing_fits_every_place_says_why() -> None:
    error = no_room([Offer(infra="k8s/a", feasible=False, reason="no node has 64 CPUs; the largest has 8")])
    assert error.message == "k8s/a cannot run this: no node has 64 CPUs; the largest has 8"
    both = no_room(
        [Offer(infra="k8s/a", feasible=False, reason="too small"), Offer(infra="k8s/b", feasible=False)]
    )
    assert "  k8s/a: too small" in both.message
    assert "  k8s/b: no room" in both.message
