"""`python -m tests.faulty.backbone`: the backbone service with the engine `faulty`."""

import sys
from pathlib import Path

from services.backbone.__main__ import main

if __name__ == "__main__":
    # Where an installed package would name its engines.
    sys.path.append(str(Path(__file__).parent / "installed"))
    main()
