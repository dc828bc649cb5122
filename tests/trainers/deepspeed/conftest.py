"""What DeepSpeed wants of the environment: who this process is, and where a library of its own is kept."""

import os
import sys
from pathlib import Path

place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}
place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}  # a free one
os.environ |= {name: str(value) for name, value in place.items()}
# On a CPU it compiles one when it is first used, which takes a minute or more.
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "extensions"))
