"""Ranks over torch.distributed, as real processes over Gloo (`rank_cases`).

Every rank delivers its share, and all of them have the plans, scores and gradients of one process.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loops import epoch_of_lists, losses_of
from rank_cases import EPOCHS, N, launch, run
from server import run_program

import infobatch
from infobatch import InfoBatch, RankError

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[2]

Rows = list[tuple[int, float]]

#: Of test cases that call the same of torch as the others of their test do.
LIKE_OTHERS = pytest.mark.one_environment("of torch the same calls as other cases, with other numbers")


def woven(shares: list[Any]) -> Rows:
    """The rows of all ranks in the order of the plan, without padding."""
    return [row for rows in zip(*shares, strict=True) for row in rows if row is not None]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run("epochs", 1, tmp_path_factory.mktemp("one"), "batches", {})[0]


# --- plans, weights, scores


@pytest.mark.parametrize("way", ["batches", "three_lines", "ids"])
@pytest.mark.parametrize("size", [2, *(pytest.param(size, marks=LIKE_OTHERS) for size in (3, 4))])
def test_plans_weights_and_scores_are_those_of_one_process(
    size: int, way: str, tmp_path: Path, one_process: Any
) -> None:
    if way != "batches" and size == 4:
        size = 3
    found = run("epochs", size, tmp_path, way, {})
    expected, expected_scores, expected_statistics = one_process
    for epoch in range(EPOCHS):
        shares = [result[0][epoch][0] for result in found]
        assert woven(shares) == expected[epoch][0]
        assert {result[0][epoch][2] for result in found} == {expected[epoch][2]}
        sizes = [result[0][epoch][1] for result in found]
        assert sizes == [sizes[0]] * size  # as many batches, of the same sizes
        assert sum(sizes[0]) == -(-expected[epoch][2] // size)
    assert {result[1] for result in found} == {expected_scores}
    assert {result[2] for result in found} == {expected_statistics}


def test_trimmed_shares_are_equal_and_have_no_padding(tmp_path: Path, one_process: Any) -> None:
    found = run("epochs", 2, tmp_path, "batches", {"padding": "trim"})
    first = [result[0][0][0] for result in found]
    assert woven(first) == one_process[0][0][0][: N - 1]
    assert len(first[0]) == len(first[1]) == N // 2
    assert None not in first[0] + first[1]
    assert found[0][1] == found[1][1]


def test_rule_16_whole_batches_are_whole_on_every_rank(tmp_path: Path) -> None:
    found = run("epochs", 2, tmp_path, "batches", {"keep": "exact", "whole_batches": 8})
    for result in found:
        for epoch in range(1, EPOCHS - 1):
            rows, sizes, kept = result[0][epoch]
            assert kept % 16 == 0
            assert set(sizes) == {8}
            assert None not in rows
    assert found[0][1] == found[1][1]


def test_rule_12_the_default_seed_is_that_of_rank_0(tmp_path: Path) -> None:
    found = run("default_seed", 2, tmp_path)
    assert [seed for seed, _ in found] == [100, 100]


def test_nothing_travels_in_a_step_and_4_bytes_a_row_in_an_epoch(tmp_path: Path) -> None:
    for calls, collectives, length, later in run("traffic", 2, tmp_path):
        rows = -(-N // 2)
        # The header and the losses; what follows set_epoch exchanges nothing more.
        assert [name for name, _ in calls] == ["meet", "gather", "gather"]
        assert calls[2][1] == rows
        assert collectives == 2
        # Until the exchange it is the finished epoch's.
        assert length == (rows, -(-rows // 8), 0)
        assert later < rows


# --- gradients


@pytest.mark.parametrize(
    ("n", "batch", "reduction", "way", "padding"),
    [
        (65, 16, "mean", "order", "pad"),  # the last step has one row, rank 1 padding alone
        pytest.param(61, 16, "mean", "order", "pad", marks=LIKE_OTHERS),
        pytest.param(61, 16, "weighted_mean", "order", "pad", marks=LIKE_OTHERS),
        (65, 16, "weighted_mean", "ids", "pad"),
        pytest.param(65, 16, "mean", "ids", "pad", marks=LIKE_OTHERS),
        (61, 16, "sum", "order", "pad"),
        (64, 16, "mean", "order", "trim"),
    ],
)
def test_ddp_has_the_gradient_of_one_process_with_the_same_global_batch(
    n: int, batch: int, reduction: str, way: str, padding: str, tmp_path: Path
) -> None:
    (expected, _, _), *_ = run("gradients", 1, tmp_path, n, batch, reduction, way, "pad")
    found = run("gradients", 2, tmp_path, n, batch, reduction, way, padding)
    assert found[0][0] == found[1][0]  # DDP has averaged
    assert found[0][1] == 0  # rank 0 has no padding
    assert (found[1][1] > 0) == (padding == "pad")
    if padding == "trim":
        found, expected = [(found[0][0][:4],)], expected[:4]  # the first epoch: 64 is a multiple
    assert len(found[0][0]) == len(expected)
    worst = max(
        abs(a - b) / max(1.0, abs(b))
        for got, wanted in zip(found[0][0], expected, strict=True)
        for a, b in zip(got, wanted, strict=True)
    )
    assert worst < 1e-5
    print(f"n={n} {reduction} {way} {padding}: worst {worst:.1e} over {len(expected)} steps")


@pytest.mark.parametrize("library", ["torch", "numpy", "mean"])
def test_a_rank_with_padding_alone_returns_0_whatever_the_loss_is(library: str, tmp_path: Path) -> None:
    first, second = run("padding_alone", 2, tmp_path, library)
    assert [loss for loss, _ in first[0]] == [2.0, 4.0]  # one row of two ranks: twice its mean
    assert [loss for loss, _ in second[0]] == [2.0, 0.0]
    if library == "torch":
        assert second[0][1][1] == [0.0]
    assert first[1] == second[1]


# --- resume


@pytest.mark.parametrize(
    ("way", "steps"),
    [
        ("state_dict", 2),
        pytest.param("save", 3, marks=LIKE_OTHERS),
        ("local", 1),
        pytest.param("ids", 3, marks=LIKE_OTHERS),
    ],
)
def test_a_checkpoint_of_4_ranks_goes_on_with_3_and_1(way: str, steps: int, tmp_path: Path) -> None:
    found = run("stop", 4, tmp_path, steps, way)
    state = found[0][0]
    if way == "local":
        state = [result[0] for result in reversed(found)]
    elif way == "state_dict":
        assert all(result[0] == state for result in found)
    scores = set()
    rests = []
    for size in (4, 3, 1):
        again = run("go_on", size, tmp_path, state, way)
        assert {epoch for epoch, *_ in again} == {1}
        assert len({rows for *_, rows in again}) == 1  # as many rows on every rank
        rests.append(woven([rest for _, rest, *_ in again]))
        scores |= {found_scores for _, _, found_scores, _ in again}
    assert rests[0] == rests[1] == rests[2]
    assert len(scores) == 1
    if way != "ids":
        assert rests[0] == woven([rest for _, rest, *_ in found])
    if way in ("state_dict", "save"):
        assert scores == {result[2] for result in found}


def test_a_copy_goes_on_by_itself_and_a_pickled_one_is_a_plain_data_set(tmp_path: Path) -> None:
    assert run("copies", 2, tmp_path) == [(N, 1), (N, 1)]


# --- ranks that are lost, slow, or elsewhere


@pytest.fixture
def served() -> Any:
    """A store that outlives the ranks, as that of a launcher."""
    import torch.distributed as dist

    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.mark.parametrize(
    ("when", "lost", "timeout"), [("epoch", 2, 3.0), ("exchange", 1, 20.0), ("slow", 1, 2.0)]
)
def test_the_others_name_a_rank_that_is_lost_and_the_checkpoint_resumes(
    when: str, lost: int, timeout: float, tmp_path: Path, served: Any
) -> None:
    results = launch("checkpoint_then_lose", 3, tmp_path, when, lost, timeout, port=served.port)
    if when != "slow":
        assert results[lost] == ("killed", -9)
    else:
        late = results[lost][1][1]
        assert "got this one, rank 1, when rank" in late
    for rank, (what, result) in enumerate(results):
        if rank == lost:
            continue
        assert what == "done", result
        name, text, ranks, seconds = result
        assert name == "RankError"
        assert ranks == (lost,)
        assert f"rank {lost}" in text
        assert seconds < timeout + 10.0
        print(
            f"{when}: rank {rank} knew of rank {lost} after {seconds:.1f} s (timeout {timeout:g} s): {text}"
        )
        if when != "exchange":
            assert f"timeout of {timeout:g} seconds" in text
    again = [run("resume", size, tmp_path)[0] for size in (2, 1)]
    assert again[0] == again[1]
    assert again[0][:2] == (1, True)


def test_a_rank_that_is_slow_within_the_timeout_is_waited_for(tmp_path: Path) -> None:
    assert len(set(run("checkpoint_then_lose", 2, tmp_path, "late", 1, 6.0))) == 1


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("size", "rank 1: samples 204, rank 0: 203"),
        pytest.param("epochs", "rank 1: epochs 7, rank 0: 6", marks=LIKE_OTHERS),
        pytest.param("seed", "rank 1: seed 6, rank 0: 5", marks=LIKE_OTHERS),
        pytest.param("padding", "rank 1: ranks", marks=LIKE_OTHERS),
        pytest.param("set_epoch", "rank 1: epoch to begin", marks=LIKE_OTHERS),
        ("call", "all ranks must come to it"),
        ("step", "all ranks must be at the same step"),
        ("fails", "rank 1 failed before the exchange: ValueError"),
    ],
)
def test_what_differs_is_told_by_name_and_rank(what: str, text: str, tmp_path: Path) -> None:
    results = launch("differ", 2, tmp_path, what)
    assert [kind for kind, _ in results] == ["raised", "raised"]
    texts = [result[1] for _, result in results]
    if what == "fails":
        assert texts[1].startswith("InfoBatch: the data set must keep its length")
        assert text in texts[0]
        return
    if what == "call":
        assert any(text in found for found in texts)
        assert {result[0] for _, result in results} == {"RankError"}
        return
    for found in texts:
        assert text in found
    if what != "step":
        assert {result[2] for _, result in results} == {(1,)}


def test_other_scores_on_one_rank_are_noticed_before_the_epoch_begins(tmp_path: Path) -> None:
    for kind, result in launch("other_scores", 2, tmp_path):
        assert kind == "raised"
        assert "rank 1: digest of the scores" in result[1]


def test_check_d_losses_of_an_unsound_rank_enter_nowhere(tmp_path: Path) -> None:
    found = run("unsound", 3, tmp_path)
    assert len({scores for scores, *_ in found}) == 1
    assert [names for _, names, _ in found] == [["UnsoundEpochWarning was rank 1"]] * 3
    assert {dropped for *_, dropped in found} == {3 * 8}


# --- who the ranks are


def test_where_a_framework_splits_ids_bring_every_loss_to_every_rank(
    tmp_path: Path, one_process: Any
) -> None:
    found = run("global_split", 3, tmp_path)
    assert len({scores for scores, *_ in found}) == 1
    assert "only ids say whose losses these are" in found[0][1][0]
    # The state in the midst of it is that of a whole run.
    again = run("go_on", 1, tmp_path, found[1][2], "order")
    assert again[0][2] != b""
    assert found[0][3] == one_process[0][3][2]


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_that_read_streams_of_their_own_have_the_scores_of_one_process(
    tmp_path: Path, workers: int
) -> None:
    """Ranks have unequal parts, so unequal numbers of steps, and an epoch that breaks off on both."""
    found = run("streams", 2, tmp_path, workers, 1000)
    (alone,) = run("streams", 1, tmp_path, workers, 1000)
    for epoch in range(EPOCHS):
        parts = [result[0][epoch] for result in found]
        assert sorted(parts[0] + parts[1]) == sorted(alone[0][epoch])
        assert min(map(len, parts)) > 0
        assert {result[1][epoch] for result in found} == {alone[1][epoch]} == {len(alone[0][epoch])}
    assert found[0][2] == found[1][2] == alone[2]
    assert "the stream is split by its own shards, got split='sharded'" in found[0][3][0]
    assert found[0][4] == found[1][4]

    broken = run("streams", 2, tmp_path, workers, 3)
    assert [len(result[0][2]) for result in broken] == [24, 24]
    for epoch in range(3, EPOCHS):
        assert sum(len(result[0][epoch]) for result in broken) == broken[0][1][epoch] == broken[1][1][epoch]
    assert broken[0][2] == broken[1][2]


def test_a_framework_that_splits_a_share_once_more_is_noticed(tmp_path: Path) -> None:
    for kind, result in launch("split_twice", 2, tmp_path):
        assert kind == "raised"
        assert "needs split='global'" in result[1]


def test_a_mesh_splits_by_its_data_dimension(tmp_path: Path) -> None:
    found = run("mesh", 4, tmp_path)
    two = run("epochs", 2, tmp_path, "batches", {})
    for refused, shares, _, rank, length in found:
        assert "one dimension of a mesh" in refused
        assert "mesh['dp']" in refused
        assert shares == [two[rank][0][epoch][0] for epoch in range(3)]
        assert length == -(-N // 2)
    assert sorted(rank for *_, rank, _ in found) == [0, 0, 1, 1]
    assert len({scores for _, _, scores, *_ in found}) == 1


def test_a_compiled_step_divides_as_an_eager_one(tmp_path: Path) -> None:
    for (eager, eager_scores), (graph, graph_scores) in run("compiled", 2, tmp_path):
        assert graph == pytest.approx(eager, rel=1e-6)
        assert graph_scores == eager_scores


def test_processes_that_were_started_together_and_do_not_know_each_other_are_refused(tmp_path: Path) -> None:
    started = {"WORLD_SIZE": "4", "RANK": "1"}
    ((kind, result),) = launch("alone", 0, tmp_path, started, {})
    assert kind == "raised"
    assert result[0] == "RuntimeError"
    assert "init_process_group before the InfoBatch is made" in result[1]
    assert run("alone", 0, tmp_path, started, {"group": False}) == [(N, True)]
    assert run("alone", 0, tmp_path, {}, {}) == [(N, True)]
    assert run("alone", 2, tmp_path, {}, {"group": False}) == [(N, True)] * 2


def test_a_run_from_before_the_process_group_is_refused(tmp_path: Path) -> None:
    for refusals in run("made_before", 2, tmp_path):
        assert len(refusals) == 2
        assert all("must be made behind torch.distributed.init_process_group" in text for text in refusals)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"group": (0, 2)}, "losses are exchanged between epochs, so a third part must say how"),
        ({"group": (0, 2, 7)}, "must be (rank, size, allgather or a store)"),
        ({"group": (0,)}, "must be (rank, size, allgather or a store)"),
        ({"group": (2, 2, list)}, "rank in [0, size), got rank 2 of 2"),
        ({"group": "world"}, "before: call torch.distributed.init_process_group first"),
        ({"split": "half"}, "split must be one of sharded, global, got 'half'"),
        ({"padding": "none"}, "padding must be one of pad, trim"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
    ],
)
def test_rule_13_ranks_that_cannot_be_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, RuntimeError)) as error:
        InfoBatch(8, num_epochs=4, **options)
    assert text in str(error.value)


# --- ranks without torch.distributed: the program gathers bytes itself


class Meeting:
    """An allgather for threads of one process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: list[bytes] = [b""] * size
        self.barrier = threading.Barrier(size, timeout=30)

    def of(self, rank: int) -> Callable[[bytes], list[bytes]]:
        def allgather(data: bytes) -> list[bytes]:
            self.slots[rank] = bytes(data)
            self.barrier.wait()
            found = list(self.slots)
            self.barrier.wait()
            return found

        return allgather


