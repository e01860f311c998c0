"""Six minutes each for hwtune and for four other tuners, on the same space and train function."""
