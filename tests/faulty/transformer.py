"""`python -m tests.faulty.transformer`: the transformer service with the engine `faulty`."""

import sys
from pathlib import Path

from services.transformer.__main__ import main

if __name__ == "__main__":
    # Where an installed package would name its engines.
    sys.path.append(str(Path(__file__).parent / "installed"))
    main()
