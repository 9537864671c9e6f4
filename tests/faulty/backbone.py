"""`python -m tests.faulty.backbone`: the backbone service with the engine `faulty`."""

from common.engines.registry import ENGINE_MODULES
from services.backbone.__main__ import main

if __name__ == "__main__":
    ENGINE_MODULES["faulty"] = "tests.faulty.engine"
    main()
