"""Training one network: pure PyTorch, which never learns that it is being tuned."""
