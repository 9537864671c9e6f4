"""`python -m tests.faulty.transformer`: the transformer service with the engine `faulty`."""

from common.engines.registry import ENGINE_MODULES
from services.transformer.__main__ import main

if __name__ == "__main__":
    ENGINE_MODULES["faulty"] = "tests.faulty.engine"
    main()
