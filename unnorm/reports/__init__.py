"""`un.report`: one page of results for the user's own model."""
