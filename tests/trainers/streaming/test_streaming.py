"""A run over loaders of samples in shards: what of them is read and decoded, and whose scores these are."""

from __future__ import annotations

import gc
import os
import pickle
import re
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

for _package in ("webdataset", "streaming", "litdata", "torchdata"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (make test-trainers ALL=1)")

import torch  # noqa: E402
import webdataset  # noqa: E402
from figures import measure, row  # noqa: E402
from pictures import BATCH, COUNTER, EPOCHS, LOADERS, N, Training, batch_of, decode  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

import infobatch  # noqa: E402
from infobatch import Indexed, InfoBatch  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
EXAMPLES = sorted((ROOT / "examples" / "python" / "streaming").glob("*.py"))

every_loader = pytest.mark.parametrize("name", LOADERS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pictures in every format."""
    made: dict[Any, Path] = {}
    for write, _, _ in LOADERS.values():
        if write not in made:
            made[write] = tmp_path_factory.mktemp("pictures") / "shards"
            write(made[write])
    return {name: made[write] for name, (write, _, _) in LOADERS.items()}


@pytest.fixture(autouse=True)
def strict() -> Any:
    """A warning of infobatch is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", infobatch.InfoBatchWarning)
        yield
    gc.collect()  # a StreamingDataset holds its folder


def scores(ib: InfoBatch) -> dict[int, float]:
    return dict(enumerate(ib.scores.tolist()))


# --- what it costs


@every_loader
def test_a_pruned_epoch_reads_and_decodes_what_the_guide_says(name: str, tmp_path: Path) -> None:
    """Only what is kept is decoded, and by index only that is read."""
    full_bytes, full_decoded, kept, read, decoded = found = measure(name, tmp_path / "shards")
    assert full_decoded == N
    assert full_bytes >= 400 * N
    assert kept < 0.8
    assert decoded == pytest.approx(kept)
    whole = name.startswith(("WebDataset", "MosaicML Streaming, filtered"))
    assert read == pytest.approx(1 if whole else kept, abs=0.01)

    guide = (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
    shown = re.search(rf"^\| {re.escape(name)} \| .*$", guide, re.MULTILINE)
    assert shown is not None
    number = r"\d[\d,]*(?:\.\d+)?"
    lines = (row(name, *found), shown[0])
    assert re.sub(number, "", lines[0]) == re.sub(number, "", lines[1])
    figures = [[float(figure.replace(",", "")) for figure in re.findall(number, line)] for line in lines]
    assert figures[0] == pytest.approx(figures[1], rel=0.03)


# --- trainings


@pytest.mark.parametrize("workers", [0, 2])
@every_loader
def test_a_training_has_the_scores_of_its_samples_and_saves(
    name: str, workers: int, folders: dict[str, Path]
) -> None:
    ib = InfoBatch(N, EPOCHS, seed=1)
    training = Training(ib)
    options = {"num_workers": workers, "persistent_workers": True, "prefetch_factor": 4} if workers else {}
    loader = LOADERS[name][1](ib, folders[name], **options)
    for epoch in range(EPOCHS):
        ib.set_epoch(epoch)
        planned = sorted(ib.plan.ids)
        assert sorted(training.epoch(loader)) == planned
        assert ib.epoch == epoch + 1
    assert len(planned) == N  # the last epochs see everything
    ib.set_epoch(EPOCHS)
    assert scores(ib) == training.last
    assert training.accuracy() > 0.9
    assert 0.15 < ib.statistics.saved < 0.4
    assert ib.progress == 1


@every_loader
def test_a_training_that_was_stopped_reads_and_decodes_the_rest(name: str, folders: dict[str, Path]) -> None:
    read, workers = LOADERS[name][1], 2 if name.startswith("WebDataset") else 0
    ib = InfoBatch(N, EPOCHS, seed=1)
    training, loader = Training(ib), read(ib, folders[name], num_workers=workers)
    for epoch in range(2):
        ib.set_epoch(epoch)
        training.epoch(loader)
    ib.set_epoch(2)
    planned, before = sorted(ib.plan.ids), []
    for batch in loader:
        before += training.step(batch)
        if len(before) >= 5 * BATCH:
            break
    state = pickle.dumps((ib.state_dict(), training.model.state_dict(), training.last))
    stateful = loader.state_dict() if hasattr(loader, "state_dict") else None
    del loader, batch
    gc.collect()

    ib = InfoBatch(N, EPOCHS, seed=1)
    training, loader = Training(ib), read(ib, folders[name], num_workers=workers)
    own, weights, training.last = pickle.loads(state)
    ib.load_state_dict(own)
    training.model.load_state_dict(weights)
    if stateful is not None:
        loader.load_state_dict(stateful)
    COUNTER.start()
    ib.set_epoch(ib.epoch)
    after = training.epoch(loader)
    assert sorted(before + after) == planned
    if not workers:
        assert COUNTER.decoded == len(after)
    for epoch in range(3, EPOCHS):
        ib.set_epoch(epoch)
        planned = sorted(ib.plan.ids)
        assert sorted(training.epoch(loader)) == planned
    ib.set_epoch(EPOCHS)
    assert scores(ib) == training.last


@every_loader
def test_losses_of_shuffled_streams_go_by_ids(name: str, folders: dict[str, Path]) -> None:
    ib = InfoBatch(N, EPOCHS, seed=1)
    loader = LOADERS[name][1](ib, folders[name])
    ib.set_epoch(0)
    ids, _, _ = next(iter(loader))
    if "stream" not in name.replace("Streaming", ""):
        assert ids.tolist() == list(ib.plan.ids[:BATCH])
        return
    assert ids.tolist() != list(ib.plan.ids[:BATCH])
    with pytest.raises(RuntimeError, match="losses of a filtered stream must come with ids"):
        ib.update(torch.ones(BATCH))


# --- WebDataset


def shards_of(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.tar")))


def test_webdataset_a_filter_behind_the_decoder_saves_no_decoding(folders: dict[str, Path]) -> None:
    ib = InfoBatch(N, EPOCHS, seed=1)
    shards = shards_of(folders["WebDataset, filtered stream"])
    decoded = webdataset.WebDataset(shards, shardshuffle=False).map(decode).compose(ib.filter(id_of=0))
    loader, training = DataLoader(decoded, batch_size=BATCH, collate_fn=batch_of), Training(ib)
    for _ in range(2):
        COUNTER.start()
        kept = len(ib.plan)
        assert len(training.epoch(loader)) == kept
        assert COUNTER.decoded == N
    assert kept < N


def test_webdataset_workers_that_all_read_all_shards_are_told_of(folders: dict[str, Path]) -> None:
    ib = InfoBatch(N, EPOCHS, seed=1)
    shards = shards_of(folders["WebDataset, filtered stream"])
    raw = webdataset.WebDataset(shards, shardshuffle=False, workersplitter=None)
    pipeline = raw.compose(ib.filter(id_of="__key__")).map(decode)
    ib.set_epoch(0)
    loader = DataLoader(pipeline, batch_size=BATCH, collate_fn=batch_of, num_workers=2)
    assert len(Training(ib).epoch(loader)) == 2 * N
    with pytest.raises(infobatch.StreamWarning, match=rf"{N} rows were samples that had come before"):
        ib.set_epoch(1)


def test_webdataset_a_missing_shard_is_told_and_its_samples_keep_their_scores(
    folders: dict[str, Path],
) -> None:
    ib = InfoBatch(N, EPOCHS, seed=1)
    shards, training = shards_of(folders["WebDataset, filtered stream"]), Training(ib)

    def loader(some: list[str]) -> Any:
        raw = webdataset.WebDataset(some, shardshuffle=False)
        pipeline = raw.compose(ib.filter(id_of="__key__")).map(decode)
        return DataLoader(pipeline, batch_size=BATCH, collate_fn=batch_of)

    training.epoch(loader(shards))
    planned = set(ib.plan.ids)
    came = training.epoch(loader(shards[1:]))
    assert 0 < len(came) < len(planned)
    lacks = len(planned) - len(came)
    with pytest.raises(
        infobatch.StreamWarning, match=rf"{lacks} of {len(planned)} planned samples never came"
    ):
        ib.set_epoch(2)
    ib.set_epoch(2)
    assert scores(ib) == training.last


def test_webdataset_resampled_shards_end_with_the_epoch_that_is_cut(folders: dict[str, Path]) -> None:
    """Samples come as often as chance will have it: each row is weighted, and plans go on."""
    ib = InfoBatch(N, EPOCHS, seed=1)
    shards, training = shards_of(folders["WebDataset, filtered stream"]), Training(ib)
    raw = webdataset.WebDataset(shards, resampled=True, shardshuffle=False, empty_check=False, seed=4)
    pipeline = raw.compose(ib.filter(id_of="__key__")).map(decode).with_epoch(250)
    options: dict[str, Any] = {"num_workers": 2, "persistent_workers": True}
    loader = DataLoader(pipeline, batch_size=BATCH, collate_fn=batch_of, **options)
    for epoch in range(4):
        ib.set_epoch(epoch)
        planned = set(ib.plan.ids)
        came = training.epoch(loader)
        assert len(came) == 500
        assert set(came) <= planned
    assert len(planned) < N
    ib.set_epoch(4)
    found = scores(ib)
    assert {id: found[id] for id in training.last} == training.last


def test_webdataset_two_processes_with_shards_of_their_own_have_equal_scores(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        sys.executable,
        HERE / "webdataset_rank.py",
        folders["WebDataset, filtered stream"],
        tmp_path,
    ]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [subprocess.Popen(arguments, env={**os.environ, **place, "RANK": str(rank)}) for rank in range(2)]
    assert [rank.wait(180) for rank in ranks] == [0, 0]
    found = [pickle.loads((tmp_path / str(rank)).read_bytes()) for rank in range(2)]
    assert found[0]["scores"] == found[1]["scores"]
    assert found[0]["saved"] == found[1]["saved"] > 0.15
    assert found[0]["model"] == found[1]["model"]
    assert found[0]["accuracy"] > 0.9
    for planned, ours, theirs in zip(found[0]["plans"], found[0]["came"], found[1]["came"], strict=True):
        assert sorted(ours + theirs) == planned
        assert len(ours) != len(theirs)
    assert len(found[0]["plans"][-1]) == N > len(found[0]["plans"][3])


# --- MosaicML Streaming, LitData


@pytest.mark.parametrize("package", ["streaming", "litdata"])
def test_a_streaming_data_set_itself_is_refused_and_indexed_cures_it(
    package: str, folders: dict[str, Path]
) -> None:
    module = pytest.importorskip(package)
    if package == "streaming":
        data = module.StreamingDataset(local=str(folders["MosaicML Streaming, by index"]), batch_size=1)
    else:
        data = module.StreamingDataset(str(folders["LitData, by index"]))
    with pytest.raises(
        TypeError, match=r"iterable data set \(StreamingDataset\).*ib\.filter\(stream, id_of\)"
    ):
        InfoBatch(data, EPOCHS)
    indexed = Indexed(data)
    assert len(indexed) == N
    id, sample = indexed[17]
    assert (id, sample["id"], sample["cls"]) == (17, 17, 1)


@every_loader
def test_workers_without_set_epoch_are_refused(name: str, folders: dict[str, Path]) -> None:
    ib = InfoBatch(N, EPOCHS, seed=1)
    loader = LOADERS[name][1](ib, folders[name], num_workers=1)
    training = Training(ib)
    if "filtered" not in name:  # a sampler begins epochs by itself
        assert len(training.epoch(loader)) == N
        assert len(training.epoch(loader)) < N
        return
    with pytest.raises(RuntimeError, match="an epoch must be set before workers read its stream"):
        training.epoch(loader)


# --- examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_learns_and_saves(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert "\n\nOne learns: " in text
    assert f"(../examples/python/streaming/{path.name})" in (ROOT / "docs" / "streaming.md").read_text(
        "utf-8"
    )
    arguments = [sys.executable, "-W", "error::infobatch.InfoBatchWarning", path]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = [int(count) for count in re.findall(r"epoch \d: (\d+) of 2000 samples decoded", done.stdout)]
    assert kept[0] == kept[-1] == 2000
    assert max(kept[1:-1]) < 1800
    assert float(re.findall(r"accuracy (\d\.\d+)", done.stdout)[-1]) > 0.85
    assert 10 < float(re.findall(r"(\S+)% of the samples saved", done.stdout)[-1]) < 50
