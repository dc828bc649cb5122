"""A whole step inside torch.compile: one graph by ids, and a named break in the order of delivery."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

import infobatch
from infobatch import InfoBatch

torch: Any = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Failed to initialize NumPy"),
]

SIZE, EPOCHS, BATCH = 96, 6, 16


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch._dynamo.reset()


class Graphs:
    """A backend that keeps the graphs that it was given."""

    def __init__(self, backend: str = "eager") -> None:
        self.backend = torch._dynamo.lookup_backend(backend)
        self.found: list[Any] = []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.found.append(graph)
        return self.backend(graph, inputs)

    def calls(self) -> list[str]:
        """Names of all methods and functions that the graphs call."""
        return [str(node.target) for graph in self.found for node in graph.graph.nodes]


def train(wrap: Callable[[Any], Any], by_ids: bool = True, drop_last: bool = True) -> Any:
    """Trains a linear model; returns each step's epoch, ids and loss, the scores and the weights."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(SIZE, 4), torch.randint(0, 3, (SIZE,))
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ib = InfoBatch(SIZE, EPOCHS, seed=3)

    def step(batch: Any, labels: Any, ids: Any) -> Any:
        losses = torch.nn.functional.cross_entropy(model(batch), labels, reduction="none")
        return ib.update(losses, ids) if by_ids else ib.update(losses)

    compiled = wrap(step)
    log = []
    for epoch in range(EPOCHS):
        for batch in ib.batch_sampler(BATCH, drop_last):
            ids = torch.tensor(batch)
            loss = compiled(inputs[ids], targets[ids], ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log.append((epoch, tuple(batch), loss.item()))
        assert ib.epoch == epoch + 1
    len(ib.sampler)
    return log, ib.scores.clone(), model.weight.detach().clone()


def same(one: Any, other: Any) -> None:
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2] == pytest.approx(theirs[2], abs=1e-5)
    torch.testing.assert_close(one[1], other[1], rtol=1e-4, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(one[2], other[2], rtol=1e-4, atol=1e-5)


BACKENDS: list[Any] = ["eager", "aot_eager"]
if shutil.which("g++"):
    whole_training = pytest.mark.one_environment("test_training.py trains with it everywhere")
    BACKENDS.append(pytest.param("inductor", marks=whole_training))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_with_ids_is_one_graph_and_trains_as_it_does_uncompiled(backend: str) -> None:
    graphs = Graphs(backend)
    compiled = train(lambda step: torch.compile(step, backend=graphs, fullgraph=True))
    assert len(graphs.found) == 1  # no break, and no recompilation in any epoch
    same(compiled, train(lambda step: step))


def test_short_last_batches_cost_a_graph_for_all_lengths_and_one_for_a_batch_of_one() -> None:
    graphs = Graphs()
    compiled = train(lambda step: torch.compile(step, backend=graphs, fullgraph=True), drop_last=False)
    same(compiled, train(lambda step: step, drop_last=False))
    lengths = {len(ids) for _, ids, _ in compiled[0]}
    assert len(lengths - {1, BATCH}) > 1
    assert len(graphs.found) <= 2 + (1 in lengths)


def test_the_graph_copies_nothing_to_the_host() -> None:
    graphs = Graphs()
    train(lambda step: torch.compile(step, backend=graphs, fullgraph=True))
    assert not [call for call in graphs.calls() if call in ("cpu", "item", "tolist", "numpy")]


def test_a_copy_in_a_compiled_step_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from infobatch._tensors import TensorStep

    record: Callable[..., Any] = TensorStep._per_sample

    def slow(self: TensorStep, losses: Any, *arguments: Any) -> Any:
        return record(self, losses.cpu(), *arguments)

    monkeypatch.setattr(TensorStep, "_per_sample", slow)
    with pytest.raises(AssertionError):
        test_the_graph_copies_nothing_to_the_host()


def test_a_value_read_in_a_compiled_step_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from infobatch._tensors import TensorStep

    record: Callable[..., Any] = TensorStep._per_sample

    def slow(self: TensorStep, losses: Any, *arguments: Any) -> Any:
        if losses.isfinite().all():
            return record(self, losses, *arguments)
        return losses

    monkeypatch.setattr(TensorStep, "_per_sample", slow)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        train(lambda step: torch.compile(step, backend="eager", fullgraph=True))


def test_in_order_a_compiled_step_is_broken_once_and_never_compiled_anew() -> None:
    graphs = Graphs()
    compiled = train(lambda step: torch.compile(step, backend=graphs), by_ids=False)
    assert len(graphs.found) == 1  # the model in front of the update, which is the step's end
    same(compiled, train(lambda step: step, by_ids=False))


def test_in_order_a_full_graph_is_refused() -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match="update_in_order"):
        train(lambda step: torch.compile(step, backend="eager", fullgraph=True), by_ids=False)


