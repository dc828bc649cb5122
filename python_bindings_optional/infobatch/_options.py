"""The options of a run by keyword, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Options(TypedDict, total=False):
    """What can be set by keyword beside the four official arguments; docs/python.md explains each."""

    seed: int
    policy: str
    keep: str
    rescale: bool
    warmup: int
    target_saved: float | None
    max_prune_ratio: float
    quantiles: Sequence[float]
    quantile_keep: Sequence[float]
    score_ema: float
    ucb_weight: float
    ucb_c: float
    orderdp_pool: float
    orderdp_keep: float
    whole_batches: int
    drop_last: bool | None
    lookahead: bool
    record: bool
    threads: int
    device: Any
    backend: str
    columns: Mapping[str, Any]
    sampling_weights: Any
    group: Any
    split: str
    padding: str
    timeout: float
