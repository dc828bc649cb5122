"""What MMEngine 0.10.7 wants of the environment: torch from 2.6 on refuses what its checkpoints hold."""

import os

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
