"""What a run leaves: the DataTree, and files that survive a kill."""
