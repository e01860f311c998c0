"""The honest last step: retrain the best, open the test set once, keep the model."""
