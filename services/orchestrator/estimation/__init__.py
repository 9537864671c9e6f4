"""What is known of stages, links and node pairs, from the timings of the answers; pure."""
