"""First in, first out, packed by what each job asks for."""

from whimbrel.jobs.queue import Capacity, Demand, Occupied, Placement, Slot, never_fits, pack


def nodes(count: int, cpus: float = 2, gpus: int = 0) -> list[Capacity]:
    return [Capacity(node=rank, cpus=cpus, gpus=gpus) for rank in range(count)]


def started(placements: list[Placement]) -> list[int]:
    return [placement.job_id for placement in placements]


def test_jobs_that_ask_for_nothing_share_a_node_four_at_a_time() -> None:
    waiting = [Demand(job_id=number) for number in range(1, 7)]
    assert started(pack(nodes(1, cpus=2), (), waiting)) == [1, 2, 3, 4]
    assert started(pack(nodes(1, cpus=0.1), (), waiting)) == [1, 2, 3, 4]


def test_a_large_job_at_the_head_holds_back_small_ones_that_would_fit() -> None:
    running = Occupied(demand=Demand(job_id=1, cpus=1), placement=Placement(job_id=1, slots=(Slot(node=0),)))
    waiting = [Demand(job_id=2, cpus=2), Demand(job_id=3, cpus=1)]
    assert pack(nodes(1), [running], waiting) == []
    assert started(pack(nodes(1), (), waiting)) == [2]


def test_a_job_on_several_nodes_starts_on_all_of_them_or_not_at_all() -> None:
    running = Occupied(demand=Demand(job_id=1, cpus=2), placement=Placement(job_id=1, slots=(Slot(node=1),)))
    job = Demand(job_id=2, num_nodes=2, cpus=1)
    assert pack(nodes(2), [running], [job]) == []
    placement = pack(nodes(3), [running], [job])[0]
    assert [slot.node for slot in placement.slots] == [0, 2]


def test_gpus_are_handed_out_by_index_and_never_twice() -> None:
    first, second = pack(nodes(1, gpus=4), (), [Demand(job_id=1, gpus=1), Demand(job_id=2, gpus=2)])
    assert first.slots == (Slot(node=0, gpus=(0,)),)
    assert second.slots == (Slot(node=0, gpus=(1, 2)),)
    running = Occupied(
        demand=Demand(job_id=1, gpus=3), placement=Placement(job_id=1, slots=(Slot(node=0, gpus=(0, 1, 3)),))
    )
    assert pack(nodes(1, gpus=4), [running], [Demand(job_id=2, gpus=2)]) == []
    assert pack(nodes(1, gpus=4), [running], [Demand(job_id=2, gpus=1)])[0].slots[0].gpus == (2,)


def test_parts_of_a_gpu_share_the_fullest_device_that_still_has_room() -> None:
    waiting = [Demand(job_id=1, gpus=0.5), Demand(job_id=2, gpus=0.5), Demand(job_id=3, gpus=0.6)]
    placements = pack(nodes(1, cpus=8, gpus=2), (), waiting)
    assert [placement.slots[0].gpus for placement in placements] == [(0,), (0,), (1,)]


def test_an_explicit_number_of_cpus_is_kept_free_for_the_job() -> None:
    waiting = [Demand(job_id=number, cpus=2) for number in (1, 2, 3)]
    assert started(pack(nodes(1, cpus=4), (), waiting)) == [1, 2]
    assert started(pack(nodes(2, cpus=4), (), waiting)) == [1, 2, 3]


def test_what_can_never_fit_says_what_the_cluster_has() -> None:
    assert never_fits(nodes(2), Demand(job_id=1, num_nodes=3)) == "it asks for 3 nodes, and the cluster has 2"
    assert "asks for 4 CPUs per node, and the cluster's nodes have 2" in never_fits(
        nodes(1), Demand(job_id=1, cpus=4)
    )
    assert "asks for 1 GPUs per node, and the cluster's nodes have 0" in never_fits(
        nodes(1), Demand(job_id=1, gpus=1)
    )
    assert never_fits(nodes(1), Demand(job_id=1, cpus=2)) == ""
