"""Known answers that several tests compare with: closed forms, sums over all noise, plain backward calls."""
