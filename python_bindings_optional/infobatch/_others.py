"""Another package of this name, such as the official one, may lie on the path: then the import says so."""

from __future__ import annotations

import os
import sys


def others(path: list[str]) -> list[str]:
    """Folders of other packages named ``infobatch`` on a path; and this one, where the official package
    was installed into it and left a file behind."""
    here = os.path.dirname(os.path.abspath(__file__))
    found = []
    for entry in path:
        if not isinstance(entry, str):
            continue
        folder = os.path.join(entry or os.curdir, "infobatch")
        if not os.path.isfile(os.path.join(folder, "__init__.py")):
            continue
        if not os.path.isfile(os.path.join(folder, "_others.py")):  # else another copy of this one
            folder = os.path.realpath(folder)
            if folder != os.path.realpath(here) and folder not in found:
                found.append(folder)
    return found


def warn_of_others() -> None:
    found = others(sys.path)
    if not found:
        return
    from ._session import warn

    warn(
        f"another package named infobatch lies in {', '.join(found)}; imported was InfoBatch for C++ from "
        f"{os.path.dirname(os.path.abspath(__file__))}. Uninstall the one that is not wanted: which of them "
        "an import finds depends on the order of sys.path",
        UserWarning,
    )
