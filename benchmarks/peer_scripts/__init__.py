"""What each peer runs in its own environment: `SCRIPT JSON` prints `{"rows": …, "seconds": …}` after imports."""