def test_observe_and_scale_gradient_in_a_graph() -> None:
    ib = InfoBatch(SIZE, EPOCHS, seed=3)
    graphs = Graphs()

    @torch.compile(backend=graphs, fullgraph=True)
    def step(outputs: Any, ids: Any) -> Any:
        weights = ib.observe(outputs.detach().square(), ids)
        return infobatch.scale_gradient(outputs, weights).square().mean()

    for epoch in range(3):
        for batch in ib.batch_sampler(BATCH, drop_last=True):
            ids = torch.tensor(batch)
            outputs = (ids / SIZE).requires_grad_()
            step(outputs, ids).backward()
            expected = ib.get_weights(ids) * 2 * ids / SIZE / BATCH
            torch.testing.assert_close(outputs.grad, expected)
        assert ib.epoch == epoch + 1
    assert len(graphs.found) == 1


def test_two_runs_in_one_compiled_function_keep_their_scores_apart() -> None:
    runs = [InfoBatch(SIZE, EPOCHS, seed=seed) for seed in (1, 2)]

    @torch.compile(backend="eager", fullgraph=True)
    def step(ib: Any, losses: Any, ids: Any) -> Any:
        return ib.update(losses, ids)

    for k, ib in enumerate(runs):
        for batch in ib.batch_sampler(BATCH):
            ids = torch.tensor(batch)
            step(ib, ids / SIZE + k, ids)
    for k, ib in enumerate(runs):
        len(ib.sampler)
        torch.testing.assert_close(ib.scores, torch.arange(SIZE) / SIZE + k)


def test_a_resumed_run_goes_on_in_a_graph() -> None:
    def step(ib: InfoBatch, batch: list[int]) -> float:
        ids = torch.tensor(batch)
        return float(torch.compile(ib.update, backend="eager", fullgraph=True)(ids / SIZE, ids))

    def rest(ib: InfoBatch) -> list[float]:
        found = []
        while ib.epoch < 4:
            found += [step(ib, batch) for batch in ib.batch_sampler(BATCH)]
        return found

    whole = rest(InfoBatch(SIZE, EPOCHS, seed=3))
    first = InfoBatch(SIZE, EPOCHS, seed=3)
    begun = []
    for batch in first.batch_sampler(BATCH):
        begun.append(step(first, batch))
        if len(begun) == 4:
            break
    second = InfoBatch(SIZE, EPOCHS, seed=3)
    second.load_state_dict(first.state_dict())
    assert begun + rest(second) == whole


def test_one_graph_serves_all_runs_of_a_process() -> None:
    graphs = Graphs()

    @torch.compile(backend=graphs, fullgraph=True)
    def step(ib: Any, losses: Any, ids: Any) -> Any:
        return ib.update(losses, ids)

    for seed in range(12):  # more than torch compiles anew
        ib = InfoBatch(SIZE, EPOCHS, seed=seed)
        for batch in ib.batch_sampler(BATCH):
            ids = torch.tensor(batch)
            step(ib, ids / SIZE + seed, ids)
        len(ib.sampler)
        torch.testing.assert_close(ib.scores, torch.arange(SIZE) / SIZE + seed)
    assert len(graphs.found) <= 3


def test_a_declared_device_holds_in_compiled_steps() -> None:
    ib = InfoBatch(SIZE, EPOCHS, device="meta")
    ids = torch.tensor(next(iter(ib.batch_sampler(BATCH))))
    with pytest.raises((ValueError, torch._dynamo.exc.Unsupported)):
        torch.compile(ib.update, backend="eager", fullgraph=True)(ids / SIZE, ids)
    ib.discard_epoch()
    assert all(score != score for score in ib.scores)


def test_statistics_know_of_losses_of_a_compiled_step_when_their_epoch_is_over() -> None:
    ib = InfoBatch(SIZE, EPOCHS)
    step = torch.compile(ib.update, backend="eager", fullgraph=True)
    for batch in ib.batch_sampler(BATCH):
        ids = torch.tensor(batch)
        step(torch.where(ids == 7, torch.nan, ids / SIZE), ids)
    assert ib.statistics.non_finite_epoch == 1
    with pytest.warns(infobatch.NonFiniteLossWarning):
        len(ib.sampler)


def test_a_table_is_written_in_place_and_not_copied_in_a_step() -> None:
    graphs = Graphs()
    train(lambda step: torch.compile(step, backend=graphs, fullgraph=True))
    assert [call for call in graphs.calls() if "infobatch" in call and "record" in call]
