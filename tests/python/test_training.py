"""Whole trainings in plain PyTorch, torch.compile, DDP and FSDP2: what a user must find in each of them."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from server import Done, run_program

pytestmark = pytest.mark.torch
BATCH, SAMPLES, EPOCHS = 16, 603, 6
PROCESSES = {"plain": 1, "compile": 1, "ddp": 2, "fsdp2": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes all trainings of one process, or all of two as torchrun does; returns where they wrote."""

    @functools.cache
    def train(processes: int) -> tuple[Path, Done]:
        folder = tmp_path_factory.mktemp(f"trainings-{processes}")
        program = Path(__file__).with_name("training_run.py")
        kinds = [kind for kind, number in PROCESSES.items() if number == processes]
        ranks = processes if processes > 1 else 0
        return folder, run_program(program, str(folder), *kinds, folder=folder, ranks=ranks)

    def folder_of(processes: int) -> Path:
        folder, done = train(processes)
        assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return folder_of


@pytest.fixture(params=PROCESSES)
def ranks(request: pytest.FixtureRequest, trained: Callable[[int], Path]) -> list[dict[str, Any]]:
    """What each process of a training wrote."""
    kind: str = request.param
    folder = trained(PROCESSES[kind])
    return [json.loads((folder / f"{kind}-{rank}.json").read_text()) for rank in range(PROCESSES[kind])]


def ids_of(epochs: list[dict[str, Any]]) -> list[int]:
    return [sample for epoch in epochs for batch in epoch["ids"] for sample in batch]


def test_it_learns_saves_and_ends_with_all_samples(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        alone = rank["alone"]
        assert alone["accuracy"] > 0.9
        assert 0.1 < alone["saved"] < 0.5
        assert alone["epochs"][0]["kept"] == alone["epochs"][-1]["kept"] == SAMPLES
        assert min(epoch["kept"] for epoch in alone["epochs"]) < 0.9 * SAMPLES


def test_len_of_the_loader_is_what_the_epoch_has(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert [epoch["epoch"] for epoch in rank["alone"]["epochs"]] == list(range(EPOCHS))
        for epoch in rank["alone"]["epochs"]:
            share = math.ceil(epoch["kept"] / len(ranks))
            assert epoch["length"] == len(epoch["ids"]) == math.ceil(share / BATCH)
            assert f"{epoch['kept']} of {SAMPLES} samples kept" in epoch["statistics"]


def test_the_learning_rate_ends_at_0(ranks: list[dict[str, Any]]) -> None:
    assert all(rank["alone"]["rate"] == pytest.approx(0, abs=1e-9) for rank in ranks)


def test_what_is_broken_off_in_the_midst_of_an_epoch_goes_on_to_the_bit(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        alone, resumed = rank["alone"], rank["resumed"]
        assert 0 < len(rank["before"][-1]["ids"]) < alone["epochs"][3]["length"]
        assert ids_of(rank["before"]) + ids_of(resumed["epochs"]) == ids_of(alone["epochs"])
        for what in ("weights", "scores", "rate", "saved"):
            assert resumed[what] == alone[what]


def test_all_ranks_have_the_same_model_and_scores(ranks: list[dict[str, Any]]) -> None:
    for what in ("weights", "scores"):
        assert all(rank["alone"][what] == ranks[0]["alone"][what] for rank in ranks)
    if len(ranks) > 1:
        for left, right in zip(ranks[0]["alone"]["epochs"], ranks[1]["alone"]["epochs"], strict=True):
            both = set(ids_of([left])) & set(ids_of([right]))
            assert len(both) <= 1  # padding
            assert len(set(ids_of([left, right]))) == left["kept"]
