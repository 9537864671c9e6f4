"""Which node pair serves, and why; pure functions of the estimates and of the policy."""
