"""The shared library and its functions, as ctypes sees them.

The functions and structs are those of ``infobatch/c_api.h``, name by name. Nothing here knows torch or
NumPy.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
)

from ._errors import FileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

ABI_VERSION = 1

#: A staged loss with this bit pattern stands for none (see ib_epoch_arrays).
UNSEEN_BITS = 0x7FC00002

DECLARED = {None: 0, True: 1, False: 2}


class CSlice(Structure):
    _fields_ = [
        ("ids", c_void_p),
        ("weights", c_void_p),
        ("begin", c_int64),
        ("count", c_int64),
    ]


class CStatistics(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("epoch", c_int64),
        ("size", c_int64),
        ("planned", c_int32),
        ("prunes", c_int32),
        ("kept", c_int64),
        ("pruned", c_int64),
        ("candidates", c_int64),
        ("prune_ratio", c_double),
        ("observed", c_int64),
        ("mean_score", c_double),
        ("samples_full", c_int64),
        ("samples_planned", c_int64),
        ("saved", c_double),
        ("promised_saved", c_double),
        ("actual_saved", c_double),
        ("non_finite_epoch", c_int64),
        ("non_finite_total", c_int64),
        ("short_batch", c_int64),
        ("dropped_total", c_int64),
    ]


class CEpochArrays(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("epoch", c_int64),
        ("size", c_int64),
        ("ids", c_void_p),
        ("weights", c_void_p),
        ("losses", c_void_p),
    ]


class CColumn(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("type", c_int32),
        ("size", c_int64),
        ("data", c_void_p),
    ]


class CLoadReport(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("epoch", c_int64),
        ("position", c_int64),
        ("changes", c_char_p),
    ]


class CRanks(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("rank", c_int32),
        ("size", c_int32),
        ("split", c_int32),
        ("padding", c_int32),
    ]


class CRankReport(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("rank", c_int64),
        ("ranks", c_int64),
        ("split", c_int64),
        ("padding", c_int64),
        ("rule_version", c_int64),
        ("size", c_int64),
        ("seed", c_uint64),
        ("config", c_uint64),
        ("scores", c_uint64),
        ("epoch", c_int64),
        ("target", c_int64),
        ("begun", c_int64),
        ("stays", c_int64),
        ("kept", c_int64),
        ("plan", c_uint64),
        ("origin", c_int64),
        ("observed", c_int64),
        ("entering", c_int64),
        ("over", c_int64),
    ]


class CRankRows(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("rows", c_int64),
        ("weights", c_void_p),
        ("short_rows", c_int64),
        ("row", c_int64 * 2),
        ("missing", c_int64 * 2),
    ]


class CWording(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("update", c_char_p),
        ("update_by_ids", c_char_p),
        ("ids_hint", c_char_p),
        ("discard", c_char_p),
    ]


class CWarning(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_int32),
        ("text", c_char_p),
    ]


_session = c_void_p
_plan = c_void_p

# name -> argument types; they return an ib_status.
_STATUS = {
    "ib_load_backend": [c_char_p, POINTER(c_char_p)],
    "ib_session_create_on": [c_int64, c_char_p, c_int32, c_char_p, POINTER(_session)],
    "ib_session_hold_warnings": [_session],
    "ib_session_take_warning": [_session, POINTER(CWarning)],
    "ib_session_set_wording": [_session, POINTER(CWording)],
    "ib_session_set_column": [_session, c_char_p, c_int32, c_void_p],
    "ib_session_column": [_session, c_char_p, POINTER(CColumn)],
    "ib_session_column_names": [_session, POINTER(POINTER(c_char_p))],
    "ib_session_epoch": [_session, POINTER(c_int64)],
    "ib_session_set_epoch": [_session, c_int64],
    "ib_session_length": [_session, POINTER(c_int64)],
    "ib_session_plan": [_session, POINTER(_plan)],
    "ib_session_discard_epoch": [_session],
    "ib_session_begin": [_session],
    "ib_session_next": [_session, c_int64, POINTER(CSlice)],
    "ib_session_next_rows": [_session, c_int64, POINTER(CSlice)],
    "ib_session_pending": [_session, POINTER(c_int64)],
    "ib_session_declare_drop_last": [_session, c_int32],
    "ib_session_suspect": [_session, c_char_p],
    "ib_session_observe": [_session, c_void_p, c_int64, POINTER(CSlice)],
    "ib_session_observe_ids": [_session, c_void_p, c_void_p, c_int64, c_void_p],
    "ib_session_weights": [_session, c_void_p, c_int64, c_void_p],
    "ib_session_epoch_arrays": [_session, POINTER(CEpochArrays)],
    "ib_session_advance": [_session, c_int64, POINTER(CSlice)],
    "ib_session_set_ranks": [_session, POINTER(CRanks)],
    "ib_session_report_to_share": [_session, c_int64, POINTER(CRankReport)],
    "ib_session_agree": [_session, POINTER(CRankReport), c_int64],
    "ib_rank_reports_must_share": [POINTER(CRankReport), c_int64],  # 0 or 1, no status
    "ib_session_losses_to_share": [_session, POINTER(c_void_p), POINTER(c_int64)],
    "ib_session_take_losses": [_session, c_void_p, c_int64, POINTER(CRankReport), c_int64],
    "ib_session_rank_rows": [_session, POINTER(CRankRows)],
    "ib_session_serialize_part": [_session, c_int32, POINTER(c_void_p), POINTER(c_size_t)],
    "ib_session_join_parts": [
        _session,
        POINTER(c_char_p),
        POINTER(c_size_t),
        c_size_t,
        POINTER(c_void_p),
        POINTER(c_size_t),
    ],
    "ib_session_save_parts": [_session, c_char_p, POINTER(c_char_p), POINTER(c_size_t), c_size_t],
    "ib_session_progress": [_session, POINTER(c_double)],
    "ib_session_position": [_session, POINTER(c_int64)],
    "ib_session_max_steps": [_session, c_int64, POINTER(c_int64)],
    "ib_session_scores": [_session, POINTER(c_void_p)],
    "ib_session_statistics": [_session, POINTER(CStatistics)],
    "ib_session_save": [_session, c_char_p],
    "ib_session_load": [_session, c_char_p, POINTER(c_char_p)],
    "ib_session_load_report": [_session, POINTER(CLoadReport)],
    "ib_session_serialize": [_session, POINTER(c_void_p), POINTER(c_size_t)],
    "ib_session_deserialize": [_session, c_char_p, c_size_t, POINTER(c_char_p)],
    "ib_session_load_resized": [_session, c_char_p, c_void_p, POINTER(c_char_p)],
    "ib_session_deserialize_resized": [_session, c_char_p, c_size_t, c_void_p, POINTER(c_char_p)],
    "ib_session_export_csv": [_session, c_char_p],
    "ib_plan_view": [_plan, POINTER(CSlice)],
    "ib_plan_epoch": [_plan, POINTER(c_int64)],
}

# Calls of a step: too short to let go of the interpreter's lock for them.
_SHORT = (
    "ib_session_next",
    "ib_session_next_rows",
    "ib_session_advance",
    "ib_session_observe",
    "ib_session_take_warning",
)


def library_path() -> str:
    """Where the shared library lies: beside this file, or where INFOBATCH_LIBRARY says (developers)."""
    name = "libinfobatch.dylib" if sys.platform == "darwin" else "libinfobatch.so"
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    return path if os.path.exists(path) else os.environ.get("INFOBATCH_LIBRARY", path)


class _Functions:
    """The functions, as attributes by their C names."""

    def __init__(self, path: str) -> None:
        try:
            long_calls = ctypes.CDLL(path)
            short_calls = ctypes.PyDLL(path)
        except OSError as error:
            raise ImportError(
                f"infobatch: the library {path} cannot be loaded ({error}). Wheels exist for Linux on "
                "x86-64 and aarch64 (glibc 2.17 or newer); elsewhere build from source: pip install ."
            ) from error
        if not hasattr(long_calls, "ib_abi_version"):
            raise ImportError(f"infobatch: {path} must be the library of this package, got another one")
        long_calls.ib_abi_version.restype = c_int32
        found = long_calls.ib_abi_version()
        if found != ABI_VERSION:
            raise ImportError(
                f"infobatch: the library must have ABI version {ABI_VERSION}, got {found} in {path}"
            )
        for name in ("ib_version", "ib_last_reason", "ib_cards_json"):
            function = getattr(long_calls, name)
            function.restype = c_char_p
            function.argtypes = []
            setattr(self, name, function)
        for name in ("ib_backend_name", "ib_backend_device"):
            function = getattr(long_calls, name)
            function.restype = c_char_p
            function.argtypes = [c_int32]
            setattr(self, name, function)
        for name in ("ib_session_destroy", "ib_plan_release"):
            function = getattr(long_calls, name)
            function.restype = None
            function.argtypes = [c_void_p]
            setattr(self, name, function)
        for name, arguments in _STATUS.items():
            function = getattr(short_calls if name in _SHORT else long_calls, name)
            function.restype = c_int32
            function.argtypes = arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:  # for type checkers: all are set above
        raise AttributeError(name)


lib = _Functions(library_path())

_EXCEPTIONS: dict[int, type[Exception]] = {
    1: ValueError,
    2: IndexError,
    3: RuntimeError,
    4: FileError,
    5: MemoryError,
}


def fail(status: int, function: str) -> NoReturn:
    """Raises what a status stands for; ``function`` is the Python name of the call that failed."""
    reason = (lib.ib_last_reason() or b"").decode("utf-8", "replace")
    raise _EXCEPTIONS.get(status, RuntimeError)(f"{function}: {reason}")


def version() -> str:
    """Version of the library, ``"0.1.0"``."""
    text: bytes = lib.ib_version()
    return text.decode()


__all__ = [
    "ABI_VERSION",
    "DECLARED",
    "UNSEEN_BITS",
    "CColumn",
    "CEpochArrays",
    "CLoadReport",
    "CRankReport",
    "CRankRows",
    "CRanks",
    "CSlice",
    "CStatistics",
    "CWarning",
    "CWording",
    "c_float",
    "fail",
    "lib",
    "version",
]
