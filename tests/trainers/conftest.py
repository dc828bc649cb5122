"""What the tests inside trainers share: their folder is where programs of theirs are imported from."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
