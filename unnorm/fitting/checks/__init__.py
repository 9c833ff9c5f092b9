"""Whether data and density meet the conditions of an objective."""
