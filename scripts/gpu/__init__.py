"""What `scripts/gpu_check.sh` runs; see docs/gpu/ for what it found."""
