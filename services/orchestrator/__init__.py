"""The orchestrator: takes clients' frames, chooses where each stage runs, streams boxes back."""
