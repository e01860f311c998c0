"""Pages for people, made from studies' files, and pictures from the data that was tested."""