def in_threads(size: int, body: Callable[[int, Any], Any]) -> list[Any]:
    meeting = Meeting(size)
    found: list[Any] = [None] * size

    def call(rank: int) -> None:
        try:
            found[rank] = body(rank, (rank, size, meeting.of(rank)))
        except BaseException as error:
            found[rank] = error
            meeting.barrier.abort()

    threads = [threading.Thread(target=call, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize("split", ["sharded", "global"])
def test_a_program_may_gather_bytes_itself(split: str) -> None:
    def body(rank: int, group: Any) -> Any:
        ib = InfoBatch(50, num_epochs=4, seed=7, group=group, split=split)
        for epoch in range(3):
            ib.set_epoch(epoch)
            step = 4 if split == "sharded" else 8
            for ids in ib.batch_sampler(step):
                if split == "global":
                    ids = ids[rank::2]
                ib.update([float((i * 5 + epoch) % 17) for i in ids], ids)
        state = ib.state_dict()
        ib.set_epoch(3)
        return [float(score) for score in ib.scores], bytes(state["infobatch"]), ib.statistics.kept

    first, second = in_threads(2, body)
    assert first == second
    alone = InfoBatch(50, num_epochs=4, seed=7)
    for epoch in range(3):
        alone.set_epoch(epoch)
        for ids in alone.batch_sampler(8):
            alone.update([float((i * 5 + epoch) % 17) for i in ids])
    alone.set_epoch(3)
    assert first[0] == [float(score) for score in alone.scores]


@pytest.mark.parametrize("kind", ["tcp", "file"])
def test_a_store_is_a_way_from_rank_to_rank(kind: str, tmp_path: Path) -> None:
    """Twice over one store, as a program that trains two models does; and on one process."""
    distributed = pytest.importorskip("torch.distributed")
    server = distributed.TCPStore("127.0.0.1", 0, is_master=True) if kind == "tcp" else None

    def body(rank: int, group: Any) -> Any:
        if server is None:
            store = distributed.FileStore(str(tmp_path / "store"), 3)
        else:
            store = distributed.TCPStore("127.0.0.1", server.port, is_master=False)
        found = []
        for seed in (1, 2):
            ib = InfoBatch(100, 4, seed=seed, group=(rank, 3, store), timeout=30)
            for epoch in range(3):
                ib.set_epoch(epoch)
                for ids in ib.batch_sampler(8):
                    ib.update(losses_of(ids, epoch))
            ib.set_epoch(3)
            found.append([float(score) for score in ib.scores])
        return found

    alone = []
    for seed in (1, 2):
        ib = InfoBatch(100, 4, seed=seed, group=False)
        for _ in range(3):
            epoch_of_lists(ib, 8)
        ib.set_epoch(3)
        alone.append([float(score) for score in ib.scores])
    for found in in_threads(3, body):
        assert found == alone


def test_a_rank_that_does_not_come_to_a_store_is_named(tmp_path: Path) -> None:
    distributed = pytest.importorskip("torch.distributed")
    store = distributed.FileStore(str(tmp_path / "store"), 2)
    began = time.monotonic()
    with pytest.raises(RankError, match=r"got none of rank 1 within 0\.5 s") as error:
        InfoBatch(100, 4, group=(0, 2, store), timeout=0.5)
    assert error.value.ranks == (1,)
    assert time.monotonic() - began < 20


def test_numbers_alone_are_the_place_in_torch_distributed(tmp_path: Path) -> None:
    for same, text in run("by_numbers", 2, tmp_path):
        assert same
        assert "group=(0, 3) must be the place in torch.distributed, got rank" in text


def test_ranks_that_differ_are_named_without_torch_distributed() -> None:
    def body(rank: int, group: Any) -> Any:
        with pytest.raises(infobatch.RankError) as error:
            InfoBatch(50 + rank, num_epochs=4, seed=7, group=group)
        return str(error.value), error.value.ranks

    first, second = in_threads(2, body)
    assert first == second
    assert first[1] == (1,)
    assert "rank 1: samples 51, rank 0: 50" in first[0]


# --- a launcher


def test_the_example_under_torchrun_does_what_one_process_does(tmp_path: Path) -> None:
    example = ROOT / "examples" / "python" / "017_ranks.py"
    folder = str(Path(infobatch.__file__).resolve().parents[1])
    environment = {"PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    arguments = ("--standalone", "--nproc-per-node", "2", str(example))
    # The launcher comes from the server; those that it starts are new interpreters.
    both = run_program("torch.distributed.run", *arguments, folder=tmp_path, environment=environment)
    alone = run_program(example, folder=tmp_path)
    assert [done.returncode for done in (alone, both)] == [0, 0], alone.stderr + both.stderr
    assert alone.stdout.count("\n") == 9
    assert both.stdout.replace("2 ranks", "1 ranks") == alone.stdout


def test_the_sampler_of_a_share_is_a_distributed_sampler_and_no_other(tmp_path: Path) -> None:
    """Lightning puts its own DistributedSampler in the place of what is none."""
    found = run("kinds_of_samplers", 2, tmp_path)
    assert found == [[True, False, False, rank, 2, -(-N // 2)] for rank in range(2)]


def test_where_a_framework_splits_progress_goes_on_behind_a_load() -> None:
    """A state has what all ranks observed, and each goes on with its own rows."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    met, box = Barrier(2), [b"", b""]

    def rank(number: int) -> tuple[list[float], list[float]]:
        def allgather(data: bytes) -> list[bytes]:
            box[number] = data
            met.wait(20)
            found = list(box)
            met.wait(20)
            return found

        def made() -> InfoBatch:
            return InfoBatch(48, 4, seed=1, split="global", group=(number, 2, allgather))

        def trained(run: InfoBatch, save: int = -1) -> tuple[list[float], dict[str, Any]]:
            seen, state = [], {}
            for epoch in range(run.epoch, 4):
                run.set_epoch(epoch)
                for turn, ids in enumerate(run.batch_sampler(4)):
                    if turn % 2 != number:
                        continue
                    run.update([float(id) for id in ids], ids)
                    seen.append(run.progress)
                    if len(seen) == save:
                        state = run.state_dict()
            return seen, state

        whole, state = trained(made(), save=2)
        again = made()
        again.load_state_dict(state)
        assert again.progress == whole[1]
        return whole[2:], trained(again)[0]

    with ThreadPoolExecutor(2) as ranks:
        for whole, resumed in ranks.map(rank, range(2)):
            assert resumed == whole
