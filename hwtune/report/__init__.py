"""The page for people, made from a study's files alone."""
