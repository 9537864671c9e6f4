"""What happens before the cameras: objects appear, change and leave; for doors that tell it."""
