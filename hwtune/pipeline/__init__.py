"""Search, then retrain, then report: the one place where the three are joined."""
